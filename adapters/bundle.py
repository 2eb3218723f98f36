"""The file that an auditor takes away: a zip with a manifest that names each file's digest, and a signature over it.

What is read here may come from anybody: nothing is ever unpacked to disk, and every size has a limit.
"""

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from adapters.signing import AuditKeyInvalid, PublicKey, SigningKey, digest_of
from domain.calendar import Moment
from domain.case import CaseId, Value
from domain.errors import DomainError
from domain.verify import Check, DigestName, Finding, Verdict

FORMAT: Literal["shaodao-audit-1"] = "shaodao-audit-1"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"

_NAME = re.compile(r"[a-z][a-z0-9_.-]{0,120}", re.IGNORECASE)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MOST_FILES = 1000
_MOST_BYTES = 256 * 1024 * 1024
_PIECE = 1024 * 1024


class BundleInvalid(DomainError):
    """The file is no audit bundle, or one that must not be read."""


class FileDigest(Value):
    """One file of a bundle."""

    size: Annotated[int, Field(ge=0)]
    digest: str


class Manifest(Value):
    """What a bundle says of itself; this text is what is signed.

    Attributes:
        exported_at: when history and ledger were read.
        over: whether the case had ended; an open case's bundle is its history so far.
        sequence, head: of the newest ledger entry.
        software: version that wrote the bundle: sentences may be worded differently by others.
        gap: why the history is not whole, in Chinese; empty when it is.
        files: every other file, with size and digest.
    """

    format: Literal["shaodao-audit-1"] = FORMAT
    case_id: CaseId
    district: str
    exported_at: Moment
    over: bool
    sequence: int
    head: str
    software: str
    gap: str = ""
    digest: DigestName
    key_id: str
    public_key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    files: dict[str, FileDigest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A bundle as it was read.

    Attributes:
        signed: the manifest's exact bytes.
        files: every file but manifest and signature.
    """

    manifest: Manifest
    signed: bytes
    signature: bytes
    files: Mapping[str, bytes]


def seal(
    files: Mapping[str, bytes],
    key: SigningKey,
    *,
    case_id: CaseId,
    district: str,
    exported_at: Moment,
    over: bool,
    sequence: int,
    head: str,
    software: str,
    gap: str = "",
    digest: DigestName = DigestName.SHA256,
) -> bytes:
    """Return the bundle: the same content gives the same manifest and signature."""
    manifest = Manifest(
        case_id=case_id,
        district=district,
        exported_at=exported_at,
        over=over,
        sequence=sequence,
        head=head,
        software=software,
        gap=gap,
        digest=digest,
        key_id=key.public.id,
        public_key=key.public.raw.hex(),
        files={
            name: FileDigest(size=len(content), digest=digest_of(digest, content))
            for name, content in sorted(files.items())
        },
    )
    text = json.dumps(manifest.model_dump(mode="json"), ensure_ascii=False, sort_keys=True, indent=1).encode()
    return pack({MANIFEST: text, SIGNATURE: f"{key.sign(text).hex()}\n".encode(), **files})


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of these files: the manifest first, then by name, without the machine's times and rights."""
    buffer = io.BytesIO()
    first = [name for name in (MANIFEST, SIGNATURE) if name in files]
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in [*first, *sorted(files.keys() - {MANIFEST, SIGNATURE})]:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[name])
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    """Return the files of a zip that may be hostile.

    Raises:
        BundleInvalid: `bundle_invalid`: no zip, damaged, encrypted, too large, with names that no bundle has, or with
            anything beside the zip.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = _read(archive)
            if _length(content, archive) != len(content):
                raise BundleInvalid(
                    "bundle_invalid", "审计包的 ZIP 之前、之后或其中另有内容,不是原样的审计包。"
                )
            return files
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        OSError,
    ):
        raise BundleInvalid("bundle_invalid", "不是完好的审计包(ZIP 文件损坏或无法读取)。") from None


def _length(content: bytes, archive: zipfile.ZipFile) -> int:
    """Return how long a zip of just these members is: whatever else a reader of zips would skip makes it longer.

    Comments of a bundle's members and fields that other programs add to them count as theirs.
    """
    place = directory = 0
    for info in sorted(archive.infolist(), key=lambda each: each.header_offset):
        if info.header_offset != place:
            return -1
        name, extra = struct.unpack_from("<HH", content, place + _NAME_LENGTH)
        place += _LOCAL + name + extra + info.compress_size
        if info.flag_bits & _DESCRIBED_AFTER:
            place += 16 if content[place : place + 4] == b"PK\x07\x08" else 12
        directory += _CENTRAL + name + len(info.extra) + len(info.comment)
    return place + directory + _END


# Sizes of a zip's headers (PKWARE APPNOTE 6.3, 4.3.7, 4.3.12, 4.3.16), and the flag of a descriptor after the data.
_LOCAL, _NAME_LENGTH, _CENTRAL, _END = 30, 26, 46, 22
_DESCRIBED_AFTER = 0x08


def _read(archive: zipfile.ZipFile) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    room = _MOST_BYTES
    if len(archive.infolist()) > _MOST_FILES:
        raise BundleInvalid("bundle_invalid", f"审计包内文件过多(上限 {_MOST_FILES} 个)。")
    for info in archive.infolist():
        if not _NAME.fullmatch(info.filename) or info.filename in files:
            raise BundleInvalid("bundle_invalid", f"审计包内文件名无效或重复:{info.filename!r}。")
        pieces = []
        with archive.open(info) as file:  # the sizes that a zip states of itself are not believed
            while piece := file.read(min(_PIECE, room + 1)):
                room -= len(piece)
                if room < 0:
                    raise BundleInvalid("bundle_invalid", f"审计包解压后超过上限({_MOST_BYTES} 字节)。")
                pieces.append(piece)
        files[info.filename] = b"".join(pieces)
    return files


def open_bundle(content: bytes) -> Opened:
    """Read a bundle.

    Raises:
        BundleInvalid: `bundle_invalid`; see `unpack`, or without a manifest that can be read.
    """
    files = unpack(content)
    signed, signature = files.pop(MANIFEST, None), files.pop(SIGNATURE, None)
    if signed is None:
        raise BundleInvalid("bundle_invalid", f"审计包中没有 {MANIFEST}。")
    try:
        manifest = Manifest.model_validate_json(signed)
    except ValidationError:
        raise BundleInvalid("bundle_invalid", f"{MANIFEST} 无法读取。") from None
    try:
        raw = bytes.fromhex((signature or b"").decode("ascii").strip())
    except ValueError:
        raw = b""
    return Opened(manifest=manifest, signed=signed, signature=raw, files=files)


def check_signature(bundle: Opened, trusted: PublicKey | None, *, whose: str = "指定公钥") -> Verdict:
    """Say whether the manifest is signed, and by whom.

    Args:
        trusted: the key that it must be signed with. Without one nothing is proven: anybody can make a bundle and
            sign it with a key of their own, which the bundle then names.
        whose: Chinese; what the trusted key is called where another was used.
    """

    def found(code: str, detail: str, *, proven: bool = True) -> Verdict:
        place = Finding(check=Check.SIGNATURE, code=code, table=SIGNATURE, detail=detail, proven=proven)
        return Verdict(check=Check.SIGNATURE, findings=(place,))

    manifest = bundle.manifest
    try:
        named = PublicKey(bytes.fromhex(manifest.public_key))
    except AuditKeyInvalid:
        return found("key_invalid", "清单所载公钥无效。")
    if trusted is not None and trusted.raw != named.raw:
        detail = (
            f"不是{whose}({trusted.id})签的,而是 {named.id};出自其他安装的,请用 --public-key 指定其公钥。"
        )
        return found("other_key", detail)
    if not named.is_signed(bundle.signed, bundle.signature):
        return found("signature_bad", f"签名与 {MANIFEST} 不符:清单或签名被改动。")
    if named.id != manifest.key_id:
        return found("key_id_differs", "清单所载公钥编号与公钥不符。")
    if trusted is None:
        detail = (
            f"签名自洽,但未与可信公钥核对,任何人都能这样签;请用 --public-key 指定。"
            f"包内公钥的指纹(SHA-256)为 {named.fingerprint}。"
        )
        return found("key_not_trusted", detail, proven=False)
    return Verdict(check=Check.SIGNATURE, note=f"{whose} {named.id}")


def check_files(bundle: Opened) -> Verdict:
    """Say whether the files are those that the manifest names."""

    def found(code: str, name: str, detail: str) -> Finding:
        return Finding(check=Check.FILES, code=code, table=name, detail=detail)

    findings = []
    named = bundle.manifest.files
    for name, said in named.items():
        content = bundle.files.get(name)
        if content is None:
            findings.append(found("file_missing", name, "清单所列文件不在包内。"))
        elif len(content) != said.size or digest_of(bundle.manifest.digest, content) != said.digest:
            findings.append(found("file_changed", name, "文件内容与清单所载摘要不符。"))
    findings += [
        found("file_added", name, "清单未列此文件。") for name in sorted(bundle.files.keys() - named.keys())
    ]
    note = f"{len(named)} 个文件,{bundle.manifest.digest.value.upper()}"
    return Verdict(check=Check.FILES, findings=tuple(findings), note=note)

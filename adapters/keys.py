"""Keys for payloads: how they are written down, which one encrypts, and the ciphers behind one port.

One key a line (or between semicolons), four fields between blanks; `#` begins a comment:

    # id              algorithm    key                                          use
    k20261124-3f9a1c  aes-256-gcm  jIB0bEv9e0B0yW3yqJx1dQYb4nq6o0b5m1xYc0m3h2g  default
    k20261124-77ab02  sm4-gcm      Yp1m3s3c0m9Z6r1o2Qw8dA                       yicheng
    k20251101-a04d55  aes-256-gcm  pQ8w1c2v3b4n5m6k7j8h9g0fEdDsSaAzZxXcCvVbBnN  old

`use` is `default`, `old` (decrypts only), or the codes of districts between commas. Exactly one key is the default.
The key is URL-safe base64 without padding: 32 bytes for AES-256-GCM, 16 for SM4-GCM.
"""

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from adapters.settings import KeySettings, SettingsInvalid

DEFAULT, OLD = "default", "old"
AES_256_GCM, SM4_GCM = "aes-256-gcm", "sm4-gcm"
USE_SHOULD_BE = f"用途应为 {DEFAULT}、{OLD} 或区(市)代码(小写字母、数字和 _ -,多个用逗号分隔)"
LENGTHS = {AES_256_GCM: 32, SM4_GCM: 16}
"""Bytes of a key, by algorithm."""

_NONCE = 12
_TAG = 16
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_USE = re.compile(r"[a-z0-9_-]+(,[a-z0-9_-]+)*")


class Altered(Exception):
    """What was encrypted is not what is decrypted now, or it was encrypted for something else."""


class PayloadKey(Protocol):
    """One key and its cipher. A certified module that never gives its keys away can stand behind this."""

    @property
    def id(self) -> str:
        """Name of the key; it stands readable beside everything that the key encrypts."""
        ...

    @property
    def algorithm(self) -> str:
        """Name of the cipher, for people."""
        ...

    async def encrypt(self, plain: bytes, bound: bytes) -> bytes:
        """Return nonce, ciphertext and tag as one; the tag also covers `bound`, which is not in the result."""
        ...

    async def decrypt(self, sealed: bytes, bound: bytes) -> bytes:
        """Return what was encrypted.

        Raises:
            Altered: the tag does not fit.
        """
        ...


class KeyRing(Protocol):
    """Which key to use."""

    def to_encrypt(self, district: str | None) -> PayloadKey:
        """Return the district's current key, or else the installation's."""
        ...

    def to_decrypt(self, key_id: str) -> PayloadKey | None:
        """Return the key of that name, current or old; None when it is not here."""
        ...


class AesGcm:
    """AES-256-GCM (NIST SP 800-38D) with random nonces: one key is good for 2³² payloads."""

    algorithm = AES_256_GCM

    def __init__(self, key_id: str, key: bytes) -> None:
        self.id = key_id
        self._cipher = AESGCM(key)

    async def encrypt(self, plain: bytes, bound: bytes) -> bytes:
        """See `PayloadKey`."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, plain, bound)

    async def decrypt(self, sealed: bytes, bound: bytes) -> bytes:
        """See `PayloadKey`."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], bound)
        except (InvalidTag, ValueError):
            raise Altered from None


class Sm4Gcm:
    """SM4-GCM (GB/T 32907, RFC 8998), laid out as AES-GCM is: nonce, ciphertext, tag."""

    algorithm = SM4_GCM

    def __init__(self, key_id: str, key: bytes) -> None:
        self.id = key_id
        self._cipher = algorithms.SM4(key)

    async def encrypt(self, plain: bytes, bound: bytes) -> bytes:
        """See `PayloadKey`."""
        nonce = os.urandom(_NONCE)
        encryptor = Cipher(self._cipher, modes.GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(bound)
        return nonce + encryptor.update(plain) + encryptor.finalize() + encryptor.tag

    async def decrypt(self, sealed: bytes, bound: bytes) -> bytes:
        """See `PayloadKey`."""
        try:
            mode = modes.GCM(sealed[:_NONCE], sealed[-_TAG:])
            decryptor = Cipher(self._cipher, mode).decryptor()
            decryptor.authenticate_additional_data(bound)
            return decryptor.update(sealed[_NONCE:-_TAG]) + decryptor.finalize()
        except (InvalidTag, ValueError):
            raise Altered from None


_CIPHERS: Mapping[str, type[AesGcm | Sm4Gcm]] = {AES_256_GCM: AesGcm, SM4_GCM: Sm4Gcm}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLine:
    """One key as it is written down, without the key itself.

    Attributes:
        uses: `default`, `old`, or codes of districts.
        check: to compare two installations' keys by telephone; says nothing about the key.
    """

    id: str
    algorithm: str
    uses: tuple[str, ...]
    check: str


class Keys:
    """A key ring read from text.

    Raises:
        SettingsInvalid: naming everything that is wrong, and never a key.
    """

    def __init__(self, text: str) -> None:
        self.lines: list[KeyLine] = []
        self._by_id: dict[str, PayloadKey] = {}
        self._current: dict[str, PayloadKey] = {}
        problems = [problem for number, line in _lines(text) for problem in self._take(number, line)]
        if not problems and DEFAULT not in self._current:
            problems = [f"没有用途为 {DEFAULT} 的密钥"]
        if problems:
            raise _invalid(";".join(problems))

    def to_encrypt(self, district: str | None) -> PayloadKey:
        """See `KeyRing`."""
        return self._current.get(district or DEFAULT) or self._current[DEFAULT]

    def to_decrypt(self, key_id: str) -> PayloadKey | None:
        """See `KeyRing`."""
        return self._by_id.get(key_id)

    def _take(self, number: int, line: str) -> Iterable[str]:
        fields = line.split()
        if len(fields) != 4:
            return [f"第 {number} 条应有四项(编号 算法 密钥 用途),现有 {len(fields)} 项"]
        key_id, algorithm, written, use = fields
        key = _decoded(written)
        wrong = []
        if not _ID.fullmatch(key_id):
            wrong.append(f"第 {number} 条的编号只能用字母、数字和 . _ -,至多 64 个")
        if key_id in self._by_id:
            wrong.append(f"编号“{key_id}”重复")
        if algorithm not in LENGTHS:
            wrong.append(f"第 {number} 条的算法应为 {'、'.join(LENGTHS)}")
        elif key is None or len(key) != LENGTHS[algorithm]:
            wrong.append(f"第 {number} 条的密钥应为 {LENGTHS[algorithm]} 字节的 base64")
        uses = tuple(use.split(","))
        if not is_use(use):
            wrong.append(f"第 {number} 条的{USE_SHOULD_BE}")
        wrong += [f"用途“{each}”已有另一个现用密钥" for each in uses if each in self._current]
        if not wrong and key is not None:
            made = self._by_id[key_id] = _CIPHERS[algorithm](key_id, key)
            self._current.update({each: made for each in uses if each != OLD})
            self.lines.append(KeyLine(id=key_id, algorithm=algorithm, uses=uses, check=_check(key)))
        return wrong


def is_use(use: str) -> bool:
    """Whether a key may be for this: `default`, `old`, or codes of districts."""
    return bool(_USE.fullmatch(use)) and ("," not in use or not {DEFAULT, OLD} & set(use.split(",")))


def new_line(algorithm: str, use: str, made_on: date) -> str:
    """Return a fresh key as a line to write down."""
    key = base64.urlsafe_b64encode(os.urandom(LENGTHS[algorithm])).decode().rstrip("=")
    return f"k{made_on:%Y%m%d}-{os.urandom(3).hex()} {algorithm} {key} {use}"


def keys_of(settings: KeySettings) -> Keys | None:
    """Return the configured keys; None when encryption is off and there are none to decrypt with either.

    Raises:
        SettingsInvalid: none are configured although nobody switched encryption off, or they cannot be read.
    """
    if settings.payload_keys is not None and settings.payload_keys_file is not None:
        raise _invalid("SHAODAO_PAYLOAD_KEYS 与 SHAODAO_PAYLOAD_KEYS_FILE 只能设置一个")
    if settings.payload_keys is not None:
        return Keys(settings.payload_keys.get_secret_value())
    if settings.payload_keys_file is not None:
        return Keys(_read(settings.payload_keys_file))
    if settings.payload_encryption == "off":
        return None
    raise SettingsInvalid(
        "settings_invalid",
        "未配置载荷密钥:请执行 shaodao keys new 生成密钥,保存为文件,并以 SHAODAO_PAYLOAD_KEYS_FILE 指明;"
        "确需以明文运行的,须明确设置 SHAODAO_PAYLOAD_ENCRYPTION=off。",
    )


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise _invalid(f"无法读取文件 {file}") from None


def _lines(text: str) -> list[tuple[int, str]]:
    bare = [line.partition("#")[0].strip() for row in text.splitlines() for line in row.split(";")]
    return list(enumerate(filter(None, bare), 1))


def _decoded(written: str) -> bytes | None:
    try:
        return base64.b64decode(written + "=" * (-len(written) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def _check(key: bytes) -> str:
    return hashlib.sha256(b"shaodao payload key check\n" + key).hexdigest()[:8]


def _invalid(what: str) -> SettingsInvalid:
    return SettingsInvalid("settings_invalid", f"载荷密钥有误:{what}。格式见 docs/security.md。")

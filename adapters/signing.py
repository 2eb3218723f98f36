"""Keys that sign what auditors take away, and the digests in it: Ed25519 (RFC 8032), SHA-256 or SM3 (GB/T 32905)."""

import hashlib
import os
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from domain.errors import DomainError
from domain.verify import DigestName

KEY_FILE = "audit.key"
"""Name of the key in an embedded stack's data folder."""


class AuditKeyInvalid(DomainError):
    """The audit key is missing, unreadable or of another kind."""


def digest_of(name: DigestName, content: bytes) -> str:
    """Return the digest in lower-case hexadecimal."""
    if name is DigestName.SHA256:
        return hashlib.sha256(content).hexdigest()
    sm3 = hashes.Hash(hashes.SM3())  # the standard library has it only where OpenSSL was built so
    sm3.update(content)
    return sm3.finalize().hex()


class PublicKey:
    """What checks signatures.

    Attributes:
        id: the first 16 hexadecimal digits of the SHA-256 of the raw key.
        fingerprint: all 64 of them in groups of eight, to be read out and compared.
    """

    def __init__(self, raw: bytes) -> None:
        try:
            self._key = Ed25519PublicKey.from_public_bytes(raw)
        except ValueError:
            raise AuditKeyInvalid("audit_key_invalid", "公钥无效:须为 Ed25519 公钥。") from None
        self.raw = raw
        digits = hashlib.sha256(raw).hexdigest()
        self.id = digits[:16]
        self.fingerprint = " ".join(digits[place : place + 8] for place in range(0, len(digits), 8))

    @classmethod
    def from_pem(cls, pem: bytes) -> "PublicKey":
        """Read a PEM file.

        Raises:
            AuditKeyInvalid: it is none, or of another kind.
        """
        try:
            key = serialization.load_pem_public_key(pem)
        except ValueError:
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise AuditKeyInvalid("audit_key_invalid", "公钥文件无效:须为 PEM 格式的 Ed25519 公钥。")
        return cls(key.public_bytes_raw())

    def pem(self) -> str:
        """Return it as a PEM file."""
        encoding, form = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_bytes(encoding, form).decode()

    def is_signed(self, content: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's over the content."""
        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


class SigningKey:
    """What makes signatures; `public` is what checks them."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def new(cls) -> "SigningKey":
        """Make a key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def load(cls, named: str) -> "SigningKey":
        """Read the key of the setting: a path to a PEM file, or its text.

        Raises:
            AuditKeyInvalid: it cannot be read, or is of another kind.
        """
        try:
            pem = named.encode() if "-----BEGIN" in named else Path(named).read_bytes()
            key = serialization.load_pem_private_key(pem, None)
        except (OSError, ValueError, TypeError):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            detail = "SHAODAO_AUDIT_KEY 须为 Ed25519 私钥(PEM,未加密)或其文件路径;可用 shaodao audit key --new 文件 生成。"
            raise AuditKeyInvalid("audit_key_invalid", detail)
        return cls(key)

    def sign(self, content: bytes) -> bytes:
        """Return the signature over the content."""
        return self._key.sign(content)

    def write_new(self, path: Path) -> None:
        """Write the key to a file of its own that only its owner can read.

        Raises:
            FileExistsError: there is one; a key is never overwritten.
        """
        form = serialization.PrivateFormat.PKCS8
        pem = self._key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)


def key_in(folder: Path) -> Path:
    """Return the key file of a data folder; made once."""
    path = folder / KEY_FILE
    if not path.exists():
        SigningKey.new().write_new(path)
    return path

"""Codes that the database alone cannot make: an HMAC under a key that is derived from the installation's secret."""

import hmac
import re
from enum import StrEnum, auto

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_CODE = re.compile("[0-9a-f]{8}:[0-9a-f]{64}")


class Binding(StrEnum):
    """What a code says of a text: ours; nobody's of us, or of another text; or made under another secret."""

    BOUND = auto()
    UNBOUND = auto()
    OTHER_KEY = auto()


class Seal:
    """Makes and checks codes: HMAC-SHA256, with a key for each purpose that HKDF-SHA256 derives.

    A code is `key id:HMAC`, both in lower-case hexadecimal. The key id tells another secret from a forgery.

    Args:
        secret: the installation's (`SHAODAO_SECRET`): the one secret that every API and every worker has. Who has it
            can issue tokens in anybody's name as it is, so that what rests on it trusts nobody new.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._id = self._derived("key id", 4).hex()
        self._keys: dict[str, bytes] = {}

    def code(self, purpose: str, text: str) -> str:
        """Return the code of a text."""
        if purpose not in self._keys:
            self._keys[purpose] = self._derived(f"{purpose}, HMAC-SHA256", 32)
        return f"{self._id}:{hmac.digest(self._keys[purpose], text.encode(), 'sha256').hex()}"

    def binding(self, purpose: str, text: str, said: str | None) -> Binding:
        """Return what a code says of a text."""
        said = said or ""
        if hmac.compare_digest(said.encode(errors="replace"), self.code(purpose, text).encode()):
            return Binding.BOUND
        is_other = _CODE.fullmatch(said) is not None and not said.startswith(f"{self._id}:")
        return Binding.OTHER_KEY if is_other else Binding.UNBOUND

    def _derived(self, purpose: str, length: int) -> bytes:
        info = f"shaodao: {purpose}".encode()
        return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info).derive(self._secret)

"""Payloads are encrypted before they reach Temporal, and decrypted when they come back.

What Temporal keeps of a payload:

    encoding      binary/encrypted
    key-id        which key decrypts it; rotation needs nothing else
    algorithm     aes-256-gcm or sm4-gcm, for people
    workflow-id   whose payload it is, where that is known; readable in Temporal anyway
    data          nonce ‖ ciphertext ‖ tag, of the whole payload that it was, encoding included

The tag covers the three readable fields, so that a payload cannot be moved into another case, where it would be the
authenticated act of somebody on a case that they never saw.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self, cast

from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticPayloadConverter, pydantic_data_converter
from temporalio.converter import (
    DataConverter,
    DefaultFailureConverterWithEncodedAttributes,
    PayloadCodec,
    SerializationContext,
    WithSerializationContext,
)

from adapters.keys import Altered, KeyRing, keys_of
from adapters.settings import Settings

ENCODING = b"binary/encrypted"
_VERSION = b"shaodao payload 1"
_MISSING = re.compile(r"(?:PayloadUnreadable: )?payload_key_missing: 缺少编号为“(.*?)”")
_STARTED_BY_SCHEDULE = re.compile(r"-\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_DISTRICT = re.compile(r"[^/]+/(.+?)(?:-\d{8}-[0-9a-z]+|-\d{4}-\d\d-\d\dT.*)?(?:/.*)?")


class PayloadUnreadable(Exception):
    """A payload cannot be decrypted. Nothing is lost: with the right key it can.

    Not a `DomainError`: those fail a workflow for good, or refuse somebody's act. This fails a workflow *task*, which
    is tried again until the key is there.

    Attributes:
        code: `payload_key_missing` or `payload_altered`.
        detail: one Chinese sentence.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class EncryptingCodec(PayloadCodec, WithSerializationContext):
    """Encrypts with the current key of the workflow's district, decrypts with whichever key a payload names.

    Nothing hops to another thread: a payload costs microseconds, a hop costs more.

    Args:
        encrypts: False only decrypts, for an installation that has switched encryption off.
        workflow_id: whose payloads these are; the SDK says so through `with_context`.
    """

    def __init__(self, keys: KeyRing, *, encrypts: bool = True, workflow_id: str = "") -> None:
        self._keys = keys
        self._encrypts = encrypts
        self._workflow_id = workflow_id

    def with_context(self, context: SerializationContext) -> "EncryptingCodec":
        """Return the codec for the workflow of this context."""
        workflow_id = _workflow_of(context)
        if workflow_id == self._workflow_id:
            return self
        return EncryptingCodec(self._keys, encrypts=self._encrypts, workflow_id=workflow_id)

    def holds(self, key_id: str) -> bool:
        """Whether payloads of this key can be decrypted."""
        return self._keys.to_decrypt(key_id) is not None

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Encrypt."""
        if not self._encrypts:
            return list(payloads)
        key = self._keys.to_encrypt(district_of(self._workflow_id))
        key_id, algorithm, workflow_id = key.id.encode(), key.algorithm.encode(), self._workflow_id.encode()
        metadata = {"encoding": ENCODING, "key-id": key_id, "algorithm": algorithm}
        if workflow_id:
            metadata["workflow-id"] = workflow_id
        bound = _bound(key_id, algorithm, workflow_id)
        return [
            Payload(metadata=metadata, data=await key.encrypt(payload.SerializeToString(), bound))
            for payload in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        """Decrypt what is encrypted, and hand on what was stored before encryption began.

        Raises:
            PayloadUnreadable: see there.
        """
        return [await self._open(payload) if is_encrypted(payload) else payload for payload in payloads]

    async def _open(self, payload: Payload) -> Payload:
        fields = payload.metadata
        key_id, algorithm, workflow_id = (
            fields.get(name, b"") for name in ("key-id", "algorithm", "workflow-id")
        )
        key = self._keys.to_decrypt(key_id.decode("utf-8", "replace"))
        if key is None:
            raise PayloadUnreadable(
                "payload_key_missing",
                f"缺少编号为“{key_id.decode('utf-8', 'replace')}”的载荷密钥;请把该密钥(用途 old)加入密钥文件并重启,"
                "案件不会丢失,密钥到位后自动继续。",
            )
        if not self._is_ours(workflow_id.decode("utf-8", "replace")):
            raise _altered()
        try:
            plain = await key.decrypt(payload.data, _bound(key_id, algorithm, workflow_id))
        except Altered:
            raise _altered() from None
        return Payload.FromString(plain)

    def _is_ours(self, workflow_id: str) -> bool:
        """Whether a payload belongs here.

        What a schedule starts holds payloads of the schedule itself, and the result of the run before it: their ids
        differ by the moment at their end only.
        """
        own = self._workflow_id
        return not own or not workflow_id or own == workflow_id or _series(own) == _series(workflow_id)


def missing_key(told: str) -> str | None:
    """Return which key the text of a failure says is missing; None when it says something else."""
    found = _MISSING.match(told)
    return found[1] if found else None


def _workflow_of(context: SerializationContext) -> str:
    return str(getattr(context, "workflow_id", None) or "")


_CONVERTERS_KEPT = 2_000


def _altered() -> PayloadUnreadable:
    return PayloadUnreadable(
        "payload_altered", "载荷与其校验值不符,或属于另一个案件:可能被篡改或移动过,请立即报告审计人员。"
    )


def is_encrypted(payload: Payload) -> bool:
    """Whether it is one of ours."""
    return "encoding" in payload.metadata and payload.metadata["encoding"] == ENCODING


@lru_cache(maxsize=4096)
def district_of(workflow_id: str) -> str | None:
    """Return the code that the workflow's id names: `case/<district>-<date>-<letters>`, `notices/<district>`.

    It may be the code of no district at all; whoever asks looks it up.
    """
    found = _DISTRICT.fullmatch(workflow_id)
    return found[1] if found else None


@lru_cache(maxsize=4096)
def _series(workflow_id: str) -> str:
    """Return what all workflows that one schedule starts have in common in their ids; else the id as it is."""
    found = _STARTED_BY_SCHEDULE.search(workflow_id)
    return workflow_id[: found.start()] if found and found.end() == len(workflow_id) else workflow_id


@lru_cache(maxsize=4096)
def _bound(key_id: bytes, algorithm: bytes, workflow_id: bytes) -> bytes:
    return b"\0".join((_VERSION, key_id, algorithm, workflow_id))


def data_converter(settings: Settings) -> DataConverter:
    """Return the data converter of the installation: pydantic models, encrypted unless that is switched off.

    Raises:
        SettingsInvalid: no keys, and encryption was not switched off; or the keys are wrong.
    """
    keys = keys_of(settings)
    if keys is None:
        return DataConverter(payload_converter_class=OnePydanticConverter)
    return encrypting(keys, encrypts=settings.payload_encryption == "on")


@dataclass(frozen=True)
class EncryptingConverter(DataConverter):
    """A data converter that takes a workflow's context cheaply.

    The SDK gives context some 270 times a case, and its own copies make every payload converter anew each time: more
    than all encryption costs. Only the codec looks at the context here.
    """

    def with_context(self, context: SerializationContext) -> Self:
        """Return the converter for this context."""
        if self.external_storage is not None:
            return super().with_context(context)
        workflow_id = _workflow_of(context)
        known: dict[str, Self] = self.__dict__.setdefault("_known", {})  # every copy has the same one
        found = known.get(workflow_id)
        if found is None:
            found = object.__new__(type(self))
            codec = cast("EncryptingCodec", self.payload_codec).with_context(context)
            found.__dict__.update(self.__dict__, payload_codec=codec)
            if len(known) >= _CONVERTERS_KEPT:
                known.clear()
            known[workflow_id] = found
        return found


_ONE = PydanticPayloadConverter()


class OnePydanticConverter(PydanticPayloadConverter):
    """The same converter for whoever asks: the SDK asks for a new one at every message, and this one keeps nothing."""

    def __new__(cls) -> PydanticPayloadConverter:  # type: ignore[misc]
        """Return the one that there is."""
        return _ONE


def encrypting(keys: KeyRing, *, encrypts: bool = True) -> DataConverter:
    """Return a data converter over these keys; messages and traces of failures are encrypted as well."""
    return EncryptingConverter(
        payload_converter_class=OnePydanticConverter,
        payload_codec=EncryptingCodec(keys, encrypts=encrypts),
        failure_converter_class=(
            DefaultFailureConverterWithEncodedAttributes
            if encrypts
            else pydantic_data_converter.failure_converter_class
        ),
    )

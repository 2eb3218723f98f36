"""The hash chain: each entry binds the one before, so that no row can change, go or move unnoticed.

SHA-256 over canonical JSON: keys sorted, no white space, UTF-8, times in UTC, no floating-point numbers.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime

from domain.case import Actor, CaseId
from domain.errors import LedgerConflict
from domain.events import Entry, Event

GENESIS = "0" * 64
"""What the first entry of a case names as its previous hash."""


def canonical(entry: Entry) -> str:
    """Return the entry as the one JSON text that its hash is taken over and that the ledger stores.

    What has its default value is left out: an event that gains a field with a default later keeps the hashes of all
    entries from before, in ledgers and in cases that run. A default must therefore never change.
    """
    content = entry.model_dump(mode="json", exclude={"hash"}, exclude_defaults=True)
    content["event"]["kind"] = entry.event.kind  # the discriminator is a default, too
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(text: str) -> str:
    """Return the SHA-256 of a canonical text, in lower-case hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def chain(
    case_id: CaseId,
    events: Iterable[Event],
    *,
    after: Entry | None,
    at: datetime,
    by: Actor | None,
    key: str = "",
) -> list[Entry]:
    """Number the events, bind each to the one before, and return them as entries.

    Events of the clock itself (`by` is None) and of one act may stand in one call; the caller separates them.
    """
    entries: list[Entry] = []
    for event in events:
        entry = Entry(
            case_id=case_id,
            sequence=after.sequence + 1 if after else 1,
            at=at,
            by=by,
            key=key,
            event=event,
            previous=after.hash if after else GENESIS,
        )
        after = entry.model_copy(update={"hash": digest(canonical(entry))})
        entries.append(after)
    return entries


def check_chain(entries: Sequence[Entry], *, first: int = 1, previous: str = GENESIS) -> None:
    """Say nothing if the entries are one whole chain: from the first, or from this place on this hash.

    Raises:
        LedgerConflict: `broken_chain`, naming the sequence number of the first entry that does not follow.
    """
    for sequence, entry in enumerate(entries, start=first):
        follows = entry.sequence == sequence and entry.previous == previous
        if not follows or entry.hash != digest(canonical(entry)):
            raise LedgerConflict(
                "broken_chain", f"第 {sequence} 条台账记录与哈希链不符,请立即停止使用并报告审计人员。"
            )
        previous = entry.hash

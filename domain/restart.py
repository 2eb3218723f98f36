"""A case whose workflow is gone goes on from its ledger: the same state, the same clocks, the same chain."""

from collections.abc import Iterable, Mapping, Sequence

from domain import audit
from domain.case import CaseState
from domain.errors import LedgerConflict
from domain.events import Entry
from domain.lifecycle import evolve, terms_after
from domain.ports import LATEST_SHOWN, Carried, CaseStart, KnownHead, Receipt

_RECEIPTS = 200


def require_extends(start: CaseStart, entries: Sequence[Entry], known: Iterable[KnownHead]) -> None:
    """Say nothing if the ledger begins with what was taken, and goes on from every head that is known of it.

    A ledger may be whole and rewritten all the same: every hash made anew by somebody who owns the database.

    Args:
        entries: the whole ledger of the case.
        known: what anchors, archive and the last run's history hold.

    Raises:
        LedgerConflict: `ledger_rewritten`: nothing may be built on it.
    """
    held = {entry.sequence: entry.hash for entry in entries}
    taken = KnownHead(source="受理记录", sequence=start.opened.sequence, hash=start.opened.hash)
    for head in (taken, *known):
        stands = held.get(head.sequence)
        if stands == head.hash:
            continue
        told = "没有这一条" if stands is None else f"哈希为 {stands[:12]}…"
        raise LedgerConflict(
            "ledger_rewritten",
            f"台账与{head.source}不符:其时第 {head.sequence} 条的哈希为 {head.hash[:12]}…,台账中{told}。"
            "请立即报告审计人员。",
        )


def from_ledger(start: CaseStart, entries: Sequence[Entry], digests: Mapping[str, str]) -> CaseStart:
    """Return what the case's workflow goes on with, as if it had continued as a new run.

    For a case whose run is gone, and for one that had ended and is taken up again.

    Args:
        start: as the intake has it.
        entries: the whole ledger of the case, from its first entry.
        digests: what the requests said, by idempotency key, as far as it is known.

    Raises:
        LedgerConflict: `broken_chain`, when the ledger is not whole: nothing may be built on it.
    """
    audit.check_chain(entries)
    state: CaseState | None = None
    receipts: dict[str, Receipt] = {}
    terms = start.terms
    for entry in entries:
        state, terms = evolve(state, entry), terms_after(entry, terms)
        if entry.key:
            receipts[entry.key] = Receipt(
                sequence=entry.sequence,
                hash=entry.hash,
                stage=state.stage.value,
                recorded=True,
                body_digest=digests.get(entry.key, ""),
            )
    assert state is not None  # noqa: S101 - a case has at least its call
    newest = dict(list(receipts.items())[-_RECEIPTS:])
    carried = Carried(state=state, last=entries[-1], latest=tuple(entries[-LATEST_SHOWN:]), receipts=newest)
    return start.model_copy(update={"carried": carried, "terms": terms})

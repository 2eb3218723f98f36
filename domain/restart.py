"""A case whose workflow is gone goes on from its ledger: the same state, the same clocks, the same chain."""

from collections.abc import Mapping, Sequence

from domain import audit
from domain.case import CaseState
from domain.events import Entry
from domain.lifecycle import evolve, terms_after
from domain.ports import LATEST_SHOWN, Carried, CaseStart, Receipt

_RECEIPTS = 200


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

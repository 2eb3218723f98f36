"""What the mechanism needs of the world, in its own words. Adapters implement these; tests have fakes of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from domain.calendar import Moment
from domain.case import CaseId, CaseState, PersonId, Value
from domain.district import Terms
from domain.events import Entry


class CaseStart(Value):
    """What a case's workflow starts with: the first entry as the intake committed it, and the terms.

    Attributes:
        carried: only when a long case continues as a new run.
    """

    opened: Entry
    terms: Terms
    carried: "Carried | None" = None


class Carried(Value):
    """What a long case takes into its next run.

    Attributes:
        last: the newest entry: the chain goes on from it.
        latest: the newest few entries, for the operators' page.
        receipts: what was answered to the newest requests, by idempotency key.
    """

    state: CaseState
    last: Entry
    latest: tuple[Entry, ...]
    receipts: "dict[str, Receipt]"


class Receipt(Value):
    """What an act is answered with; small, for answers are history too.

    Attributes:
        sequence: of the last entry that the act caused.
        recorded: whether the ledger in SQL already holds it.
        body_digest: what the request said, to notice the same key with another body.
    """

    sequence: int
    hash: str
    stage: str
    recorded: bool
    body_digest: str = ""


class Recorded(Value):
    """The ledger's answer: how far it now reaches for the case."""

    sequence: int
    hash: str


class RecordRequest(Value):
    """Entries of one case that are to be appended, in order. The ledger knows the terms from the intake."""

    entries: tuple[Entry, ...]


class Ledger(Protocol):
    """Append-only, hash-chained copy of what happened, with its read models."""

    async def record(self, entries: Sequence[Entry]) -> Recorded:
        """Append the entries, project them and write their notices, in one transaction.

        Idempotent on (case, sequence): what already stands is compared and left alone.

        Raises:
            LedgerConflict: `ledger_conflict` when something else stands at a place (never retried),
                `ledger_gap` when entries before these are missing (retried: they are on their way).
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxNotice:
    """One notice for one person, as it leaves."""

    id: int
    case_id: CaseId
    sequence: int
    receiver: PersonId
    title: str
    text: str
    created_at: datetime
    attempts: int


class Outbox(Protocol):
    """Notices that were committed with their events and have not left yet."""

    async def unsent(self, district: str, limit: int, now: datetime) -> Sequence[OutboxNotice]:
        """Return the oldest notices that are due to be sent (again) by now."""
        ...

    async def sent(self, ids: Sequence[int], at: datetime) -> None:
        """Mark these as sent."""
        ...

    async def failed(self, notice: OutboxNotice, error: str, retry_at: datetime) -> None:
        """Count the attempt, keep the reason, and try again later."""
        ...


class NoticeSender(Protocol):
    """A way out for notices: the log, WeChat, SMS."""

    async def send(self, notice: OutboxNotice) -> None:
        """Send one notice; raise when it did not leave. May be called twice with the same id: at least once."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """Whom to ask: personal data, kept beside the case and never in a history."""

    name: str = ""
    phone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """A call as it is committed, before Temporal is asked."""

    start: CaseStart
    contact: Contact
    key: str
    body_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxNotice:
    """One notice as its receiver reads it."""

    id: int
    case_id: CaseId
    title: str
    text: str
    created_at: datetime
    read_at: datetime | None


class PendingAct(Value):
    """An act that was acknowledged while Temporal could not take it; the relay repeats it under the same update id.

    Attributes:
        act: name of the update.
        command: the command as JSON.
    """

    id: int
    case_id: CaseId
    act: str
    command: dict[str, object]
    update_id: str
    person: PersonId
    attempts: int
    accepted_at: Moment


CaseStart.model_rebuild()
Carried.model_rebuild()


class Anchored(Value):
    """An anchor that was made.

    Attributes:
        day: local date, ISO 8601.
        is_new: False when the day's anchor was there already.
        contradicted: the cases that no longer hold what was anchored before; Chinese, for operators.
    """

    district: str
    number: int
    day: str
    root: str
    chains: int
    is_new: bool
    contradicted: tuple[str, ...] = ()


class Anchors(Protocol):
    """Anchoring a district's chains; see `domain.anchor`."""

    async def anchor(self, district: str, at: datetime) -> Anchored:
        """Make the day's anchor, unless it is there, and publish it."""
        ...

"""What the mechanism needs of the world, in its own words. Adapters implement these; tests have fakes of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from domain.calendar import Moment
from domain.case import CaseId, CaseState, PersonId, Value
from domain.commands import AnyCommand
from domain.district import Terms
from domain.events import Entry

LATEST_SHOWN = 8
"""How many of the newest entries the operators' page shows, and a further run takes along."""


class CaseStart(Value):
    """What a case's workflow starts with: the first entry as the intake committed it, and the terms.

    Attributes:
        carried: only when a long case continues as a new run, or one that had ended is taken up again.
        shows_awaiting_sign: whether the run keeps the search attribute of who has still to sign; runs that began
            before there was one do not, and replay as they did.
    """

    opened: Entry
    terms: Terms
    carried: "Carried | None" = None
    shows_awaiting_sign: bool = False


class Carried(Value):
    """What a case takes into its next run.

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
    """The ledger's answer: how far it now reaches for the case.

    Attributes:
        standing: what stands at the places of the entries sent, from the first that differs on: a whole chain on the
            same entry before. Nothing was written then, and the case finds out whether these are its own decisions.
    """

    sequence: int
    hash: str
    standing: tuple[Entry, ...] = ()


class RecordRequest(Value):
    """Entries of one case that are to be appended, in order. The ledger knows the terms from the intake.

    Attributes:
        disowned: hash of the newest standing entry that the case has found not to be its own decision; empty when
            there is none. None from a case under older code, which would take what stands for its own entries.
    """

    entries: tuple[Entry, ...]
    disowned: str | None = None


class Ledger(Protocol):
    """Append-only, hash-chained copy of what happened, with its read models."""

    async def record(self, entries: Sequence[Entry]) -> Recorded:
        """Append the entries, project them and write their notices, in one transaction.

        Idempotent on (case, sequence): what already stands is compared and left alone. Where other entries stand
        that go on from the same entry as these, they are the answer: a task that was lost may have written them.

        Raises:
            LedgerConflict: `ledger_conflict` when anything else stands at a place,
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
        bound: whether a process of ours has kept exactly this; nothing else may be carried out.
        other_key: it was kept under another secret than ours, so that nothing can be said of it.
    """

    id: int
    case_id: CaseId
    act: str
    command: dict[str, object]
    update_id: str
    person: PersonId
    attempts: int
    accepted_at: Moment
    bound: bool
    other_key: bool = False


CaseStart.model_rebuild()
Carried.model_rebuild()


# --- keeping up: archive, reconciliation -----------------------------------------------------------------------


class Kept(Value):
    """One object as the archive holds it.

    Attributes:
        name: path within the archive.
        location: where it is, for people; a file or an s3:// address.
        sha256: of the bytes as they are stored.
    """

    name: str
    location: str
    sha256: str
    size: int


class Archive(Protocol):
    """Where closed cases stay: what is once written is never written over."""

    async def put(self, name: str, content: bytes) -> Kept:
        """Write, durably; the same content again changes nothing.

        Raises:
            ArchiveConflict: another content stands there.
            OSError: the archive is away.
        """
        ...

    async def get(self, name: str) -> bytes:
        """Read.

        Raises:
            FileNotFoundError: there is no such object.
            OSError: the archive is away.
        """
        ...

    async def names(self, under: str) -> Sequence[str]:
        """Return the names below a folder, sorted."""
        ...


class RunHistory(Value):
    """One closed run of a case's workflow, whole.

    Attributes:
        status: how it ended, in Temporal's words (`COMPLETED`, `CONTINUED_AS_NEW`, `TERMINATED`, …).
        continued_from: the run before it, when that one continued as this one.
        content: `temporal.api.history.v1.History` as protobuf; payloads as Temporal keeps them, encrypted or not.
    """

    run_id: str
    status: str
    started_at: Moment
    closed_at: Moment
    continued_from: str
    events: int
    content: bytes


class Execution(Value):
    """What Temporal says of a case's newest run.

    Attributes:
        stage: its search attribute.
        record_pending: the catching-up of the ledger waits or fails.
    """

    run_id: str
    status: str
    district: str
    stage: str
    record_pending: bool


class Executions(Protocol):
    """Temporal's side of the cases."""

    async def retention(self) -> timedelta:
        """Return how long the namespace keeps closed runs; raises when Temporal, or the namespace, is away."""
        ...

    async def listed_running(self) -> Sequence[CaseId]:
        """Return the cases that a list says run. Lists lag: never the truth of one case."""
        ...

    async def listed_closed_early(self) -> Sequence[tuple[CaseId, str]]:
        """Return (case, run) of the closed runs that did not complete: continued, terminated, reset."""
        ...

    async def execution(self, case_id: CaseId) -> Execution | None:
        """Return what Temporal says of the case's newest run; None when it knows none."""
        ...

    async def state(self, case_id: CaseId) -> tuple[CaseState, int] | None:
        """Ask the running workflow: the case as it has it, and how many entries the ledger lacks; None: no answer."""
        ...

    async def run_ids(self, case_id: CaseId) -> Sequence[str]:
        """Return every run of the case that Temporal still knows, oldest first."""
        ...

    async def history(self, case_id: CaseId, run_id: str) -> RunHistory | None:
        """Return a closed run, whole; None while it runs, or when Temporal has forgotten it."""
        ...

    async def accepted(self, case_id: CaseId) -> Sequence[AnyCommand]:
        """Return the acts that the case's newest run had accepted, as far as Temporal still knows it."""
        ...

    async def acknowledged(self, case_id: CaseId) -> "Sequence[KnownHead]":
        """Return how far the ledger reached, as the case's newest run was told; nothing when Temporal knows none."""
        ...

    async def start(self, start: CaseStart) -> None:
        """Start a case; with what it carries, although it has run before."""
        ...


class ArchivedRun(Value):
    """One run in the archive."""

    run_id: str
    status: str
    started_at: Moment
    closed_at: Moment
    continued_from: str
    events: int
    kept: Kept


class Manifest(Value):
    """What one archived version of a case consists of.

    Attributes:
        head: hash of the ledger's newest entry, to which the version belongs.
        terms: the terms documents that the case was under.
        complete: whether the runs are whole chains, and the ledger's newest entry is in one that completed.
    """

    case_id: CaseId
    district: str
    stage: str
    archived_at: Moment
    entries: int
    head: str
    runs: tuple[ArchivedRun, ...]
    ledger: Kept
    terms: tuple[Kept, ...]
    complete: bool


class ToArchive(Value):
    """A closed case as the store has it, when its newest entry is not archived yet.

    Attributes:
        ledger: canonical text and hash of every entry, as they stand.
        terms: digest and document of each.
        runs: those of its runs that are in the archive already.
    """

    case_id: CaseId
    district: str
    stage: str
    ledger: tuple[tuple[str, str], ...]
    terms: tuple[tuple[str, str], ...]
    runs: tuple[ArchivedRun, ...]


class ArchivedMark(Value):
    """What the register says of one archived version: the ledger's length and newest hash, and when it was made."""

    case_id: CaseId
    entries: int
    head: str
    at: Moment


class Archivable(Protocol):
    """What the store says of the archive."""

    async def closed_unarchived(self, closed_before: datetime, after: str, limit: int) -> Sequence[CaseId]:
        """Return closed cases whose newest entry is not in the archive, by case id."""
        ...

    async def to_archive(self, case_id: CaseId) -> ToArchive | None:
        """Return the case; None when it is open (again)."""
        ...

    async def unarchived_runs(self, runs: Sequence[tuple[CaseId, str]]) -> Sequence[tuple[CaseId, str]]:
        """Return those of these runs that are not in the archive, of cases that this store knows."""
        ...

    async def run_archived(self, case_id: CaseId, run: ArchivedRun) -> None:
        """Mark that the run is in the archive, and that it was read back."""
        ...

    async def case_archived(self, manifest: Manifest, kept: Kept) -> None:
        """Mark that the case is in the archive, and that it was read back; a version that was put there again anew."""
        ...

    async def archive_failed(self, case_id: CaseId, error: str, at: datetime) -> None:
        """Keep the reason, for the operators."""
        ...

    async def archived_runs(self, case_id: CaseId) -> Sequence[ArchivedRun]:
        """Return the runs of the case that are registered as archived, in no order."""
        ...

    async def archived_marks(self, case_id: CaseId) -> Sequence[ArchivedMark]:
        """Return the versions of the case that are registered as archived, oldest first."""
        ...

    async def registered_files(self, after: str, limit: int) -> Sequence[tuple[CaseId, Sequence[str]]]:
        """Return the names of all files that must be in the archive, for each case after this one, by case id."""
        ...

    async def registered_files_of(self, case_ids: Sequence[CaseId]) -> Mapping[CaseId, Sequence[str]]:
        """Return the same of each of these cases."""
        ...

    async def told_as_gone(self) -> Sequence[CaseId]:
        """Return the cases of which operators are told that archived files are not there."""
        ...

    async def archive_whole(self, case_id: CaseId) -> None:
        """Tell of nothing any more."""
        ...


class Difference(Value):
    """One case about which SQL and Temporal do not agree.

    Attributes:
        kind: `not_started`, `missing` (no run goes on), `ledger_rewritten` (the same, and its ledger is not what an
            anchor, the archive or the ended run's own history knows), `ended` (ended, but open in SQL), `stray` (runs, but unknown or closed in
            SQL), `ledger_behind`, `stage_differs`, or `failed` (could not be looked at).
        done: what was done about it: `started`, `restarted`, or nothing.
    """

    case_id: CaseId
    district: str
    kind: str
    detail: str
    done: str = ""


class Reconciliation(Value):
    """What a comparison of SQL and Temporal found.

    Attributes:
        open_cases: how many were looked at.
        held: too many were missing to be an accident of single cases: none was restarted.
    """

    at: Moment
    ended_at: Moment
    open_cases: int
    differences: tuple[Difference, ...]
    held: bool


class KnownCase(Value):
    """A case as its read model has it; open while `closed_at` is None."""

    case_id: CaseId
    district: str
    stage: str
    sequence: int
    closed_at: Moment | None


class Reconcilable(Protocol):
    """What the store says of the open cases."""

    async def open_cases(self) -> Sequence[KnownCase]:
        """Return every open case."""
        ...

    async def known_case(self, case_id: CaseId) -> KnownCase | None:
        """Return the case as it is now; None for one that was never taken."""
        ...

    async def is_started(self, case_id: CaseId) -> bool:
        """Whether the case's workflow runs, or has run."""
        ...

    async def start_of(self, case_id: CaseId) -> CaseStart | None:
        """Return what the case's workflow starts with; None for a case that was never taken."""
        ...

    async def started(self, case_id: CaseId, at: datetime) -> None:
        """Mark that the workflow runs, or has run."""
        ...

    async def entries(self, case_id: CaseId) -> list[Entry]:
        """Return the case's entries in order."""
        ...

    async def defer_act(
        self,
        case_id: CaseId,
        act: str,
        command: str,
        *,
        update_id: str,
        person: str,
        at: datetime,
        not_before: datetime | None = None,
    ) -> None:
        """Commit an act for the relay, once for each update id."""
        ...

    async def reconciled(self, report: Reconciliation) -> None:
        """Keep the report."""

    async def alarm(
        self, case_id: CaseId, *, district: str, reason: str, title: str, text: str, at: datetime
    ) -> None:
        """Tell administrators and auditors of the district; once for each (case, reason)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHead:
    """How far a case's chain reached by what stands outside its ledger.

    Attributes:
        source: what says so, in Chinese.
    """

    source: str
    sequence: int
    hash: str


class Witnesses(Protocol):
    """What is known of the chains outside the ledger: anchors and the archive."""

    async def known_heads(self, case_ids: Collection[CaseId]) -> Mapping[CaseId, Sequence[KnownHead]]:
        """Return every head of these cases that an anchor or the archive holds.

        Raises:
            DomainError: the anchors themselves were changed.
            OSError: the archive is away.
        """
        ...


class Anchored(Value):
    """An anchor that was made.

    Attributes:
        day: local date, ISO 8601.
        is_new: False when nothing had moved since the day's newest.
        contradicted: what no longer holds what was anchored before; Chinese, for operators.
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
        """Make an anchor, unless the day has one and nothing has moved since, and publish it."""
        ...

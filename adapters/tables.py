"""The tables, for SQLite and PostgreSQL alike. Migrations write them out; a test holds both equal."""

from datetime import UTC, date, datetime

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    TypeDecorator,
    false,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Key = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only in a plain INTEGER primary key."""


class UtcDateTime(TypeDecorator[datetime]):
    """An aware moment in UTC; SQLite, which has no time zones, keeps it as UTC wall time."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive moments; they are bugs."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = "naive datetime"
            raise ValueError(msg)
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return an aware moment."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Table(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {datetime: UtcDateTime, str: String(200)}  # noqa: RUF012 - read by SQLAlchemy at class creation


class TermsRow(Table):
    """Terms by the digest of their content: every version that a case was opened under."""

    __tablename__ = "terms"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    district: Mapped[str]
    policy_version: Mapped[str]
    calendar_version: Mapped[str]
    document: Mapped[str] = mapped_column(Text)


class DistrictRow(Table):
    """A district, as last loaded; the document is the whole `domain.district.District`."""

    __tablename__ = "districts"
    code: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    terms_id: Mapped[str] = mapped_column(ForeignKey("terms.id"))
    document: Mapped[str] = mapped_column(Text)
    loaded_at: Mapped[datetime]


class CatalogueRow(Table):
    """Every version of a district's catalogue that was ever loaded."""

    __tablename__ = "catalogues"
    district: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[str] = mapped_column(primary_key=True)
    document: Mapped[str] = mapped_column(Text)
    loaded_at: Mapped[datetime]


class PersonRow(Table):
    """Somebody who can act or be told; no longer active once left out of the district's folder."""

    __tablename__ = "people"
    id: Mapped[str] = mapped_column(primary_key=True)
    district: Mapped[str]
    name: Mapped[str]
    phone: Mapped[str]
    on_duty: Mapped[bool] = mapped_column(Boolean)
    active: Mapped[bool] = mapped_column(Boolean)


class PostRow(Table):
    """One post of a person."""

    __tablename__ = "posts"
    __table_args__ = (Index("ix_posts_role", "role", "organisation"),)
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    person: Mapped[str] = mapped_column(ForeignKey("people.id"))
    role: Mapped[str]
    organisation: Mapped[str]
    township: Mapped[str | None]
    city: Mapped[bool] = mapped_column(Boolean)
    squad: Mapped[bool] = mapped_column(Boolean, server_default=false())


class IntakeRow(Table):
    """A call as it was taken; with the caller's contact, which stands nowhere else."""

    __tablename__ = "intake"
    __table_args__ = (
        Index(
            "ix_intake_unstarted",
            "next_attempt_at",
            sqlite_where=text("started_at IS NULL"),
            postgresql_where=text("started_at IS NULL"),
        ),
    )
    case_id: Mapped[str] = mapped_column(primary_key=True)
    district: Mapped[str]
    called_at: Mapped[datetime]
    opened: Mapped[str] = mapped_column(Text)
    terms_id: Mapped[str] = mapped_column(ForeignKey("terms.id"))
    contact_name: Mapped[str]
    contact_phone: Mapped[str]
    started_at: Mapped[datetime | None]
    next_attempt_at: Mapped[datetime]
    attempts: Mapped[int]
    last_error: Mapped[str] = mapped_column(Text)


LEDGER_ENDS = "kind IN ('call_refused', 'cancelled', 'closed', 'linked', 'reopened')"
"""Entries by which a case may end, or goes on again; a query that says so in these words is answered by an index."""


class LedgerRow(Table):
    """One entry of the ledger: append-only, held by triggers. `entry` is the text that the hash is taken over."""

    __tablename__ = "ledger"
    __table_args__ = (
        Index(
            "ix_ledger_ends",
            "case_id",
            "kind",
            "sequence",
            sqlite_where=text(LEDGER_ENDS),
            postgresql_where=text(LEDGER_ENDS),
        ),
    )
    case_id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    entry: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(String(64))


class CaseRow(Table):
    """Read model: one row a case, for lists."""

    __tablename__ = "cases"
    __table_args__ = (
        Index("ix_cases_called", "district", "called_at", "case_id"),
        Index("ix_cases_due", "district", "next_due_at", "case_id"),
        Index("ix_cases_acted", "district", "acted_at", "case_id"),
        Index("ix_cases_stage", "district", "stage"),
        Index("ix_cases_township", "district", "township"),
        Index("ix_cases_item", "district", "item_code", "called_at"),
        Index("ix_cases_settled", "settled_at", "case_id"),
    )
    case_id: Mapped[str] = mapped_column(primary_key=True)
    district: Mapped[str]
    township: Mapped[str]
    stage: Mapped[str]
    category: Mapped[str]
    urgency: Mapped[str]
    item_code: Mapped[str | None]
    lead: Mapped[str | None]
    caller_office: Mapped[str | None]
    place: Mapped[str] = mapped_column(server_default="")
    title: Mapped[str]
    caller: Mapped[str]
    called_at: Mapped[datetime]
    acted_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]
    settled_at: Mapped[datetime | None]
    next_due_at: Mapped[datetime | None]
    escalation_level: Mapped[int]
    policy_version: Mapped[str]
    sequence: Mapped[int]
    search_text: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)


class AssignmentRow(Table):
    """Read model: one row a department on a case, or that was: then the status says how it left."""

    __tablename__ = "assignments"
    __table_args__ = (Index("ix_assignments_department", "department"),)
    case_id: Mapped[str] = mapped_column(primary_key=True)
    department: Mapped[str] = mapped_column(primary_key=True)
    lead: Mapped[bool] = mapped_column(Boolean)
    status: Mapped[str]


class WatchRow(Table):
    """Read model: who follows a case (领导关注)."""

    __tablename__ = "watches"
    __table_args__ = (Index("ix_watches_person", "person"),)
    case_id: Mapped[str] = mapped_column(primary_key=True)
    person: Mapped[str] = mapped_column(primary_key=True)


class ClockRow(Table):
    """Read model: one row a clock; one that stands still is paused."""

    __tablename__ = "clocks"
    __table_args__ = (
        Index(
            "ix_clocks_running",
            "due_at",
            sqlite_where=text("ended_at IS NULL"),
            postgresql_where=text("ended_at IS NULL"),
        ),
    )
    case_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    department: Mapped[str] = mapped_column(primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    started_at: Mapped[datetime]
    due_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    paused_at: Mapped[datetime | None]
    level: Mapped[int]


class TimelineRow(Table):
    """Read model: what happened, as a sentence."""

    __tablename__ = "timeline"
    case_id: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    actor: Mapped[str]
    actor_name: Mapped[str]
    text: Mapped[str] = mapped_column(Text)


class NoticeRow(Table):
    """A notice for one person: inbox and outbox in one."""

    __tablename__ = "notices"
    __table_args__ = (
        Index("ix_notices_receiver", "receiver", "id"),
        Index("ix_notices_once", "case_id", "reason", "receiver", unique=True),
        Index(
            "ix_notices_unsent",
            "district",
            "next_attempt_at",
            sqlite_where=text("sent_at IS NULL"),
            postgresql_where=text("sent_at IS NULL"),
        ),
    )
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    district: Mapped[str]
    case_id: Mapped[str]
    reason: Mapped[str]
    sequence: Mapped[int]
    receiver: Mapped[str]
    title: Mapped[str]
    text: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    read_at: Mapped[datetime | None]
    attempts: Mapped[int]
    last_error: Mapped[str] = mapped_column(Text)


class AnswerRow(Table):
    """What a request with an idempotency key was answered."""

    __tablename__ = "answers"
    person: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    body_digest: Mapped[str]
    status: Mapped[int]
    body: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime]


class PendingActRow(Table):
    """An act that was acknowledged while Temporal was away; `mac` binds it, see `adapters.kept_acts`."""

    __tablename__ = "pending_acts"
    __table_args__ = (
        Index(
            "ix_pending_unsettled",
            "next_attempt_at",
            sqlite_where=text("settled_at IS NULL"),
            postgresql_where=text("settled_at IS NULL"),
        ),
        Index("ix_pending_case", "case_id"),
    )
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    case_id: Mapped[str]
    act: Mapped[str]
    command: Mapped[str] = mapped_column(Text)
    update_id: Mapped[str] = mapped_column(String(200), unique=True)
    person: Mapped[str]
    accepted_at: Mapped[datetime]
    next_attempt_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]
    outcome: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int]
    last_error: Mapped[str] = mapped_column(Text)
    mac: Mapped[str | None] = mapped_column(String(80))


class DecodingRow(Table):
    """Payloads that somebody had decrypted by the codec server; append-only."""

    __tablename__ = "decodings"
    __table_args__ = (Index("ix_decodings_district", "district", "id"),)
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime]
    person: Mapped[str]
    district: Mapped[str]
    namespace: Mapped[str]
    workflows: Mapped[str] = mapped_column(Text)
    keys: Mapped[str] = mapped_column(Text)
    payloads: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))


class ArchivedRow(Table):
    """A version of a closed case that stands in the archive and was read back; `document` is its manifest's `Kept`."""

    __tablename__ = "archived"
    case_id: Mapped[str] = mapped_column(primary_key=True)
    entries: Mapped[int] = mapped_column(primary_key=True)
    district: Mapped[str]
    at: Mapped[datetime]
    location: Mapped[str] = mapped_column(Text)
    digest: Mapped[str] = mapped_column(String(64))
    head: Mapped[str] = mapped_column(String(64))
    runs: Mapped[int]
    complete: Mapped[bool] = mapped_column(Boolean)
    document: Mapped[str] = mapped_column(Text)


class ArchivedRunRow(Table):
    """A closed run of a case's workflow that stands in the archive; `document` is its `ArchivedRun`."""

    __tablename__ = "archived_runs"
    __table_args__ = (Index("ix_archived_runs_case", "case_id"),)
    run_id: Mapped[str] = mapped_column(primary_key=True)
    case_id: Mapped[str]
    at: Mapped[datetime]
    document: Mapped[str] = mapped_column(Text)


class ArchiveFailureRow(Table):
    """Why a case is not in the archive yet; gone once it is."""

    __tablename__ = "archive_failures"
    case_id: Mapped[str] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    attempts: Mapped[int]
    error: Mapped[str] = mapped_column(Text)


class ReconciliationRow(Table):
    """A comparison of SQL and Temporal."""

    __tablename__ = "reconciliations"
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime]
    differences: Mapped[int]
    document: Mapped[str] = mapped_column(Text)


LOADS = "name = 'load_district'"
"""Lines of the operators' journal that a load of a district leaves; in these words an index answers."""


class OperationRow(Table):
    """One line of the operators' journal: append-only, held by triggers. An operation has two: begun, and its end."""

    __tablename__ = "operations"
    __table_args__ = (
        Index("ix_operations_district", "district", "id"),
        Index(
            "ix_operations_loads",
            "district",
            "at",
            "id",
            sqlite_where=text(LOADS),
            postgresql_where=text(LOADS),
        ),
    )
    id: Mapped[int] = mapped_column(Key, primary_key=True)
    operation: Mapped[str] = mapped_column(String(64))
    at: Mapped[datetime]
    person: Mapped[str]
    person_name: Mapped[str]
    district: Mapped[str]
    name: Mapped[str]
    arguments: Mapped[str] = mapped_column(Text)
    outcome: Mapped[str]
    detail: Mapped[str] = mapped_column(Text)


class JournalRow(Table):
    """One link of a journal's chain: append-only, held by triggers; see `domain.journal`."""

    __tablename__ = "journals"
    __table_args__ = (Index("ix_journals_key", "journal", "key", unique=True),)
    journal: Mapped[str] = mapped_column(String(16), primary_key=True)
    district: Mapped[str] = mapped_column(primary_key=True)
    sequence: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str]
    at: Mapped[datetime]
    digest: Mapped[str] = mapped_column(String(64))
    previous: Mapped[str] = mapped_column(String(64))
    hash: Mapped[str] = mapped_column(String(64))


class AnchorRow(Table):
    """One anchor of a district: append-only, held by triggers. `document` is the text that is hashed and signed."""

    __tablename__ = "anchors"
    __table_args__ = (Index("ix_anchors_day", "district", "day"),)
    district: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[date]
    document: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(String(64))
    signature: Mapped[str] = mapped_column(String(128))
    key_id: Mapped[str]

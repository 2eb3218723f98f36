"""What the store knows of archive, reconciliation, trouble, and of what operators did."""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from activities.archive import GONE, version_folder
from adapters.database import Database
from adapters.journals import append_row
from adapters.kept_acts import BEFORE_CODES, OTHER_KEY, UNBOUND, binding_of, kept_act
from adapters.ledger import LedgerStore, notice_row
from adapters.sealing import Binding, Seal
from adapters.tables import (
    AnchorRow,
    ArchivedRow,
    ArchivedRunRow,
    ArchiveFailureRow,
    CaseRow,
    DistrictRow,
    IntakeRow,
    LedgerRow,
    NoticeRow,
    OperationRow,
    PendingActRow,
    PersonRow,
    PostRow,
    ReconciliationRow,
    TermsRow,
)
from domain.case import CaseId, LinkKind, Role
from domain.events import CallRefused, Cancelled, Closed, Linked, Reopened
from domain.journal import Journal
from domain.ports import ArchivedMark, ArchivedRun, Kept, KnownCase, Manifest, Reconciliation, ToArchive

_log = structlog.get_logger()
_REPORTS_KEPT = 1000
_REFUSED_SHOWN = timedelta(days=30)
_ALARMED = (Role.ADMINISTRATOR.value, Role.AUDITOR.value)
_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedVersion:
    """One version of a case in the archive.

    Attributes:
        complete: whether Temporal still knew every run.
        manifest: where it is, with its digest.
    """

    case_id: CaseId
    district: str
    entries: int
    at: datetime
    runs: int
    complete: bool
    manifest: Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestAnchor:
    """How far a district's anchors have come.

    Attributes:
        day: of the newest, in Asia/Shanghai; None when there is none.
        at: when the newest was made.
        key_id: of the key that signed it.
        first_call: when the district's first call was taken; None when there is none.
    """

    district: str
    day: date | None
    at: datetime | None
    key_id: str | None
    first_call: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """Something that does not get on, as SQL knows it.

    Attributes:
        subject: `intake`, `act`, `notice`, `archive`, or `archive_gone`: it was archived, and files are not there;
            for an act that is not carried out because of its code, `act_unbound`, `act_other_key`, `act_before_codes`.
        id: of the act or the notice.
        what: the act, or the notice's title.
    """

    subject: str
    case_id: CaseId
    since: datetime
    attempts: int
    error: str
    id: int | None = None
    what: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One line of the journal.

    Attributes:
        operation: the same for an operation's beginning and its end.
        outcome: `begun`, `done` or `failed`.
    """

    operation: str
    at: datetime
    person: str
    person_name: str
    district: str
    name: str
    arguments: dict[str, Any]
    outcome: str
    detail: str = ""


class UpkeepStore(LedgerStore):
    """Implements `domain.ports.Archivable` and `Reconcilable`, and what `shaodao ops` reads and writes."""

    _database: Database
    _seal: Seal | None

    # --- archive -------------------------------------------------------------------------------------------

    async def closed_unarchived(self, closed_before: datetime, after: str, limit: int) -> list[CaseId]:
        """Return cases of which nothing runs any more and whose newest entry is not in the archive, by case id."""
        query = (
            select(CaseRow.case_id)
            .where(CaseRow.settled_at < closed_before, CaseRow.case_id > after, ~_ARCHIVED)
            .order_by(CaseRow.case_id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [CaseId(case_id) for case_id in (await connection.execute(query)).scalars()]

    async def archive_lag(self) -> tuple[int, datetime | None]:
        """Return how many closed cases are not in the archive, and when the oldest of them was closed."""
        query = select(func.count(), func.min(CaseRow.settled_at)).where(
            CaseRow.settled_at.is_not(None), ~_ARCHIVED
        )
        async with self._database.read() as connection:
            count, oldest = (await connection.execute(query)).one()
        return count, oldest

    async def to_archive(self, case_id: CaseId) -> ToArchive | None:
        """Return the case; None when it is open (again)."""
        query = (
            select(CaseRow.district, CaseRow.stage, TermsRow.id, TermsRow.document)
            .join(IntakeRow, IntakeRow.case_id == CaseRow.case_id)
            .join(TermsRow, TermsRow.id == IntakeRow.terms_id)
            .where(CaseRow.case_id == case_id, _SETTLED)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        return ToArchive(
            case_id=case_id,
            district=row.district,
            stage=row.stage,
            ledger=tuple(await self.raw_entries(case_id)),
            terms=((row.id, row.document),),
            runs=tuple(run for run in await self.archived_runs(case_id) if run.kept.sha256),
        )

    async def archived_runs(self, case_id: CaseId) -> list[ArchivedRun]:
        """Return the runs of the case that are registered as archived, in no order; see `_registered_run`."""
        query = select(ArchivedRunRow.run_id, ArchivedRunRow.case_id, ArchivedRunRow.document)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.where(ArchivedRunRow.case_id == case_id))).all()
        return [_registered_run(row) for row in rows]

    async def unarchived_runs(self, runs: Sequence[tuple[CaseId, str]]) -> list[tuple[CaseId, str]]:
        """Return those of these runs that are not in the archive, of cases that this store knows."""
        found: list[tuple[CaseId, str]] = []
        async with self._database.read() as connection:
            for first in range(0, len(runs), _AT_ONCE):
                some = runs[first : first + _AT_ONCE]
                there = select(ArchivedRunRow.run_id).where(
                    ArchivedRunRow.run_id.in_([run_id for _, run_id in some])
                )
                ours = select(IntakeRow.case_id).where(
                    IntakeRow.case_id.in_({case_id for case_id, _ in some})
                )
                archived = set((await connection.execute(there)).scalars())
                known = set((await connection.execute(ours)).scalars())
                found += [each for each in some if each[0] in known and each[1] not in archived]
        return found

    async def run_archived(self, case_id: CaseId, run: ArchivedRun) -> None:
        """Mark that the run is in the archive, and that it was read back."""
        row = {
            "run_id": run.run_id,
            "case_id": case_id,
            "at": run.closed_at,
            "document": run.model_dump_json(),
        }
        async with self._database.write() as connection:
            await connection.execute(self._database.insert_new(ArchivedRunRow), [row])

    async def case_archived(self, manifest: Manifest, kept: Kept) -> None:
        """Mark that the case is in the archive, and that it was read back; a version that was put there again anew."""
        row = {
            "case_id": manifest.case_id,
            "entries": manifest.entries,
            "district": manifest.district,
            "at": manifest.archived_at,
            "location": kept.location,
            "digest": kept.sha256,
            "head": manifest.head,
            "runs": len(manifest.runs),
            "complete": manifest.complete,
            "document": kept.model_dump_json(),
        }
        async with self._database.write() as connection:
            await connection.execute(self._database.upsert(ArchivedRow), [row])
            failure = delete(ArchiveFailureRow).where(ArchiveFailureRow.case_id == manifest.case_id)
            await connection.execute(failure)
        level = _log.info if manifest.complete else _log.warning
        level("case_archived", case_id=manifest.case_id, runs=len(manifest.runs), complete=manifest.complete)

    async def archive_failed(self, case_id: CaseId, error: str, at: datetime) -> None:
        """Keep the reason, for the operators."""
        _log.warning("archive_failed", case_id=case_id)
        again = (
            update(ArchiveFailureRow)
            .where(ArchiveFailureRow.case_id == case_id)
            .values(attempts=ArchiveFailureRow.attempts + 1, at=at, error=error)
        )
        first = {"case_id": case_id, "at": at, "attempts": 1, "error": error}
        async with self._database.write() as connection:
            if (await connection.execute(again)).rowcount == 0:
                await connection.execute(self._database.insert_new(ArchiveFailureRow), [first])

    async def archived_marks(self, case_id: CaseId) -> list[ArchivedMark]:
        """Return the versions of the case that are registered as archived, oldest first."""
        query = (
            select(ArchivedRow.case_id, ArchivedRow.entries, ArchivedRow.head, ArchivedRow.at)
            .where(ArchivedRow.case_id == case_id)
            .order_by(ArchivedRow.entries)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [ArchivedMark.model_validate(row, from_attributes=True) for row in rows]

    async def registered_files(self, after: str, limit: int) -> list[tuple[CaseId, list[str]]]:
        """Return the names of all files that must be in the archive, for each case after this one, by case id.

        They follow from keys alone: what a row's document says can be forged, and is for the auditor.
        """
        versions = select(ArchivedRow.case_id).where(ArchivedRow.case_id > after)
        runs = select(ArchivedRunRow.case_id).where(ArchivedRunRow.case_id > after)
        query = versions.union(runs).order_by("case_id").limit(limit)
        async with self._database.read() as connection:
            case_ids = [CaseId(case_id) for case_id in (await connection.execute(query)).scalars()]
            files = await _files_of(connection, case_ids)
        return list(files.items())

    async def registered_files_of(self, case_ids: Sequence[CaseId]) -> dict[CaseId, list[str]]:
        """Return the same of each of these cases."""
        async with self._database.read() as connection:
            return await _files_of(connection, case_ids)

    async def told_as_gone(self) -> list[CaseId]:
        """Return the cases of which operators are told that archived files are not there."""
        query = select(ArchiveFailureRow.case_id).where(ArchiveFailureRow.error.startswith(GONE))
        async with self._database.read() as connection:
            return [CaseId(case_id) for case_id in (await connection.execute(query)).scalars()]

    async def archive_whole(self, case_id: CaseId) -> None:
        """Tell of nothing any more."""
        async with self._database.write() as connection:
            await connection.execute(delete(ArchiveFailureRow).where(ArchiveFailureRow.case_id == case_id))

    async def newest_marks(self, *, district: str | None, limit: int) -> list[CaseId]:
        """Return the cases that were archived last, of one district or of all."""
        query = select(ArchivedRow.case_id).where(_in(ArchivedRow.district, district))
        async with self._database.read() as connection:
            rows = await connection.execute(query.order_by(ArchivedRow.at.desc()).limit(limit))
            return list(dict.fromkeys(CaseId(case_id) for case_id in rows.scalars()))

    async def archived(self, case_id: CaseId) -> list[ArchivedVersion]:
        """Return every archived version of the case, oldest first."""
        return await self._archived(
            select(ArchivedRow).where(ArchivedRow.case_id == case_id).order_by(ArchivedRow.entries)
        )

    async def archived_cases(self, *, district: str | None, after: str, limit: int) -> list[ArchivedVersion]:
        """Return archived versions by case id, of one district or of all."""
        query = select(ArchivedRow).where(ArchivedRow.case_id > after)
        if district is not None:
            query = query.where(ArchivedRow.district == district)
        return await self._archived(query.order_by(ArchivedRow.case_id, ArchivedRow.entries).limit(limit))

    async def runs_page(
        self, *, district: str | None, case_id: CaseId | None = None, after: str = "", limit: int
    ) -> list[tuple[CaseId, ArchivedRun]]:
        """Return runs in the archive, of open cases too, in the order of their ids: Temporal's begin with the time."""
        query = (
            select(ArchivedRunRow.run_id, ArchivedRunRow.case_id, ArchivedRunRow.document)
            .join(IntakeRow, IntakeRow.case_id == ArchivedRunRow.case_id)
            .where(ArchivedRunRow.run_id > after, _in(IntakeRow.district, district))
            .order_by(ArchivedRunRow.run_id)
            .limit(limit)
        )
        if case_id is not None:
            query = query.where(ArchivedRunRow.case_id == case_id)
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [(CaseId(row.case_id), _registered_run(row)) for row in rows]

    async def newest_archived(self) -> ArchivedVersion | None:
        """Return what was archived last; None when nothing was."""
        found = await self._archived(select(ArchivedRow).order_by(ArchivedRow.at.desc()).limit(1))
        return found[0] if found else None

    async def _archived(self, query: Select[Any]) -> list[ArchivedVersion]:
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [
            ArchivedVersion(
                case_id=CaseId(row.case_id),
                district=row.district,
                entries=row.entries,
                at=row.at,
                runs=row.runs,
                complete=row.complete,
                manifest=_registered(row),
            )
            for row in rows
        ]

    # --- reconciliation ------------------------------------------------------------------------------------

    async def open_cases(self) -> list[KnownCase]:
        """Return every case that is open by its read model, or by its ledger whatever the read model says.

        Of the many that have ended only two indexes are read, and none of their rows.
        """
        only_read_model = select(CaseRow.case_id).where(CaseRow.settled_at.is_not(None), ~_ENDED)
        async with self._database.read() as connection:
            contradicted = (await connection.execute(only_read_model)).scalars().all()
        found = await self._known(CaseRow.settled_at.is_(None))
        for first in range(0, len(contradicted), _AT_ONCE):
            found += await self._known(
                and_(CaseRow.case_id.in_(contradicted[first : first + _AT_ONCE]), ~_SETTLED)
            )
        return sorted(found, key=lambda known: known.case_id)

    async def open_among(self, case_ids: Sequence[CaseId]) -> list[CaseId]:
        """Return those of these cases that are open."""
        found = set[CaseId]()
        async with self._database.read() as connection:
            for first in range(0, len(case_ids), _AT_ONCE):
                some = case_ids[first : first + _AT_ONCE]
                query = select(CaseRow.case_id).where(CaseRow.case_id.in_(some), ~_SETTLED)
                found |= {CaseId(case_id) for case_id in (await connection.execute(query)).scalars()}
        return [case_id for case_id in case_ids if case_id in found]

    async def known_case(self, case_id: CaseId) -> KnownCase | None:
        """Return the case as it is now; None for one that was never taken."""
        return next(iter(await self._known(CaseRow.case_id == case_id)), None)

    async def _known(self, condition: ColumnElement[bool]) -> list[KnownCase]:
        query = select(
            CaseRow.case_id,
            CaseRow.district,
            CaseRow.stage,
            CaseRow.sequence,
            case((_SETTLED, CaseRow.settled_at)).label("closed_at"),
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query.where(condition).order_by(CaseRow.case_id))).all()
        return [KnownCase.model_validate(row, from_attributes=True) for row in rows]

    async def reconciled(self, report: Reconciliation) -> None:
        """Keep the report; tell of every difference."""
        row = {
            "at": report.at,
            "differences": len(report.differences),
            "document": report.model_dump_json(),
        }
        async with self._database.write() as connection:
            await connection.execute(insert(ReconciliationRow), [row])
            newest = select(func.max(ReconciliationRow.id)).scalar_subquery()
            old = delete(ReconciliationRow).where(ReconciliationRow.id <= newest - _REPORTS_KEPT)
            await connection.execute(old)
        for each in report.differences:
            _log.warning("reconcile_difference", case_id=each.case_id, kind=each.kind, done=each.done)
        _log.info(
            "reconciled",
            open_cases=report.open_cases,
            differences=len(report.differences),
            held=report.held,
        )

    async def alarm(
        self, case_id: CaseId, *, district: str, reason: str, title: str, text: str, at: datetime
    ) -> None:
        """Tell administrators and auditors of the district; once for each (case, reason)."""
        _log.error("alarm", case_id=case_id, reason=reason)
        told = (
            select(PersonRow.id)
            .join(PostRow, PostRow.person == PersonRow.id)
            .where(PersonRow.district == district, PersonRow.active, PostRow.role.in_(_ALARMED))
            .distinct()
        )
        async with self._database.write() as connection:
            rows = [
                notice_row(
                    district,
                    case_id,
                    reason=reason,
                    sequence=0,
                    receiver=person,
                    title=title,
                    text=text,
                    at=at,
                )
                for person in (await connection.execute(told)).scalars()
            ]
            if rows:
                await connection.execute(self._database.insert_new(NoticeRow), rows)

    async def reconciliation(self) -> Reconciliation | None:
        """Return the newest report; None when there is none yet."""
        query = select(ReconciliationRow.document).order_by(ReconciliationRow.id.desc()).limit(1)
        async with self._database.read() as connection:
            document = (await connection.execute(query)).scalar_one_or_none()
        return Reconciliation.model_validate_json(document) if document else None

    async def latest_anchors(self) -> list[LatestAnchor]:
        """Return how far each loaded district's anchors have come, by district."""
        newest = select(AnchorRow.district, func.max(AnchorRow.number)).group_by(AnchorRow.district)
        anchors = select(AnchorRow.district, AnchorRow.day, AnchorRow.key_id, AnchorRow.document).where(
            tuple_(AnchorRow.district, AnchorRow.number).in_(newest)
        )
        calls = select(IntakeRow.district, func.min(IntakeRow.called_at)).group_by(IntakeRow.district)
        async with self._database.read() as connection:
            districts = (await connection.execute(select(DistrictRow.code))).scalars().all()
            anchored = {row.district: row for row in await connection.execute(anchors)}
            first_calls = {row[0]: row[1] for row in await connection.execute(calls)}
        return [
            LatestAnchor(
                district=code,
                day=anchored[code].day if code in anchored else None,
                at=_made_at(anchored[code].document) if code in anchored else None,
                key_id=anchored[code].key_id if code in anchored else None,
                first_call=first_calls.get(code),
            )
            for code in sorted(districts)
        ]

    # --- trouble -------------------------------------------------------------------------------------------

    async def stuck(self, since: datetime, *, district: str | None, limit: int) -> list[Stuck]:
        """Return what has been waiting since before this moment, of one district or of all; oldest first."""
        async with self._database.read() as connection:
            return [
                *await self._unstarted(connection, since, district, limit),
                *await self._unsettled(connection, since, district, limit),
                *await self._unsent(connection, since, district, limit),
                *await self._unarchived(connection, district, limit),
            ]

    @staticmethod
    async def _unstarted(connection: Any, since: datetime, district: str | None, limit: int) -> list[Stuck]:
        query = (
            select(IntakeRow.case_id, IntakeRow.called_at, IntakeRow.attempts, IntakeRow.last_error)
            .where(IntakeRow.started_at.is_(None), IntakeRow.called_at < since)
            .where(_in(IntakeRow.district, district))
            .order_by(IntakeRow.called_at)
            .limit(limit)
        )
        return [
            Stuck(
                subject="intake",
                case_id=CaseId(row.case_id),
                since=row.called_at,
                attempts=row.attempts,
                error=row.last_error,
            )
            for row in await connection.execute(query)
        ]

    async def _unsettled(
        self, connection: Any, since: datetime, district: str | None, limit: int
    ) -> list[Stuck]:
        """Acts that wait; and for some weeks those that were refused for their code, which nobody repeats."""
        waits = and_(PendingActRow.settled_at.is_(None), PendingActRow.accepted_at < since)
        refused = and_(
            PendingActRow.outcome.in_((UNBOUND, BEFORE_CODES)),
            PendingActRow.settled_at > since - _REFUSED_SHOWN,
        )
        query = (
            select(PendingActRow)
            .outerjoin(CaseRow, CaseRow.case_id == PendingActRow.case_id)  # a forged one may name none
            .where(or_(waits, refused), _in(CaseRow.district, district))
            .order_by(PendingActRow.id)
            .limit(limit)
        )
        return [
            Stuck(
                subject=self._subject(row),
                case_id=CaseId(row.case_id),
                since=row.accepted_at,
                attempts=row.attempts,
                error=row.last_error,
                id=row.id,
                what=row.act,
            )
            for row in await connection.execute(query)
        ]

    def _subject(self, row: Any) -> str:
        if row.settled_at is not None:
            return str(row.outcome)
        binding = binding_of(kept_act(row), row.mac, self._seal)
        return {Binding.BOUND: "act", Binding.UNBOUND: UNBOUND, Binding.OTHER_KEY: OTHER_KEY}[binding]

    @staticmethod
    async def _unsent(connection: Any, since: datetime, district: str | None, limit: int) -> list[Stuck]:
        query = (
            select(NoticeRow)
            .where(NoticeRow.sent_at.is_(None))
            .where(or_(NoticeRow.created_at < since, NoticeRow.attempts > 0))
            .where(_in(NoticeRow.district, district))
            .order_by(NoticeRow.id)
            .limit(limit)
        )
        return [
            Stuck(
                subject="notice",
                case_id=CaseId(row.case_id),
                since=row.created_at,
                attempts=row.attempts,
                error=row.last_error,
                id=row.id,
                what=row.title,
            )
            for row in await connection.execute(query)
        ]

    @staticmethod
    async def _unarchived(connection: Any, district: str | None, limit: int) -> list[Stuck]:
        query = (
            select(ArchiveFailureRow)
            .join(CaseRow, CaseRow.case_id == ArchiveFailureRow.case_id)
            .where(_in(CaseRow.district, district))
            .order_by(ArchiveFailureRow.at)
            .limit(limit)
        )
        return [
            Stuck(
                subject=GONE if row.error.startswith(GONE) else "archive",
                case_id=CaseId(row.case_id),
                since=row.at,
                attempts=row.attempts,
                error=row.error,
            )
            for row in await connection.execute(query)
        ]

    # --- what operators do ---------------------------------------------------------------------------------

    async def resend(
        self, at: datetime, *, district: str | None, notice: int | None = None, case_id: CaseId | None = None
    ) -> int:
        """Let one notice, or every notice of a case, leave once more; return how many."""
        which = NoticeRow.id == notice if notice is not None else NoticeRow.case_id == case_id
        query = (
            update(NoticeRow)
            .where(which, _in(NoticeRow.district, district))
            .values(sent_at=None, next_attempt_at=at, attempts=0, last_error="")
        )
        async with self._database.write() as connection:
            return (await connection.execute(query)).rowcount

    async def case_ids(self, district: str | None) -> list[CaseId]:
        """Return every case that the ledger knows, of one district or of all."""
        query = select(IntakeRow.case_id).where(_in(IntakeRow.district, district))
        query = query.where(exists().where(LedgerRow.case_id == IntakeRow.case_id))
        async with self._database.read() as connection:
            found = await connection.execute(query.order_by(IntakeRow.case_id))
            return [CaseId(case_id) for case_id in found.scalars()]

    async def district_of(self, case_id: CaseId) -> str | None:
        """Return the district that took the case; None for a case that was never taken."""
        query = select(IntakeRow.district).where(IntakeRow.case_id == case_id)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one_or_none()

    async def journal(self, operation: Operation) -> None:
        """Write one line."""
        row = {
            "operation": operation.operation,
            "at": operation.at,
            "person": operation.person,
            "person_name": operation.person_name,
            "district": operation.district,
            "name": operation.name,
            "arguments": json.dumps(operation.arguments, ensure_ascii=False, sort_keys=True),
            "outcome": operation.outcome,
            "detail": operation.detail,
        }
        async with self._database.write() as connection:
            await connection.run_sync(
                lambda joined: append_row(self._database, joined, Journal.OPERATIONS, row)
            )

    async def operations(self, *, district: str | None, limit: int) -> list[Operation]:
        """Return the newest lines, of one district or of all."""
        query = select(OperationRow).where(_in(OperationRow.district, district))
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(OperationRow.id.desc()).limit(limit))).all()
        return [
            Operation(
                operation=row.operation,
                at=row.at,
                person=row.person,
                person_name=row.person_name,
                district=row.district,
                name=row.name,
                arguments=json.loads(row.arguments),
                outcome=row.outcome,
                detail=row.detail,
            )
            for row in rows
        ]


async def _files_of(connection: AsyncConnection, case_ids: Sequence[CaseId]) -> dict[CaseId, list[str]]:
    versions = (
        select(ArchivedRow.case_id, ArchivedRow.entries, ArchivedRow.head, IntakeRow.terms_id)
        .outerjoin(IntakeRow, IntakeRow.case_id == ArchivedRow.case_id)
        .where(ArchivedRow.case_id.in_(case_ids))
    )
    runs = select(ArchivedRunRow.case_id, ArchivedRunRow.run_id).where(ArchivedRunRow.case_id.in_(case_ids))
    files: dict[CaseId, list[str]] = {case_id: [] for case_id in case_ids}
    for version in await connection.execute(versions):
        folder = version_folder(version.case_id, version.entries, version.head)
        files[version.case_id] += [f"{folder}/manifest.json", f"{folder}/ledger.jsonl.gz"]
        if version.terms_id is not None:
            files[version.case_id].append(f"terms/{version.terms_id}.json.gz")
    for run in await connection.execute(runs):
        files[run.case_id].append(f"cases/{run.case_id}/runs/{run.run_id}.pb.gz")
    return files


def _registered(row: Any) -> Kept:
    """Return the manifest as the row names it; from a row that contradicts itself one that nothing can be equal to."""
    with contextlib.suppress(ValueError):
        kept = Kept.model_validate_json(row.document)
        if (kept.location, kept.sha256) == (row.location, row.digest):
            return kept
    name = f"{version_folder(row.case_id, row.entries, row.head)}/manifest.json"
    return Kept(name=name, location=row.location, sha256="", size=0)


def _registered_run(row: Any) -> ArchivedRun:
    """Return the run as the row names it; from a row that says nothing one that nothing can be equal to."""
    with contextlib.suppress(ValueError):
        return ArchivedRun.model_validate_json(row.document)
    name, where = f"cases/{row.case_id}/runs/{row.run_id}.pb.gz", f"archived_runs,{row.run_id}"
    nothing = Kept(name=name, location=where, sha256="", size=0)
    return ArchivedRun(
        run_id=row.run_id,
        status="UNREADABLE",
        started_at=_NEVER,
        closed_at=_NEVER,
        continued_from="",
        events=0,
        kept=nothing,
    )


_NEVER = datetime.min.replace(tzinfo=UTC)


def _made_at(document: str) -> datetime | None:
    """Return when an anchor says it was made; whether it says the truth is for the auditor to find out."""
    try:
        return datetime.fromisoformat(json.loads(document)["at"])
    except (ValueError, KeyError, TypeError):
        return None


def _in_index(entry: type[LedgerRow]) -> ColumnElement[bool]:
    """Say in the index's own words what holds anyway: by a bound value no planner knows that the index has them all."""
    return entry.kind.in_([literal_column(f"'{kind}'") for kind in _ENDS])


_ENDS = sorted(
    event.model_fields["kind"].default for event in (CallRefused, Cancelled, Closed, Linked, Reopened)
)
_END = aliased(LedgerRow, name="ends")
_AGAIN = aliased(LedgerRow, name="again")
_ENDINGS = tuple(event.model_fields["kind"].default for event in (Closed, Cancelled, CallRefused))
_ENDED = exists().where(
    _END.case_id == CaseRow.case_id,
    _in_index(_END),
    or_(
        _END.kind.in_(_ENDINGS),
        and_(
            _END.kind == Linked.model_fields["kind"].default,
            _END.entry.contains(f'"link":"{LinkKind.DUPLICATE.value}"', autoescape=True),
        ),
    ),
    ~exists().where(
        _AGAIN.case_id == _END.case_id,
        _in_index(_AGAIN),
        _AGAIN.kind == Reopened.model_fields["kind"].default,
        _AGAIN.sequence > _END.sequence,
    ),
)
# A read model alone ends no case: nobody would look for its run any more.
_SETTLED = and_(CaseRow.settled_at.is_not(None), _ENDED)
_ARCHIVED = exists().where(ArchivedRow.case_id == CaseRow.case_id, ArchivedRow.entries >= CaseRow.sequence)


def _in(column: Any, district: str | None) -> ColumnElement[bool]:
    """Whether a row is of the district; of any when none is named."""
    if district is None:
        return true()
    return column == district if district else false()

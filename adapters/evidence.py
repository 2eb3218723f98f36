"""What stands in the database about a case, row by row, as an auditor finds it: nothing is trusted, nothing repaired."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from sqlalchemy import Connection, Insert, Select, case, exists, func, select, true
from sqlalchemy.orm import aliased

from adapters.database import Database
from adapters.kept_acts import KeptActs, judge_kept_acts
from adapters.projection import READ_MODELS, Step, project
from adapters.raw import Row, read_rows, texts
from adapters.sealing import Seal
from adapters.tables import (
    ArchivedRow,
    ArchivedRunRow,
    AssignmentRow,
    CaseRow,
    ClockRow,
    DistrictRow,
    IntakeRow,
    LedgerRow,
    Table,
    TermsRow,
    TimelineRow,
    WatchRow,
)
from adapters.terms import NAMES_A_USER
from domain.case import CaseId
from domain.district import District, Terms
from domain.errors import DomainError
from domain.events import Entry
from domain.lifecycle import fold
from domain.ports import ArchivedRun, Kept
from domain.roll import Orphan, Scope, is_nameless
from domain.verify import Check, Finding, ReadModel, StoredRow

ReadModelRow = CaseRow | AssignmentRow | ClockRow | TimelineRow | WatchRow
Rows = Mapping[str, Sequence[Mapping[str, object]]]
"""Rows by table, with every value as JSON has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that SQL holds about one case.

    Attributes:
        terms: the document of the terms, and the digest under which it is kept; empty for a case without intake. The
            document alone is empty where the terms are gone.
        kept_acts: of the acts that waited, or wait, for Temporal.
        terms_columns: what the row of the terms says of the document beside it.
        started: whether the case's workflow runs, or has run.
        unreadable: the values in ledger, intake and terms that cannot be read as what their columns hold, and rows of
            intake and terms that stand more than once.
    """

    case_id: CaseId
    district: str
    rows: tuple[StoredRow, ...]
    terms: str
    terms_id: str
    started: bool
    read_models: Rows
    unreadable: tuple[Finding, ...] = ()
    terms_columns: Mapping[str, object] = field(default_factory=dict)
    kept_acts: KeptActs = field(default_factory=KeptActs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """What SQL says that the archive holds of a case.

    Attributes:
        manifests: of every version that was archived.
        unreadable: the rows that cannot be read.
    """

    manifests: tuple[Kept, ...]
    runs: tuple[ArchivedRun, ...]
    unreadable: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A row that says that the archive holds a file of a case.

    Attributes:
        row: its key.
        name: the file's path within the archive, as the row's document has it; empty where it cannot be read.
        right_name: the only path that the archive gives such a file.
        unreadable: the values of the row that cannot be read.
    """

    table: str
    row: str
    case_id: str
    name: str
    right_name: str
    unreadable: tuple[Finding, ...]


class EvidenceStore:
    """Reads for auditors; writes nothing."""

    _database: Database
    _seal: Seal | None

    async def evidence(self, case_id: CaseId) -> Evidence | None:
        """Return everything that is held about the case; None when there is nothing at all."""
        return await asyncio.to_thread(self._read_evidence, case_id)

    def _read_evidence(self, case_id: CaseId) -> Evidence | None:
        """In a thread of its own: going back and forth between loop and driver costs more than these many short reads."""
        with self._database.read_in_thread() as connection:
            found = _evidence(connection, case_id)
            return (
                replace(found, kept_acts=judge_kept_acts(connection, case_id, self._seal)) if found else None
            )

    async def cases_called(
        self, *, district: str | None, called_from: datetime | None, called_before: datetime | None
    ) -> list[CaseId]:
        """Return the cases of a half-open period of the call, by intake and by ledger: one may be tampered with.

        A case without its call and without intake has only its id to say when and where it was called. One whose id
        says neither is always meant, whatever its rows say.
        """
        query = select(IntakeRow.case_id)
        opening = select(LedgerRow.case_id).where(LedgerRow.sequence == 1)
        if district is not None:
            query = query.where(IntakeRow.district == district)
            opening = opening.where(LedgerRow.case_id.startswith(f"{district}-", autoescape=True))
        if called_from is not None:
            query, opening = (
                query.where(IntakeRow.called_at >= called_from),
                opening.where(LedgerRow.at >= called_from),
            )
        if called_before is not None:
            query, opening = (
                query.where(IntakeRow.called_at < called_before),
                opening.where(LedgerRow.at < called_before),
            )
        call = aliased(LedgerRow)
        headless = (
            select(LedgerRow.case_id)
            .where(~exists().where(call.case_id == LedgerRow.case_id, call.sequence == 1))
            .where(~exists().where(IntakeRow.case_id == LedgerRow.case_id))
            .distinct()
        )
        scope = Scope(district=district, called_from=called_from, called_before=called_before)
        async with self._database.read() as connection:
            found = {row for each in (query, opening) for row in await connection.run_sync(texts, each)}
            found |= set(filter(scope.covers, await connection.run_sync(texts, headless)))
            for each in (select(IntakeRow.case_id), select(LedgerRow.case_id).where(LedgerRow.sequence == 1)):
                found |= set(filter(is_nameless, await connection.run_sync(texts, each)))
        return [CaseId(case_id) for case_id in sorted(found)]

    async def held(self, case_ids: Sequence[str]) -> set[str]:
        """Return those of these cases that have a row in ledger or intake."""
        found: set[str] = set()
        async with self._database.read() as connection:
            for start in range(0, len(case_ids), _AT_ONCE):
                some = case_ids[start : start + _AT_ONCE]
                for column in (LedgerRow.case_id, IntakeRow.case_id):
                    rows = await connection.execute(select(column).where(column.in_(some)).distinct())
                    found |= set(rows.scalars())
        return found

    async def of_no_case(self, shown: str) -> list[Finding]:
        """Return the rows of ledger and intake of which the case id is no text, by the text that shows it.

        Looks at every row: to be asked only of an id of which nothing else is held. Only SQLite takes such values.
        """
        if not self._database.is_sqlite:
            return []
        async with self._database.read() as connection:
            return await connection.run_sync(lambda sync: list(_of_no_case(sync, shown)))

    async def register(self, case_id: CaseId) -> Register:
        """Return what is registered of the case as archived."""
        async with self._database.read() as connection:
            return await connection.run_sync(_register, case_id)

    async def registered(self, case_id: CaseId | None = None) -> list[Registered]:
        """Return every row that says that the archive holds something, of one case or of all."""
        async with self._database.read() as connection:
            return await connection.run_sync(lambda sync: list(_registered(sync, case_id)))

    async def orphans(self) -> list[Orphan]:
        """Return the rows of read models of which the ledger has nothing: of the timeline no such entry, of others no case."""
        async with self._database.read() as connection:
            return [
                Orphan(table=str(table.__tablename__), case_id=str(key[0]), row=_place(key))
                for table in READ_MODELS
                for key in await connection.run_sync(_keys, _orphans_of(table))
            ]

    async def district_codes(self) -> set[str]:
        """Return the loaded districts by name alone, whatever stands in their documents."""
        async with self._database.read() as connection:
            return set(await connection.run_sync(texts, select(DistrictRow.code)))

    async def unreadable_districts(self) -> list[str]:
        """Return the loaded districts of which the document is none."""
        async with self._database.read() as connection:
            query = select(DistrictRow.code, DistrictRow.document)
            rows = await connection.run_sync(lambda sync: list(read_rows(sync, query)))
        return sorted(str(row.values["code"]) for row in rows if not _is_district(row.values["document"]))

    async def listed_in(self, district: str) -> set[str]:
        """Return the cases that the lists show in a district, whatever their ids say."""
        query = select(CaseRow.case_id).where(CaseRow.district == district)
        async with self._database.read() as connection:
            return set((await connection.execute(query)).scalars())


_AT_ONCE = 500
_MOST_ORPHANS = 10_000
"""How many orphans of one table are named at most: forged rows must not fill the memory."""


def _is_district(document: str) -> bool:
    try:
        District.model_validate_json(document)
    except ValidationError:
        return False
    return True


def _orphans_of(table: type[ReadModelRow]) -> Select[Any]:
    has_entry = [LedgerRow.case_id == table.case_id]
    if table is TimelineRow:
        has_entry.append(LedgerRow.sequence == TimelineRow.sequence)
    keys = list(table.__table__.primary_key)
    return select(*keys).where(~exists().where(*has_entry)).order_by(*keys).limit(_MOST_ORPHANS)


def _of_no_case(connection: Connection, shown: str) -> Iterator[Finding]:
    rows = select(LedgerRow.case_id, LedgerRow.sequence).order_by(LedgerRow.sequence)
    for row in read_rows(connection, rows):
        if "case_id" in row.unreadable and row.values["case_id"] == shown:
            yield _unreadable_value("ledger", f"第{row.values['sequence']}条", "case_id", row, Check.CHAIN)
    for row in read_rows(connection, select(IntakeRow.case_id)):
        if row.unreadable and row.values["case_id"] == shown:
            yield _unreadable_value("intake", shown, "case_id", row, Check.CHAIN)


def _keys(connection: Connection, query: Select[Any]) -> list[tuple[object, ...]]:
    return [tuple(row.values.values()) for row in read_rows(connection, query)]


def _place(key: Sequence[object]) -> str:
    return "/".join(str(part) for part in key if part not in {"", None})


def _evidence(connection: Connection, case_id: CaseId) -> Evidence | None:
    ledger = select(LedgerRow.__table__).where(LedgerRow.case_id == case_id).order_by(LedgerRow.sequence)
    found = list(read_rows(connection, ledger))
    unreadable = [
        each for row in found for each in _unreadable("ledger", f"第{row.values['sequence']}条", row)
    ]
    rows = tuple(_stored(row) for row in found if "sequence" not in row.unreadable)
    query = (
        select(
            IntakeRow.district,
            IntakeRow.opened,
            IntakeRow.called_at,
            IntakeRow.started_at,
            IntakeRow.terms_id,
            TermsRow.document,
            TermsRow.district.label("terms_district"),
            # The branches are tried in turn: that of the calls only where the others say nothing.
            case((TermsRow.district == IntakeRow.district, true()), else_=NAMES_A_USER).label("is_shared"),
            TermsRow.policy_version,
            TermsRow.calendar_version,
        )
        .outerjoin(TermsRow, TermsRow.id == IntakeRow.terms_id)
        .where(IntakeRow.case_id == case_id)
    )
    joined = list(read_rows(connection, query))
    intake = joined[0] if joined else None
    unreadable += _unreadable_intake(case_id, intake) if intake else ()
    unreadable += _added(connection, case_id, joined) if len(joined) > 1 else ()
    taken = intake.values if intake else None
    read_models = {
        str(table.__tablename__): [
            _plain(row.values)
            for row in read_rows(
                connection, select(table.__table__).where(table.__table__.c.case_id == case_id)
            )
        ]
        for table in READ_MODELS
    }
    if not found and taken is None and not any(read_models.values()):
        return None
    return Evidence(
        case_id=case_id,
        district=taken["district"] if taken else case_id.partition("-")[0],
        rows=rows,
        terms=taken["document"] or "" if taken else "",
        terms_id=taken["terms_id"] if taken else "",
        terms_columns={
            # Districts under the very same terms share the row, and it names one of them.
            "district": taken["district"] if taken["is_shared"] else taken["terms_district"],
            "policy_version": taken["policy_version"],
            "calendar_version": taken["calendar_version"],
        }
        if taken
        else {},
        started=taken is not None and taken["started_at"] is not None,
        read_models=read_models,
        unreadable=tuple(unreadable),
    )


def _unreadable_intake(case_id: CaseId, joined: Row) -> Iterator[Finding]:
    """Name what cannot be read of the intake, and of the terms that are read with it, each in its own table."""
    for column in joined.unreadable:
        if column in _OF_TERMS:
            place = str(joined.values["terms_id"])
            yield _unreadable_value("terms", place, column, joined, Check.HISTORY)
        else:
            yield _unreadable_value("intake", case_id, column, joined, Check.CHAIN)


_OF_TERMS = frozenset({"document", "terms_district", "policy_version", "calendar_version"})


def _added(connection: Connection, case_id: CaseId, joined: Sequence[Row]) -> Iterator[Finding]:
    """Name rows of intake or terms that stand more than once: tables that were made again have no primary key."""
    intakes = select(func.count()).select_from(IntakeRow).where(IntakeRow.case_id == case_id)
    number = connection.execute(intakes).scalar_one()
    if number > 1:
        detail = f"本案在此表中有 {number} 行,只应有一行。"
        yield Finding(check=Check.CHAIN, code="row_added", table="intake", row=case_id, detail=detail)
    if number < len(joined):
        place, detail = str(joined[0].values["terms_id"]), "此编号有多行,只应有一行。"
        yield Finding(check=Check.HISTORY, code="row_added", table="terms", row=place, detail=detail)


def _register(connection: Connection, case_id: CaseId) -> Register:
    unreadable: list[Finding] = []
    versions = select(
        ArchivedRow.entries, ArchivedRow.head, ArchivedRow.location, ArchivedRow.digest, ArchivedRow.document
    ).where(ArchivedRow.case_id == case_id)
    manifests = []
    for row in read_rows(connection, versions.order_by(ArchivedRow.entries)):
        place = f"{case_id}/{row.values['entries']}"
        unreadable += _unreadable("archived", place, row, Check.HISTORY)
        kept = _document(Kept, "archived", place, row, unreadable)
        if kept is not None and not row.unreadable:
            says = (row.values["location"], row.values["digest"])
            # From a row that contradicts itself one that nothing can be equal to.
            sound = says == (kept.location, kept.sha256)
            manifests.append(kept if sound else kept.model_copy(update={"sha256": ""}))
    found = select(ArchivedRunRow.run_id, ArchivedRunRow.document).where(ArchivedRunRow.case_id == case_id)
    runs = []
    for row in read_rows(connection, found.order_by(ArchivedRunRow.run_id)):
        place = str(row.values["run_id"])
        unreadable += _unreadable("archived_runs", place, row, Check.HISTORY)
        run = _document(ArchivedRun, "archived_runs", place, row, unreadable)
        if run is not None:
            runs.append(run)
    return Register(manifests=tuple(manifests), runs=tuple(runs), unreadable=tuple(unreadable))


def _registered(connection: Connection, of: CaseId | None) -> Iterator[Registered]:
    versions = select(ArchivedRow.case_id, ArchivedRow.entries, ArchivedRow.head, ArchivedRow.document)
    runs = select(ArchivedRunRow.case_id, ArchivedRunRow.run_id, ArchivedRunRow.document)
    if of is not None:
        versions, runs = versions.where(ArchivedRow.case_id == of), runs.where(ArchivedRunRow.case_id == of)
    for row in read_rows(connection, versions.order_by(ArchivedRow.case_id, ArchivedRow.entries)):
        case_id, entries, head = (row.values[name] for name in ("case_id", "entries", "head"))
        place, wrong = f"{case_id}/{entries}", list[Finding]()
        wrong += _unreadable("archived", place, row, Check.CASES)
        kept = _document(Kept, "archived", place, row, wrong, Check.CASES)
        right = f"cases/{case_id}/{entries:0>6}-{head[:12]}/manifest.json"
        yield Registered(
            table="archived",
            row=place,
            case_id=str(case_id),
            name=kept.name if kept else "",
            right_name=right,
            unreadable=tuple(wrong),
        )
    for row in read_rows(connection, runs.order_by(ArchivedRunRow.case_id, ArchivedRunRow.run_id)):
        place, wrong = str(row.values["run_id"]), list[Finding]()
        wrong += _unreadable("archived_runs", place, row, Check.CASES)
        run = _document(ArchivedRun, "archived_runs", place, row, wrong, Check.CASES)
        case_id = str(row.values["case_id"])
        yield Registered(
            table="archived_runs",
            row=place,
            case_id=case_id,
            name=run.kept.name if run else "",
            right_name=f"cases/{case_id}/runs/{place}.pb.gz",
            unreadable=tuple(wrong),
        )


_Document = TypeVar("_Document", bound=BaseModel)


def _document(
    kind: type[_Document],
    table: str,
    place: str,
    row: Row,
    unreadable: list[Finding],
    check: Check = Check.HISTORY,
) -> _Document | None:
    try:
        return kind.model_validate_json(row.values["document"])
    except ValidationError:
        if "document" not in row.unreadable:
            unreadable.append(_unreadable_value(table, place, "document", row, check))
        return None


def _stored(row: Row) -> StoredRow:
    known = {**row.values, "at": _NEVER} if "at" in row.unreadable else row.values
    return StoredRow(**known, unreadable=row.unreadable)


_NEVER = datetime.min.replace(tzinfo=UTC)


def _unreadable(table: str, place: str, row: Row, check: Check = Check.CHAIN) -> Iterator[Finding]:
    for column in row.unreadable:
        yield _unreadable_value(table, place, column, row, check)


def _unreadable_value(table: str, place: str, column: str, row: Row, check: Check) -> Finding:
    detail = f"此值无法读取:“{str(row.values[column])[:60]}”。"
    return Finding(check=check, code="unreadable", table=table, row=place, field=column, detail=detail)


def _plain(row: Mapping[Any, Any]) -> dict[str, object]:
    """Return the row with every value as JSON has it, so that a row in a file and one in a table compare."""
    return {
        str(name): value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
    }


class _Recorder:
    """Stands where the projection expects a connection, and keeps the rows that it would write."""

    def __init__(self) -> None:
        self.rows: dict[str, list[dict[str, object]]] = defaultdict(list)

    def execute(self, statement: object, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """Keep what is inserted; a case that is projected from nothing has nothing to delete."""
        if isinstance(statement, Insert):
            self.rows[str(statement.table.name)] += [_plain(row) for row in rows]


_STATEMENTS = Database("sqlite://")
"""Only makes the statements that the projection asks for; nothing ever connects to it."""


def projected(entries: Sequence[Entry], terms: Terms) -> Rows:
    """Return what the read models must hold for a case with these entries: the product's own projection says.

    Raises:
        DomainError: the entries cannot be folded.
    """
    recorder = _Recorder()
    step = Step(before=None, after=fold(entries), entries=entries, terms=terms)
    project(_STATEMENTS, cast("Connection", recorder), [step])
    return recorder.rows


def read_models_of(entries: Sequence[Entry], terms: Terms, found: Rows) -> list[ReadModel]:
    """Return the read models of a case as they should be beside as they are; none when the entries do not fold."""
    try:
        right = projected(entries, terms)
    except DomainError:
        return []
    return list(_paired(right, found))


def _paired(right: Rows, found: Rows) -> Iterator[ReadModel]:
    for name in sorted({*right, *found}):
        table = Table.metadata.tables.get(name)
        if table is not None:
            yield ReadModel(
                table=name,
                keys=tuple(column.name for column in table.primary_key),
                expected=tuple(right.get(name, ())),
                found=tuple(found.get(name, ())),
            )

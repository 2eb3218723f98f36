"""The journals' chains in SQL: each row of a journal's table gets its link in the same transaction."""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    RowMapping,
    Select,
    Text,
    bindparam,
    cast,
    exists,
    func,
    insert,
    select,
)

from adapters.database import Database
from adapters.raw import read_rows, texts
from adapters.tables import DecodingRow, IntakeRow, JournalRow, LedgerRow, OperationRow, Table
from domain.journal import Journal, JournalCheck, JournalHead, Link, content_digest, link

_AT_ONCE = 500
NUMBER = re.compile(r"[0-9]{1,18}")
"""What a database can take for a row's number: another key, in a link that somebody wrote, has no row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """A journal's own table.

    Attributes:
        at: the column that says when it happened.
        bound: the other columns whose content the link binds. What may change later, and the caller's contact, which
            may have to be erased one day, are not among them.
    """

    table: type[Table]
    key: str
    at: str
    bound: tuple[str, ...]

    def digest(self, row: Mapping[str, Any] | RowMapping) -> str:
        """Return the digest of the row's bound content."""
        return content_digest({name: row[name] for name in (self.at, *self.bound)})


SOURCES: Mapping[Journal, _Source] = {
    Journal.INTAKE: _Source(
        table=IntakeRow, key="case_id", at="called_at", bound=("district", "opened", "terms_id")
    ),
    Journal.OPERATIONS: _Source(
        table=OperationRow,
        key="id",
        at="at",
        bound=("operation", "person", "person_name", "district", "name", "arguments", "outcome", "detail"),
    ),
    Journal.DECODINGS: _Source(
        table=DecodingRow,
        key="id",
        at="at",
        bound=("person", "district", "namespace", "workflows", "keys", "payloads", "digest"),
    ),
}
"""Migration 0006 chained the rows of before in the same way: what is bound may never change."""


def append_row(database: Database, connection: Connection, journal: Journal, row: Mapping[str, Any]) -> Link:
    """Insert a row into a journal's table, with its link, within a transaction that the caller holds."""
    _lock(database, connection, journal, row["district"])
    if database.is_sqlite:
        row = {**row, "id": _free_number(connection, journal)}
    inserted = connection.execute(insert(SOURCES[journal].table).values(**row)).inserted_primary_key
    assert inserted is not None  # noqa: S101 - one row was inserted
    return _append(connection, journal, row, key=str(inserted[0]))


def _free_number(connection: Connection, journal: Journal) -> int:
    """Return a row's number that no row has, and no link: SQLite would give that of a newest row once more that was deleted."""
    number = SOURCES[journal].table.__table__.c.id
    free: int = connection.execute(select(func.coalesce(func.max(number), 0) + 1)).scalar_one()
    keys = select(JournalRow.key).where(JournalRow.journal == journal.value)
    if connection.execute(keys.where(JournalRow.key == str(free))).first() is None:
        return free
    highest = select(func.max(cast(JournalRow.key, BigInteger))).where(JournalRow.journal == journal.value)
    return int(connection.execute(highest).scalar_one()) + 1


def append_link(
    database: Database, connection: Connection, journal: Journal, row: Mapping[str, Any], *, key: str
) -> Link:
    """Append the link of a row that this transaction has inserted.

    Nobody else appends to this chain until the transaction ends; so ask for it last.
    """
    _lock(database, connection, journal, row["district"])
    return _append(connection, journal, row, key=key)


def _append(connection: Connection, journal: Journal, row: Mapping[str, Any], *, key: str) -> Link:
    source, district = SOURCES[journal], row["district"]
    made = link(
        journal,
        district,
        key=key,
        at=row[source.at],
        content=source.digest(row),
        after=_head(connection, journal, district),
    )
    connection.execute(_NEW_LINK, [{**made.model_dump(), "journal": journal.value}])
    return made


def journal_heads(connection: Connection, district: str) -> list[JournalHead]:
    """Return the newest link of each journal of the district that has any."""
    found = (_head(connection, journal, district) for journal in Journal)
    return [each for each in found if each is not None]


class JournalStore:
    """Reads the journals for auditors; writes nothing."""

    _database: Database

    async def check_journal(self, journal: Journal, district: str) -> JournalCheck:
        """Read a whole journal of a district, row by row beside its link, and say what is wrong with it."""
        async with self._database.read() as connection:
            return await connection.run_sync(_check, journal, district)

    async def journal_hashes(
        self, district: str, wanted: Iterable[JournalHead]
    ) -> dict[Journal, dict[int, str]]:
        """Return the hashes that stand at these places, and that of the newest link, by journal and number."""
        places: dict[Journal, set[int]] = defaultdict(set)
        for head in wanted:
            places[head.journal].add(head.sequence)
        found: dict[Journal, dict[int, str]] = {}
        async with self._database.read() as connection:
            for journal, numbers in places.items():
                found[journal] = await connection.run_sync(_hashes, journal, district, sorted(numbers))
        return found

    async def journaled_districts(self) -> set[str]:
        """Return every district that has any link, or any row that should have one."""
        columns = [JournalRow.district, *(each.table.__table__.c.district for each in SOURCES.values())]
        async with self._database.read() as connection:
            return {
                district
                for column in columns
                for district in await connection.run_sync(texts, select(column).distinct())
            }


# Statements are made once: making one costs more than running it.
_NEWEST = (
    select(JournalRow.sequence, JournalRow.hash)
    .where(JournalRow.journal == bindparam("journal"), JournalRow.district == bindparam("district"))
    .order_by(JournalRow.sequence.desc())
    .limit(1)
)
_NEW_LINK = insert(JournalRow)


def _lock(database: Database, connection: Connection, journal: Journal, district: str) -> None:
    database.lock(connection, f"journal {journal} {district}")


def _head(connection: Connection, journal: Journal, district: str) -> JournalHead | None:
    """Read one row, by the primary key's own index."""
    row = connection.execute(_NEWEST, {"journal": journal.value, "district": district}).one_or_none()
    return JournalHead(journal=journal, sequence=row.sequence, hash=row.hash) if row else None


def _hashes(connection: Connection, journal: Journal, district: str, numbers: list[int]) -> dict[int, str]:
    newest = _head(connection, journal, district)
    found = {newest.sequence: newest.hash} if newest else {}
    for first in range(0, len(numbers), _AT_ONCE):
        query = select(JournalRow.sequence, JournalRow.hash).where(
            JournalRow.journal == journal.value,
            JournalRow.district == district,
            JournalRow.sequence.in_(numbers[first : first + _AT_ONCE]),
        )
        found |= {row.sequence: row.hash for row in connection.execute(query)}
    return found


def _check(connection: Connection, journal: Journal, district: str) -> JournalCheck:
    check, source = JournalCheck(journal), SOURCES[journal]
    links = (
        select(JournalRow.__table__)
        .where(JournalRow.journal == journal.value, JournalRow.district == district)
        .order_by(JournalRow.sequence)
        .execution_options(yield_per=_AT_ONCE)
    )
    rows = read_rows(connection, links)
    while some := list(itertools.islice(rows, _AT_ONCE)):
        read = []
        for row in some:
            if row.unreadable:
                check.unreadable_link(row.values["sequence"], row.unreadable)
            else:
                read.append(Link.model_validate(row.values))
        keys = [each.key for each in read]
        stands = _digests(connection, source, keys, check)
        for each in read:
            check.take(each, stands.get(each.key))
        if journal is Journal.INTAKE:
            _check_openings(connection, read, check)
    for key in connection.execute(_unlinked(source, journal, district)).scalars():
        check.added(str(key))
    return check


def _key(source: _Source) -> Any:
    column = source.table.__table__.c[source.key]
    return column if source.key == "case_id" else cast(column, Text)


def _digests(
    connection: Connection, source: _Source, keys: Sequence[str], check: JournalCheck
) -> dict[str, str]:
    """Return the digests of the rows that stand; a second one under a key has no link."""
    columns, key = source.table.__table__.c, source.table.__table__.c[source.key]
    wanted = keys if source.key == "case_id" else [int(each) for each in keys if NUMBER.fullmatch(each)]
    query = select(key, *(columns[name] for name in (source.at, *source.bound))).where(key.in_(wanted))
    found: dict[str, str] = {}
    for row in read_rows(connection, query):
        name = str(row.values[source.key])
        if name in found:
            check.added(name)
        else:  # what cannot be read stands as text, of which the digest is another
            found[name] = source.digest(row.values)
    return found


def _check_openings(connection: Connection, links: Sequence[Link], check: JournalCheck) -> None:
    """See that the ledger begins with the very entry that was taken."""
    query = (
        select(LedgerRow.case_id, LedgerRow.hash, IntakeRow.opened)
        .outerjoin(IntakeRow, IntakeRow.case_id == LedgerRow.case_id)
        .where(LedgerRow.sequence == 1, LedgerRow.case_id.in_([each.key for each in links]))
    )
    found = {row.values["case_id"]: row.values for row in read_rows(connection, query)}
    for each in links:
        row = found.get(each.key)
        if row is None:
            check.row("case_deleted", each, "已受理的案件,台账中没有第1条记录:被删除。")
        elif row["opened"] is not None and f'"hash":"{row["hash"]}"' not in row["opened"]:
            check.row("opening_differs", each, "受理的内容与台账第1条不是同一条记录。")


def _unlinked(source: _Source, journal: Journal, district: str) -> Select[Any]:
    key = _key(source)
    linked = exists().where(JournalRow.journal == journal.value, JournalRow.key == key)
    return select(key).where(source.table.__table__.c.district == district, ~linked).order_by(key)

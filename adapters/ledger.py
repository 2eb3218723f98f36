"""The ledger in SQL: append-only, with its read models and notices in the same transaction."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, false, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.database import Database
from adapters.projection import project
from adapters.tables import (
    AssignmentRow,
    CaseRow,
    ClockRow,
    IntakeRow,
    LedgerRow,
    NoticeRow,
    PersonRow,
    PostRow,
    TermsRow,
    TimelineRow,
)
from domain import audit
from domain.case import CaseId, CaseState
from domain.district import Terms
from domain.errors import LedgerConflict
from domain.events import Entry
from domain.lifecycle import evolve, fold
from domain.notices import Address, Notice, notice_of
from domain.ports import Recorded


class NotFound(LookupError):
    """There is no such row."""


class LedgerStore:
    """Implements `domain.ports.Ledger`."""

    _database: Database
    _terms: dict[str, Terms]

    async def record(self, entries: Sequence[Entry], terms: Terms) -> Recorded:
        """Append the entries, project them and write their notices, in one transaction.

        Raises:
            LedgerConflict: see `domain.ports.Ledger.record`.
            StoreUnavailable: the database is away.
        """
        async with self._database.write() as connection:
            return await append(self._database, connection, entries, terms)

    async def entries(self, case_id: CaseId) -> list[Entry]:
        """Return the case's entries in order, with their hashes."""
        return _parsed(await self.raw_entries(case_id))

    async def raw_entries(self, case_id: CaseId) -> list[tuple[str, str]]:
        """Return the canonical texts with their hashes, as they stand."""
        async with self._database.read() as connection:
            return await _raw_entries(connection, case_id)

    async def terms_of(self, case_id: CaseId) -> Terms:
        """Return the terms that the case was opened under.

        Raises:
            NotFound: no such case was taken.
        """
        async with self._database.read() as connection:
            return await self._terms_of(connection, case_id)

    async def rebuild(self, case_ids: Sequence[CaseId] | None = None) -> int:
        """Throw the read models away and project them again from the ledger; return the number of entries.

        Each case is one transaction under its lock, so that it may be done while others write.
        """
        if case_ids is None:
            async with self._database.read() as connection:
                found = await connection.execute(select(LedgerRow.case_id).distinct())
                case_ids = [CaseId(row.case_id) for row in found]
        folded = 0
        for case_id in case_ids:
            async with self._database.write() as connection:
                await self._database.lock_case(connection, case_id)
                folded += await self._rebuild_case(connection, case_id)
        return folded

    async def _rebuild_case(self, connection: AsyncConnection, case_id: CaseId) -> int:
        for table in (CaseRow, AssignmentRow, ClockRow, TimelineRow):
            await connection.execute(delete(table).where(table.case_id == case_id))
        terms = await self._terms_of(connection, case_id)
        entries = _parsed(await _raw_entries(connection, case_id))
        if entries:
            await project(self._database, connection, None, fold(entries), entries, terms)
        return len(entries)

    async def _terms_of(self, connection: AsyncConnection, case_id: CaseId) -> Terms:
        query = select(IntakeRow.terms_id).where(IntakeRow.case_id == case_id)
        terms_id = (await connection.execute(query)).scalar_one_or_none()
        if terms_id is None:
            raise NotFound(case_id)
        if terms_id not in self._terms:
            document = select(TermsRow.document).where(TermsRow.id == terms_id)
            self._terms[terms_id] = Terms.model_validate_json(
                (await connection.execute(document)).scalar_one()
            )
        return self._terms[terms_id]


async def append(
    database: Database, connection: AsyncConnection, entries: Sequence[Entry], terms: Terms
) -> Recorded:
    """Append within a transaction that the caller holds; see `LedgerStore.record`."""
    case_id = entries[0].case_id
    await database.lock_case(connection, case_id)
    held = await _held(connection, case_id, entries)
    fresh = [entry for entry in entries if entry.sequence not in held]
    state, last = await _newest(connection, case_id)
    if fresh:
        _require_chain(fresh, last)
        await connection.execute(insert(LedgerRow), [_ledger_row(entry) for entry in fresh])
        before, notices = state, []
        for entry in fresh:
            state = evolve(state, entry)
            if notice := notice_of(entry, state, terms):
                notices.append((entry, notice))
        assert state is not None  # noqa: S101 - at least one entry was folded
        await project(database, connection, before, state, fresh, terms)
        await _write_notices(database, connection, state.call.district, notices)
        last = fresh[-1].sequence, fresh[-1].hash
    return Recorded(sequence=last[0], hash=last[1])


async def _held(connection: AsyncConnection, case_id: CaseId, entries: Iterable[Entry]) -> set[int]:
    """Return which of these places are taken, by these very entries."""
    wanted = {entry.sequence: entry.hash for entry in entries}
    query = select(LedgerRow.sequence, LedgerRow.hash).where(
        LedgerRow.case_id == case_id, LedgerRow.sequence.in_(wanted)
    )
    held = {row.sequence: row.hash for row in await connection.execute(query)}
    for sequence, hash_ in held.items():
        if wanted[sequence] != hash_:
            raise LedgerConflict(
                "ledger_conflict", f"台账第 {sequence} 条已有不同的记录,请立即报告审计人员。"
            )
    return set(held)


async def _newest(connection: AsyncConnection, case_id: CaseId) -> tuple[CaseState | None, tuple[int, str]]:
    query = (
        select(LedgerRow.sequence, LedgerRow.hash)
        .where(LedgerRow.case_id == case_id)
        .order_by(LedgerRow.sequence.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None, (0, audit.GENESIS)
    projected = select(CaseRow.state).where(CaseRow.case_id == case_id, CaseRow.sequence == row.sequence)
    state = (await connection.execute(projected)).scalar_one_or_none()
    if state is None:
        return fold(_parsed(await _raw_entries(connection, case_id))), (row.sequence, row.hash)
    return CaseState.model_validate_json(state), (row.sequence, row.hash)


def _require_chain(fresh: Sequence[Entry], last: tuple[int, str]) -> None:
    """Raise unless the entries follow on what stands, without a gap and with hashes that are right."""
    sequence, previous = last
    for entry in fresh:
        if entry.sequence != sequence + 1:
            raise LedgerConflict("ledger_gap", f"台账缺少第 {sequence + 1} 条记录,稍后重试。")
        if entry.previous != previous or entry.hash != audit.digest(audit.canonical(entry)):
            raise LedgerConflict(
                "ledger_conflict", f"第 {entry.sequence} 条记录与哈希链不符,请立即报告审计人员。"
            )
        sequence, previous = entry.sequence, entry.hash


def _ledger_row(entry: Entry) -> dict[str, Any]:
    return {
        "case_id": entry.case_id,
        "sequence": entry.sequence,
        "at": entry.at,
        "kind": entry.event.kind,
        "entry": audit.canonical(entry),
        "hash": entry.hash,
    }


async def _raw_entries(connection: AsyncConnection, case_id: CaseId) -> list[tuple[str, str]]:
    query = (
        select(LedgerRow.entry, LedgerRow.hash)
        .where(LedgerRow.case_id == case_id)
        .order_by(LedgerRow.sequence)
    )
    return [(row.entry, row.hash) for row in await connection.execute(query)]


def _parsed(raw: Iterable[tuple[str, str]]) -> list[Entry]:
    return [Entry.model_validate({**json.loads(content), "hash": hash_}) for content, hash_ in raw]


async def _write_notices(
    database: Database, connection: AsyncConnection, district: str, notices: Sequence[tuple[Entry, Notice]]
) -> None:
    """Write one row for each (entry, person); never to the person who caused it."""
    rows = [
        notice_row(
            district,
            entry.case_id,
            reason=f"entry-{entry.sequence}",
            sequence=entry.sequence,
            receiver=person,
            title=notice.title,
            text=notice.text,
            at=entry.at,
        )
        for entry, notice in notices
        for person in await _people(connection, district, notice.to)
        if entry.by is None or person != entry.by.id
    ]
    if rows:
        await connection.execute(database.insert_new(NoticeRow), rows)


def notice_row(
    district: str,
    case_id: str,
    *,
    reason: str,
    sequence: int,
    receiver: str,
    title: str,
    text: str,
    at: datetime,
) -> dict[str, Any]:
    """Return a notice that has not left; `reason` makes it the only one of its case and receiver."""
    return {
        "district": district,
        "case_id": case_id,
        "reason": reason,
        "sequence": sequence,
        "receiver": receiver,
        "title": title,
        "text": text,
        "created_at": at,
        "next_attempt_at": at,
        "sent_at": None,
        "read_at": None,
        "attempts": 0,
        "last_error": "",
    }


async def _people(connection: AsyncConnection, district: str, addresses: Sequence[Address]) -> list[str]:
    query = (
        select(PersonRow.id)
        .join(PostRow, PostRow.person == PersonRow.id)
        .where(PersonRow.district == district, PersonRow.active, or_(false(), *map(_at, addresses)))
        .distinct()
        .order_by(PersonRow.id)
    )
    return list((await connection.execute(query)).scalars())


def _at(address: Address) -> ColumnElement[bool]:
    conditions: list[ColumnElement[bool]] = [PostRow.role.in_([role.value for role in address.roles])]
    if address.organisation is not None:
        conditions.append(PostRow.organisation == address.organisation)
    if address.only_on_duty:
        conditions.append(PersonRow.on_duty.is_(True))
    if address.stationed_in is not None:
        conditions.append(PostRow.township == address.stationed_in)
    return and_(*conditions)

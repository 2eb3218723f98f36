"""The ledger in SQL: append-only, with its read models and notices in the same transaction."""

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import groupby
from threading import Lock
from typing import Any, TypeAlias

from sqlalchemy import BindParameter, Connection, bindparam, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.database import Database
from adapters.projection import READ_MODELS, Step, project
from adapters.tables import (
    CaseRow,
    IntakeRow,
    LedgerRow,
    NoticeRow,
    PersonRow,
    PostRow,
    TermsRow,
)
from domain import audit
from domain.case import CaseId, CaseState
from domain.district import Terms
from domain.errors import LedgerConflict
from domain.events import Entry, TermsAdopted
from domain.lifecycle import evolve, fold, terms_after
from domain.notices import Address, Notice, leaves_at, notice_of
from domain.ports import Recorded

_Told: TypeAlias = tuple[CaseState, Entry, Notice, datetime]
"""A notice with the entry that causes it, the case after it, and when it may leave."""
_Waiting: TypeAlias = tuple[Sequence[Entry], asyncio.Future[Recorded]]
_GROUP = 100
"""How many cases share a transaction at most."""
_BUSY = 0.02
"""How many seconds after a transaction the next one counts as following closely."""
_COMPANY = 0.01
"""How many seconds it then waits for others to go with."""


class NotFound(LookupError):
    """There is no such row."""


class LedgerStore:
    """Implements `domain.ports.Ledger`.

    What arrives while a transaction is under way waits for the next one, and goes together: the cost of a
    transaction is shared by all cases that are busy at the same moment, and nobody fights for the lock. While they
    follow one another closely each waits a moment for company; on a quiet day nobody waits.
    """

    _database: Database
    _terms: dict[CaseId, Terms]
    _waiting: list[_Waiting]
    _writer: asyncio.Task[None] | None
    _busy_until: float

    async def record(self, entries: Sequence[Entry]) -> Recorded:
        """Append the entries, project them and write their notices, in one transaction.

        Raises:
            LedgerConflict: see `domain.ports.Ledger.record`.
            StoreUnavailable: the database is away.
        """
        answer: asyncio.Future[Recorded] = asyncio.get_running_loop().create_future()
        self._waiting.append((entries, answer))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_groups())
        return await answer

    async def _write_groups(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            if loop.time() < self._busy_until:
                await asyncio.sleep(_COMPANY)
            group, self._waiting = self._distinct_cases()
            try:
                recorded = await self._append([each for each, _ in group])
            except LedgerConflict:
                await self._write_singly(group)
            except Exception as error:  # whoever waits is told, whatever it is
                _fail(group, error)
            else:
                for (_, answer), result in zip(group, recorded, strict=True):
                    if not answer.done():
                        answer.set_result(result)
            self._busy_until = loop.time() + _BUSY

    async def _write_singly(self, group: Sequence[_Waiting]) -> None:
        """Write one after the other, so that a conflict of one case holds up no other."""
        for each, answer in group:
            try:
                (recorded,) = await self._append([each])
            except Exception as error:  # the same
                _fail([(each, answer)], error)
            else:
                if not answer.done():
                    answer.set_result(recorded)

    def _distinct_cases(self) -> tuple[list[Any], list[Any]]:
        """Take what goes together: one request a case, up to a limit; the rest waits."""
        taken: dict[CaseId, Any] = {}
        rest = []
        for each in self._waiting:
            if each[0][0].case_id in taken or len(taken) >= _GROUP:
                rest.append(each)
            else:
                taken[each[0][0].case_id] = each
        return list(taken.values()), rest

    async def _append(self, appends: Sequence[Sequence[Entry]]) -> list[Recorded]:
        return await asyncio.to_thread(self._append_in_thread, appends)

    def _append_in_thread(self, appends: Sequence[Sequence[Entry]]) -> list[Recorded]:
        """Do a whole transaction in one thread: a hop a statement would cost more than the statements."""
        with self._database.write_in_thread() as connection:
            return append(self._database, connection, appends, self._terms)

    async def entries(self, case_id: CaseId) -> list[Entry]:
        """Return the case's entries in order, with their hashes."""
        return _parsed(await self.raw_entries(case_id))

    async def raw_entries(self, case_id: CaseId) -> list[tuple[str, str]]:
        """Return the canonical texts with their hashes, as they stand."""
        async with self._database.read() as connection:
            return await connection.run_sync(_raw_entries, case_id)

    async def terms_of(self, case_id: CaseId) -> Terms:
        """Return the terms that hold for the case: those that it was opened under, or adopted since.

        Raises:
            NotFound: no such case was taken.
        """
        async with self._database.read() as connection:
            return await self._terms_of(connection, case_id)

    async def rebuild(self, case_ids: Sequence[CaseId] | None = None) -> int:
        """Throw the read models away and project them again from the ledger; return the number of entries.

        Some cases share a transaction, each under its lock, so that it may be done while others write.
        """
        if case_ids is None:
            async with self._database.read() as connection:
                found = await connection.execute(select(LedgerRow.case_id).distinct())
                case_ids = [CaseId(row.case_id) for row in found]
        folded = 0
        for start in range(0, len(case_ids), _GROUP):
            folded += await asyncio.to_thread(self._rebuild_cases, case_ids[start : start + _GROUP])
        return folded

    def _rebuild_cases(self, case_ids: Sequence[CaseId]) -> int:
        with self._database.write_in_thread() as connection:
            self._database.lock_cases(connection, case_ids)
            for table in READ_MODELS:
                connection.execute(delete(table).where(table.case_id.in_(case_ids)))
            held = _entries_of(connection, case_ids)
            opened_under = _terms_at_intake(connection, list(held))
            steps = [
                Step(before=None, after=fold(entries), entries=entries, terms=opened_under[case_id])
                for case_id, entries in held.items()
            ]
            if steps:
                project(self._database, connection, steps)
            return sum(map(len, held.values()))

    async def _terms_of(self, connection: AsyncConnection, case_id: CaseId) -> Terms:
        """Ask anew: another process may have recorded that the case adopted newer ones."""
        learnt: dict[CaseId, Terms] = {}
        await connection.run_sync(_learn_terms, [case_id], learnt)
        return learnt[case_id]


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for _, answer in group:
        if not answer.done():
            answer.set_exception(error)


def append(
    database: Database,
    connection: Connection,
    appends: Sequence[Sequence[Entry]],
    known: dict[CaseId, Terms],
) -> list[Recorded]:
    """Append within a transaction that the caller holds; entries of one case each.

    Args:
        known: terms by case, kept from one time to the next.

    Raises:
        LedgerConflict: of any of them; nothing is written. Nothing is written for a case either of which other
            entries stand.
    """
    case_ids = [each[0].case_id for each in appends]
    database.lock_cases(connection, case_ids)
    _learn_terms(connection, case_ids, known)
    newest = _newest(connection, case_ids)
    held = _held(connection, [each for each in appends if _overlaps(each, newest)])
    standing = _standing(connection, appends, held)
    steps: list[Step] = []
    notices: list[_Told] = []
    recorded: list[Recorded] = []
    rows: list[dict[str, Any]] = []
    for each in appends:
        case_id = each[0].case_id
        state, last = newest.get(case_id, (None, _NOTHING))
        if case_id in standing:
            recorded.append(last.model_copy(update={"standing": standing[case_id]}))
            continue
        fresh = [entry for entry in each if (case_id, entry.sequence) not in held]
        if fresh:
            rows += _rows(fresh, last)
            step, told, known[case_id] = _step(state, fresh, known[case_id])
            steps.append(step)
            notices += told
            last = Recorded(sequence=fresh[-1].sequence, hash=fresh[-1].hash)
            _STATES.keep(last.hash, step.after)
        recorded.append(last)
    if steps:
        connection.execute(_NEW_ENTRY, rows)
        project(database, connection, steps)
        _write_notices(database, connection, notices)
    return recorded


# Statements are made once: making one costs more than running it.
_CASE_IDS: BindParameter[list[str]] = bindparam("case_ids", expanding=True)
_PLACES = select(LedgerRow.case_id, LedgerRow.sequence, LedgerRow.hash).where(
    LedgerRow.case_id.in_(_CASE_IDS), LedgerRow.sequence >= bindparam("first")
)
_LAST = (
    select(LedgerRow.case_id, func.max(LedgerRow.sequence).label("sequence"))
    .where(LedgerRow.case_id.in_(_CASE_IDS))
    .group_by(LedgerRow.case_id)
    .subquery()
)
_NEWEST = (
    select(_LAST.c.case_id, _LAST.c.sequence, LedgerRow.hash, CaseRow.state)
    .join(LedgerRow, (LedgerRow.case_id == _LAST.c.case_id) & (LedgerRow.sequence == _LAST.c.sequence))
    .outerjoin(CaseRow, (CaseRow.case_id == _LAST.c.case_id) & (CaseRow.sequence == _LAST.c.sequence))
)
_TERMS = (
    select(IntakeRow.case_id, TermsRow.document)
    .join(TermsRow, TermsRow.id == IntakeRow.terms_id)
    .where(IntakeRow.case_id.in_(_CASE_IDS))
)
_ADOPTED = (
    select(LedgerRow.case_id, LedgerRow.entry)
    .where(LedgerRow.case_id.in_(_CASE_IDS), LedgerRow.kind == TermsAdopted.model_fields["kind"].default)
    .order_by(LedgerRow.case_id, LedgerRow.sequence)
)
_POSTS = (
    select(
        PersonRow.district,
        PersonRow.id,
        PersonRow.on_duty,
        PostRow.role,
        PostRow.organisation,
        PostRow.township,
        PostRow.squad,
    )
    .join(PostRow, PostRow.person == PersonRow.id)
    .where(PersonRow.district.in_(bindparam("districts", expanding=True)), PersonRow.active)
)
_NOTHING = Recorded(sequence=0, hash=audit.GENESIS)
_NEW_ENTRY = insert(LedgerRow)


def _learn_terms(connection: Connection, case_ids: Sequence[CaseId], known: dict[CaseId, Terms]) -> None:
    """See that the terms that hold for these cases are known; equal documents are read once.

    Raises:
        NotFound: a case that was never taken.
    """
    unknown = [case_id for case_id in case_ids if case_id not in known]
    if not unknown:
        return
    while len(known) > _TERMS_KEPT:
        del known[next(iter(known))]
    known |= _terms_at_intake(connection, unknown)
    for row in connection.execute(_ADOPTED, {"case_ids": unknown}):  # in order: the newest stays
        adopted = Entry.model_validate({**json.loads(row.entry), "hash": ""})
        known[CaseId(row.case_id)] = terms_after(adopted, known[CaseId(row.case_id)])


def _terms_at_intake(connection: Connection, case_ids: Sequence[CaseId]) -> dict[CaseId, Terms]:
    found = {
        CaseId(row.case_id): _read_terms(row.document)
        for row in connection.execute(_TERMS, {"case_ids": list(case_ids)})
    }
    if missing := [case_id for case_id in case_ids if case_id not in found]:
        raise NotFound(missing)
    return found


@lru_cache(maxsize=64)
def _read_terms(document: str) -> Terms:
    return Terms.model_validate_json(document)


_TERMS_KEPT = 10_000


def _step(before: CaseState | None, fresh: Sequence[Entry], terms: Terms) -> tuple[Step, list[_Told], Terms]:
    """Return the step that these entries make, what is to be told of it, and the terms that hold after it."""
    state, told, now = before, list[_Told](), terms
    for entry in fresh:
        state, now = evolve(state, entry), terms_after(entry, now)
        if notice := notice_of(entry, state, now):
            told.append((state, entry, notice, leaves_at(entry.at, state, now.policy)))
    assert state is not None  # noqa: S101 - at least one entry was folded
    return Step(before=before, after=state, entries=fresh, terms=terms), told, now


def _overlaps(entries: Sequence[Entry], newest: Mapping[str, tuple[CaseState, Recorded]]) -> bool:
    """Whether the ledger reaches to where these begin: some of them may stand already."""
    known = newest.get(entries[0].case_id)
    return known is not None and known[1].sequence >= entries[0].sequence


def _held(connection: Connection, appends: Sequence[Sequence[Entry]]) -> dict[tuple[str, int], str]:
    """Return which of these places are taken, with the hashes that stand there."""
    if not appends:
        return {}
    wanted = {(entry.case_id, entry.sequence): entry.hash for each in appends for entry in each}
    first = min(sequence for _, sequence in wanted)
    found = connection.execute(
        _PLACES, {"case_ids": list({case_id for case_id, _ in wanted}), "first": first}
    )
    return {(row.case_id, row.sequence): row.hash for row in found if (row.case_id, row.sequence) in wanted}


def _standing(
    connection: Connection, appends: Sequence[Sequence[Entry]], held: Mapping[tuple[str, int], str]
) -> dict[CaseId, tuple[Entry, ...]]:
    """Return what stands where these differ, by case: whole chains that go on from the same entry as these.

    Raises:
        LedgerConflict: anything else stands there.
    """
    standing: dict[CaseId, tuple[Entry, ...]] = {}
    for each in appends:
        differing = (
            entry for entry in each if held.get((entry.case_id, entry.sequence), entry.hash) != entry.hash
        )
        if (first := next(differing, None)) is not None:
            standing[first.case_id] = _standing_from(connection, first)
    return standing


def _standing_from(connection: Connection, ours: Entry) -> tuple[Entry, ...]:
    conflict = LedgerConflict(
        "ledger_conflict", f"台账第 {ours.sequence} 条已有不同的记录,请立即报告审计人员。"
    )
    raw = _raw_entries(connection, ours.case_id, from_sequence=ours.sequence)
    if len(raw) > _MOST_STANDING:
        raise conflict
    try:
        entries = tuple(_parsed(raw))
        audit.check_chain(entries, first=ours.sequence, previous=ours.previous)
    except (ValueError, LedgerConflict):  # whatever was put there
        raise conflict from None
    return entries


_MOST_STANDING = 200
"""A lost task leaves what one task decided: far fewer. What is handed out goes into a history, which has limits."""


class _States:
    """States by the hash of their newest entry: it binds everything before it, and so all that they are.

    Reading a state back from its text took longer than writing it. Locked: doors and ledger may share a process.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._states: dict[str, CaseState] = {}
        self._lock = Lock()

    def of(self, hash_: str) -> CaseState | None:
        """Return the state, if it is remembered, and forget it: the next entry is about to replace it."""
        with self._lock:
            return self._states.pop(hash_, None)

    def keep(self, hash_: str, state: CaseState) -> None:
        """Remember the state; the oldest are forgotten."""
        with self._lock:
            self._states[hash_] = state
            if len(self._states) > self._most:
                del self._states[next(iter(self._states))]


_STATES = _States(2_000)


def _newest(connection: Connection, case_ids: Sequence[CaseId]) -> dict[str, tuple[CaseState, Recorded]]:
    """Return each case as the ledger has it, with its newest place; cases without entries are left out."""
    found: dict[str, tuple[CaseState, Recorded]] = {}
    for row in connection.execute(_NEWEST, {"case_ids": list(case_ids)}).all():
        if (known := _STATES.of(row.hash)) is not None:
            state = known
        elif row.state is not None:
            state = CaseState.model_validate_json(row.state)
        else:  # the read model is behind or was changed: the ledger itself knows
            state = fold(_parsed(_raw_entries(connection, row.case_id)))
        found[row.case_id] = state, Recorded(sequence=row.sequence, hash=row.hash)
    return found


def _rows(fresh: Sequence[Entry], last: Recorded) -> list[dict[str, Any]]:
    """Return the ledger's rows of these entries, if they follow on what stands, without a gap and with right hashes.

    Raises:
        LedgerConflict: they do not.
    """
    sequence, previous, rows = last.sequence, last.hash, []
    for entry in fresh:
        if entry.sequence != sequence + 1:
            raise LedgerConflict("ledger_gap", f"台账缺少第 {sequence + 1} 条记录,稍后重试。")
        text = audit.canonical(entry)
        if entry.previous != previous or entry.hash != audit.digest(text):
            raise LedgerConflict(
                "ledger_conflict", f"第 {entry.sequence} 条记录与哈希链不符,请立即报告审计人员。"
            )
        rows.append(
            {
                "case_id": entry.case_id,
                "sequence": entry.sequence,
                "at": entry.at,
                "kind": entry.event.kind,
                "entry": text,
                "hash": entry.hash,
            }
        )
        sequence, previous = entry.sequence, entry.hash
    return rows


def _raw_entries(connection: Connection, case_id: CaseId, from_sequence: int = 1) -> list[tuple[str, str]]:
    query = (
        select(LedgerRow.entry, LedgerRow.hash)
        .where(LedgerRow.case_id == case_id, LedgerRow.sequence >= from_sequence)
        .order_by(LedgerRow.sequence)
    )
    return [(row.entry, row.hash) for row in connection.execute(query)]


def _entries_of(connection: Connection, case_ids: Sequence[CaseId]) -> dict[CaseId, list[Entry]]:
    """Return the entries of these cases; those without any are left out."""
    query = (
        select(LedgerRow.case_id, LedgerRow.entry, LedgerRow.hash)
        .where(LedgerRow.case_id.in_(case_ids))
        .order_by(LedgerRow.case_id, LedgerRow.sequence)
    )
    rows = groupby(connection.execute(query), key=lambda row: row.case_id)
    return {CaseId(case_id): _parsed((row.entry, row.hash) for row in some) for case_id, some in rows}


def _parsed(raw: Iterable[tuple[str, str]]) -> list[Entry]:
    return [Entry.model_validate({**json.loads(content), "hash": hash_}) for content, hash_ in raw]


def _write_notices(database: Database, connection: Connection, notices: Sequence[_Told]) -> None:
    """Write one row for each (entry, person); never to the person who caused it."""
    posts = _posts(connection, {state.call.district for state, *_ in notices})
    rows = [
        notice_row(
            state.call.district,
            entry.case_id,
            reason=f"entry-{entry.sequence}",
            sequence=entry.sequence,
            receiver=person,
            title=title,
            text=notice.text,
            at=entry.at,
            leaves_at=leaving,
        )
        for state, entry, notice, leaving in notices
        for person, title in _receivers(posts[state.call.district], notice).items()
        if entry.by is None or person != entry.by.id
    ]
    if rows:
        connection.execute(database.insert_new(NoticeRow), rows)


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
    leaves_at: datetime | None = None,
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
        "next_attempt_at": leaves_at or at,
        "sent_at": None,
        "read_at": None,
        "attempts": 0,
        "last_error": "",
    }


def _posts(connection: Connection, districts: set[str]) -> dict[str, list[Any]]:
    """Return the posts of everybody active, by district."""
    found: dict[str, list[Any]] = {district: [] for district in districts}
    if not districts:
        return found
    for row in connection.execute(_POSTS, {"districts": list(districts)}):
        found[row.district].append(row)
    return found


def _receivers(posts: Sequence[Any], notice: Notice) -> dict[str, str]:
    """Return everybody whom the notice means, once, with its title for them: the first office they are of says it."""
    meant: dict[str, str] = {}
    for address in notice.to:
        for post in posts:
            if _is_meant(post, address):
                meant.setdefault(post.id, address.title or notice.title)
    for person in {post.id for post in posts} & notice.persons:
        meant.setdefault(person, notice.title)
    return dict(sorted(meant.items()))


def _is_meant(post: Any, address: Address) -> bool:
    return (
        post.role in address.roles
        and address.organisation in {None, post.organisation}
        and (post.on_duty or not address.only_on_duty)
        and address.stationed_in in {None, post.township}
        and (post.squad or not address.only_squad)
    )

"""What pages and lists read: plain SQL over the read models, never more than the reader may see."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, exists, false, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute

from adapters.database import Database
from adapters.tables import AssignmentRow, CaseRow, ClockRow, IntakeRow, TimelineRow, WatchRow
from domain.access import Sight
from domain.calendar import utc
from domain.case import NOBODY_IS_LATE, CaseId, CaseState, LeavingBy, Stage
from domain.errors import Invalid
from domain.policy import ClockKind
from domain.ports import Contact


class Sort(StrEnum):
    """What a list is sorted by; `next_due_at` is the earliest limit, passed or not, so that the latest stand first."""

    CALLED_AT = "called_at"
    ACTED_AT = "acted_at"
    NEXT_DUE_AT = "next_due_at"


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseQuery:
    """What to list; None means everything.

    Attributes:
        called_from, called_before: half-open period of the call.
        overdue: whether a clock runs that is red now.
        awaiting_sign: only cases that this department has still to sign.
        watched_by: only cases that this person follows.
        limit: 1 to 200.
    """

    district: str | None = None
    township: str | None = None
    department: str | None = None
    awaiting_sign: str | None = None
    stage: str | None = None
    category: str | None = None
    item: str | None = None
    urgency: str | None = None
    overdue: bool | None = None
    watched_by: str | None = None
    text: str | None = None
    called_from: datetime | None = None
    called_before: datetime | None = None
    sort: Sort = Sort.CALLED_AT
    descending: bool = True
    cursor: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseLine:
    """One row of a list.

    Attributes:
        next_due_at: the earliest limit that is not passed; None when there is none.
        overdue_since: the earliest that is.
    """

    case_id: CaseId
    district: str
    township: str
    stage: str
    category: str
    urgency: str
    item_code: str | None
    lead: str | None
    title: str
    called_at: datetime
    acted_at: datetime
    closed_at: datetime | None
    next_due_at: datetime | None
    overdue_since: datetime | None
    escalation_level: int
    policy_version: str
    overdue: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CasePage:
    """Some rows, and where the next page begins; None when there is none."""

    items: list[CaseLine]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineLine:
    """One thing that happened."""

    sequence: int
    at: datetime
    kind: str
    actor: str
    actor_name: str
    text: str


class QueryStore:
    """Reads; writes nothing."""

    _database: Database

    async def case(self, case_id: CaseId) -> CaseState | None:
        """Return the case as the read models have it, or None."""
        async with self._database.read() as connection:
            found = await connection.execute(select(CaseRow.state).where(CaseRow.case_id == case_id))
            state = found.scalar_one_or_none()
        return CaseState.model_validate_json(state) if state else None

    async def contact(self, case_id: CaseId) -> Contact | None:
        """Return whom to ask about the case: personal data, masked by the door where it must be."""
        query = select(IntakeRow.contact_name, IntakeRow.contact_phone).where(IntakeRow.case_id == case_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return Contact(name=row.contact_name, phone=row.contact_phone) if row else None

    async def timeline(self, case_id: CaseId) -> list[TimelineLine]:
        """Return what happened, oldest first."""
        query = select(TimelineRow).where(TimelineRow.case_id == case_id).order_by(TimelineRow.sequence)
        async with self._database.read() as connection:
            return [
                TimelineLine(
                    sequence=row.sequence,
                    at=row.at,
                    kind=row.kind,
                    actor=row.actor,
                    actor_name=row.actor_name,
                    text=row.text,
                )
                for row in await connection.execute(query)
            ]

    async def running(self, district: str) -> list[CaseId]:
        """Return the cases of a district that have not ended, or in which a follow-up or an appeal is open."""
        query = (
            select(CaseRow.case_id)
            .where(CaseRow.district == district, CaseRow.settled_at.is_(None))
            .order_by(CaseRow.case_id)
        )
        async with self._database.read() as connection:
            return [CaseId(found) for found in (await connection.execute(query)).scalars()]

    async def of_item_since(self, district: str, item: str, since: datetime) -> list[CaseState]:
        """Return the cases of an item that were called since then, newest first; merged and refused ones left out."""
        left_out = [Stage.MERGED.value, Stage.REFUSED.value, Stage.CANCELLED.value]
        query = (
            select(CaseRow.state)
            .where(
                CaseRow.district == district,
                CaseRow.item_code == item,
                CaseRow.called_at >= since,
                CaseRow.stage.not_in(left_out),
            )
            .order_by(CaseRow.called_at.desc())
            .limit(500)
        )
        async with self._database.read() as connection:
            states = (await connection.execute(query)).scalars().all()
        return [CaseState.model_validate_json(state) for state in states]

    async def cases(self, query: CaseQuery, sight: Sight, now: datetime) -> CasePage:
        """Return one page of the cases that the reader may see.

        Raises:
            Invalid: `bad_cursor` for a cursor that is not ours, or of another order.
        """
        overdue = _overdue(now)
        column: InstrumentedAttribute[Any] = getattr(CaseRow, query.sort.value)
        is_null = case((column.is_(None), 1), else_=0)
        listed = (
            select(CaseRow, overdue.label("overdue"))
            .where(_visible(sight), *_filters(query, overdue))
            .order_by(is_null, column.desc() if query.descending else column.asc(), CaseRow.case_id)
            .limit(query.limit + 1)
        )
        if query.cursor:
            listed = _after(listed, query, column, is_null)
        async with self._database.read() as connection:
            rows = (await connection.execute(listed)).all()
            shown = rows[: query.limit]
            found = await connection.execute(_coming([row.case_id for row in shown], now))
            coming: dict[str, datetime] = {row[0]: row[1] for row in found}
        items = [_line(row, coming.get(row.case_id), now) for row in shown]
        more = len(rows) > query.limit
        return CasePage(items=items, next_cursor=_cursor(query, shown[-1]) if more else None)

    async def states_called(
        self,
        *,
        district: str | None = None,
        called_from: datetime | None = None,
        called_before: datetime | None = None,
        department: str | None = None,
        township: str | None = None,
        batch: int = 200,
    ) -> AsyncIterator[list[CaseState]]:
        """Yield the cases of a half-open period as they were called, some at a time.

        Each batch is a transaction of its own, and goes on after the last one: a case is never met twice, and one
        that is called meanwhile is met at the end.

        Args:
            department: only cases that it is on, or was.
        """
        filters = _filters(
            CaseQuery(
                district=district, township=township, called_from=called_from, called_before=called_before
            ),
            false(),
        )
        if department is not None:
            filters.append(_assigned(department))
        query = (
            select(CaseRow.called_at, CaseRow.case_id, CaseRow.state)
            .where(*filters)
            .order_by(CaseRow.called_at, CaseRow.case_id)
            .limit(batch)
        )
        rest = query
        while True:
            async with self._database.read() as connection:
                rows = (await connection.execute(rest)).all()
            if not rows:
                return
            yield await asyncio.to_thread(_states, [row.state for row in rows])
            if len(rows) < batch:
                return
            last = rows[-1]
            same_moment = and_(CaseRow.called_at == last.called_at, CaseRow.case_id > last.case_id)
            rest = query.where(or_(CaseRow.called_at > last.called_at, same_moment))


def _states(documents: Sequence[str]) -> list[CaseState]:
    """Reading a few hundred takes as long as answering many requests: it is done in a thread."""
    return [CaseState.model_validate_json(document) for document in documents]


def _overdue(now: datetime) -> ColumnElement[bool]:
    return exists().where(
        ClockRow.case_id == CaseRow.case_id,
        ClockRow.ended_at.is_(None),
        ClockRow.kind != ClockKind.SUSPENSION.value,
        ClockRow.due_at < func.coalesce(ClockRow.paused_at, now),
    )


def _coming(case_ids: Sequence[str], now: datetime) -> Select[str, datetime]:
    """Ask for the earliest limit of each case that is not passed; the same as `domain.case.CaseState.coming_deadline`."""
    return (
        select(ClockRow.case_id, func.min(ClockRow.due_at))
        .where(
            ClockRow.case_id.in_(case_ids),
            ClockRow.ended_at.is_(None),
            ClockRow.paused_at.is_(None),
            ClockRow.kind.not_in([kind.value for kind in NOBODY_IS_LATE]),
            ClockRow.due_at >= now,
        )
        .group_by(ClockRow.case_id)
    )


def _line(row: Any, coming: datetime | None, now: datetime) -> CaseLine:
    columns = CaseLine.__dataclass_fields__.keys() - {"next_due_at", "overdue_since"}
    return CaseLine(
        **{name: getattr(row, name) for name in columns},
        next_due_at=coming,
        overdue_since=row.next_due_at if row.next_due_at and row.next_due_at < now else None,
    )


def _assigned(department: str, *, still: bool = False) -> ColumnElement[bool]:
    """Whether the department is on the case, or was; `still` asks for those only that have not left it."""
    found = exists().where(AssignmentRow.case_id == CaseRow.case_id, AssignmentRow.department == department)
    return found.where(AssignmentRow.status.not_in([each.value for each in LeavingBy])) if still else found


def _visible(sight: Sight) -> ColumnElement[bool]:
    """Return the condition that says the same as `domain.access.may_see`."""
    if sight.everything:
        return CaseRow.case_id.is_not(None)
    at_home: list[ColumnElement[bool]] = [_assigned(department) for department in sorted(sight.departments)]
    at_home += [
        and_(_assigned(department), CaseRow.township == township)
        for department, township in sorted(sight.stationed)
    ]
    at_home.append(CaseRow.township.in_(sorted(sight.townships)))
    at_home.append(CaseRow.caller_office.in_(sorted(sight.departments)))
    return or_(
        CaseRow.caller == sight.called_in_by,
        CaseRow.district == sight.district if sight.district else false(),
        and_(CaseRow.district == sight.home, or_(*at_home)),
    )


def _filters(query: CaseQuery, overdue: ColumnElement[bool]) -> list[ColumnElement[bool]]:
    equal = {
        CaseRow.district: query.district,
        CaseRow.township: query.township,
        CaseRow.stage: query.stage,
        CaseRow.category: query.category,
        CaseRow.item_code: query.item,
        CaseRow.urgency: query.urgency,
    }
    found = [column == value for column, value in equal.items() if value is not None]
    if query.department is not None:
        found.append(_assigned(query.department, still=True))
    if query.awaiting_sign is not None:
        unsigned = exists().where(
            AssignmentRow.case_id == CaseRow.case_id,
            AssignmentRow.department == query.awaiting_sign,
            AssignmentRow.status == "dispatched",
        )
        # One that stays away while others are at work has still to sign; one of a suspended or ended case has not.
        found += [CaseRow.stage.in_([Stage.DISPATCHED.value, Stage.ENFORCING.value]), unsigned]
    if query.watched_by is not None:
        found.append(exists().where(WatchRow.case_id == CaseRow.case_id, WatchRow.person == query.watched_by))
    if query.overdue is not None:
        found.append(overdue if query.overdue else ~overdue)
    if query.text:
        found.append(CaseRow.search_text.contains(query.text.lower(), autoescape=True))
    if query.called_from is not None:
        found.append(CaseRow.called_at >= query.called_from)
    if query.called_before is not None:
        found.append(CaseRow.called_at < query.called_before)
    return found


def _after(
    listed: Select[CaseRow, bool],
    query: CaseQuery,
    column: InstrumentedAttribute[Any],
    is_null: ColumnElement[int],
) -> Select[CaseRow, bool]:
    """Go on after the cursor's row; rows without a value come last, ties go by case id."""
    value, case_id = _read_cursor(query)
    if value is None:
        return listed.where(is_null == 1, CaseRow.case_id > case_id)
    beyond = column < value if query.descending else column > value
    return listed.where(or_(is_null == 1, beyond, and_(column == value, CaseRow.case_id > case_id)))


def _cursor(query: CaseQuery, last: Any) -> str:
    value: datetime | None = getattr(last, query.sort.value)
    content = [query.sort.value, query.descending, value.isoformat() if value else None, last.case_id]
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")


def _read_cursor(query: CaseQuery) -> tuple[datetime | None, str]:
    text = query.cursor or ""
    try:
        sort, descending, value, case_id = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        moment = utc(datetime.fromisoformat(value)) if value else None
    except (ValueError, TypeError, OverflowError):
        raise _BAD_CURSOR from None
    if (sort, descending) != (query.sort.value, query.descending) or not isinstance(case_id, str):
        raise _BAD_CURSOR
    if "\0" in case_id:
        raise _BAD_CURSOR
    return moment, case_id


_BAD_CURSOR = Invalid("bad_cursor", "翻页标记无效,或与当前排序不符;请从第一页重新查询。")

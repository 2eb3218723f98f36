"""Working time of Asia/Shanghai: office hours, public holidays, make-up working days (调休), a district's special days.

Boundaries: office hours are half open, so that 12:00 and 17:30 are outside; a deadline may fall on such a closing
moment, and is then kept up to and including it.
"""

import itertools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Annotated, Any, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

SHANGHAI = timezone(timedelta(hours=8), "Asia/Shanghai")
"""A fixed offset: China has had no daylight saving since 1991, and it cannot change under a replay."""


def utc(moment: datetime) -> datetime:
    """Return the moment in UTC.

    Raises:
        ValueError: it is naive.
    """
    if moment.tzinfo is None:
        msg = "时间须带时区"
        raise ValueError(msg)
    return moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(utc)]
"""An aware moment, normalised to UTC."""


class Unit(StrEnum):
    """How a limit is counted (domain.md §4)."""

    WORKING_TIME = "working_time"
    WORKING_DAYS = "working_days"
    CONTINUOUS = "continuous"


_SPELLINGS: dict[str, tuple[Unit, Callable[[float], timedelta] | None, str]] = {
    "working_minutes": (Unit.WORKING_TIME, lambda amount: timedelta(minutes=amount), "工作分钟"),
    "working_hours": (Unit.WORKING_TIME, lambda amount: timedelta(hours=amount), "工作小时"),
    "working_days": (Unit.WORKING_DAYS, None, "个工作日"),
    "minutes": (Unit.CONTINUOUS, lambda amount: timedelta(minutes=amount), "分钟"),
    "hours": (Unit.CONTINUOUS, lambda amount: timedelta(hours=amount), "小时"),
    "days": (Unit.CONTINUOUS, lambda amount: timedelta(days=amount), "天"),
}


_LONGEST = timedelta(days=3660)
"""Ten years: beyond it a limit is a slip of the pen, and the calendar has no days."""


class Limit(BaseModel):
    """A length of time with the way in which it is counted; zero means at once.

    Written in a policy file as a table with one key: `{working_minutes = 30}`, `{working_hours = 2}`,
    `{working_days = 3}`, `{minutes = 15}`, `{hours = 2}`, `{days = 7}`.

    Attributes:
        time: for working time and continuous time.
        days: for working days.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    unit: Unit
    time: Annotated[timedelta, Field(ge=timedelta(0))] = timedelta(0)
    days: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="before")
    @classmethod
    def _read_table(cls, value: Any) -> Any:  # whatever a file holds
        if not isinstance(value, dict) or "unit" in value:
            return value
        if len(value) != 1 or next(iter(value)) not in _SPELLINGS:
            msg = f"时限须恰有一个单位:{'、'.join(_SPELLINGS)}"
            raise ValueError(msg)
        ((spelling, amount),) = value.items()
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount >= 0:
            msg = f"{spelling} 须为不小于零的数字"
            raise ValueError(msg)
        unit, length, _ = _SPELLINGS[spelling]
        try:
            lasts = timedelta(days=amount) if length is None else length(amount)
        except OverflowError:
            lasts = timedelta.max
        if lasts > _LONGEST:
            msg = f"{spelling} 过长:时限最长 {_LONGEST.days} 天"
            raise ValueError(msg)
        if length is not None:
            return {"unit": unit, "time": lasts}
        if amount != int(amount):
            msg = f"{spelling} 须为整数"
            raise ValueError(msg)
        return {"unit": unit, "days": int(amount)}

    def __str__(self) -> str:
        """Return it as people say it: '30工作分钟', '3个工作日', '2小时'."""
        if self.unit is Unit.WORKING_DAYS:
            return f"{self.days}个工作日"
        minutes = self.time.total_seconds() / 60
        working = "工作" if self.unit is Unit.WORKING_TIME else ""
        for size, name in ((24 * 60, "天"), (60, "小时"), (1, "分钟")):
            if minutes and minutes % size == 0 and not (working and name == "天"):
                return f"{minutes / size:g}{working}{name}"
        return f"{minutes:g}{working}分钟"


class Due(NamedTuple):
    """When something is due, in UTC, and whether that rests on a year without published notice."""

    at: datetime
    estimated: bool


_MIDNIGHT = time()
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_SATURDAY = 5


def _since_midnight(moment: time) -> timedelta:
    return timedelta(
        hours=moment.hour, minutes=moment.minute, seconds=moment.second, microseconds=moment.microsecond
    )


def _read_time_of_day(value: Any) -> Any:  # whatever a file holds
    if isinstance(value, time):
        return _since_midnight(value)
    if isinstance(value, str):
        if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d|24:00", value):
            msg = "时刻应写成 00:00 至 24:00"
            raise ValueError(msg)
        hour, minute = value.split(":")
        return timedelta(hours=int(hour), minutes=int(minute))
    return value


def _whole_minute_of_a_day(value: timedelta) -> timedelta:
    if value % _MINUTE or not timedelta(0) <= value <= _DAY:
        msg = "时刻应为 00:00 至 24:00 的整分钟"
        raise ValueError(msg)
    return value


def _write_time_of_day(value: timedelta) -> str:
    hour, minute = divmod(value // _MINUTE, 60)
    return f"{hour:02}:{minute:02}"


TimeOfDay = Annotated[
    timedelta,
    BeforeValidator(_read_time_of_day),
    AfterValidator(_whole_minute_of_a_day),
    PlainSerializer(_write_time_of_day, when_used="json"),
]
"""A local time of day as the time since midnight, so that 24:00 can be said; written '08:30', '24:00'."""


def _require_order(hours: Sequence[tuple[Any, Any]]) -> None:
    moments = [moment for period in hours for moment in period]
    if any(earlier >= later for earlier, later in itertools.pairwise(moments)):
        msg = "办公时段须先后有序、互不重叠"
        raise ValueError(msg)


class SpecialKind(StrEnum):
    """What a district makes of a day.

    `off`: a local holiday, or a day on which offices are shut. `working`: an extra working day. `emergency`: worked
    whatever the weekday because of a flood or the like.
    """

    OFF = "off"
    WORKING = "working"
    EMERGENCY = "emergency"


class SpecialDay(BaseModel):
    """A day that a district sets itself; it goes before the State Council's holidays and make-up days.

    An emergency day is a working day, so that clocks run on it even at a weekend; by night they run only if the
    district says so with hours of its own. Without them it has the usual ones: an emergency must not make departments
    late at three in the morning unless somebody has decided that they are manned then. Urgent limits are continuous
    and need no special day. A district whose routine business rests in an emergency declares the day `off`.

    Attributes:
        on: the day, in Asia/Shanghai.
        reason: in Chinese, for whoever asks why a deadline moved.
        hours: this day's own office hours, half open, in order; None for the usual ones.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    on: date
    kind: SpecialKind
    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    hours: Annotated[tuple[tuple[TimeOfDay, TimeOfDay], ...], Field(min_length=1)] | None = None

    @field_validator("hours")
    @classmethod
    def _in_order(
        cls, hours: tuple[tuple[timedelta, timedelta], ...] | None, known: ValidationInfo
    ) -> tuple[tuple[timedelta, timedelta], ...] | None:
        if hours is not None:
            if known.data.get("kind") is SpecialKind.OFF:
                msg = "放假(off)的日子不能有办公时段"
                raise ValueError(msg)
            _require_order(hours)
        return hours


class CalendarData(BaseModel):
    """The calendar as data: it goes into histories.

    Attributes:
        office_hours: local half-open periods of a working day, in order.
        days_off: weekdays that are not worked.
        make_up_days: Saturdays and Sundays that are worked.
        published_until: last day for which the State Council's notice is known; what lies beyond is estimated.
        special_days: the district's own days, which go before all the others.
        published_from: first day for which it is known; what lies before is estimated, too.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str
    office_hours: Annotated[tuple[tuple[time, time], ...], Field(min_length=1)]
    days_off: tuple[date, ...]
    make_up_days: tuple[date, ...]
    published_until: date
    special_days: tuple[SpecialDay, ...] = ()
    published_from: date = date.min

    @field_validator("office_hours")
    @classmethod
    def _in_order(cls, hours: tuple[tuple[time, time], ...]) -> tuple[tuple[time, time], ...]:
        _require_order(hours)
        return hours

    @model_validator(mode="after")
    def _sorted_and_distinct(self) -> Self:
        if set(self.days_off) & set(self.make_up_days):
            msg = "同一天不能既放假又上班"
            raise ValueError(msg)
        if len({day.on for day in self.special_days}) != len(self.special_days):
            msg = "同一天只能有一个特殊日"
            raise ValueError(msg)
        return self


class _Table(NamedTuple):
    """Office periods of some whole years on end, numbered. Never changed, so that threads may share one.

    Attributes:
        first: the first day of these years.
        days: the working days, in order.
        starts, ends: the office periods, in UTC, in order.
        through: the working time from the first period to the end of each.
    """

    years: range
    first: date
    days: list[date]
    starts: list[datetime]
    ends: list[datetime]
    through: list[timedelta]


class WorkCalendar:
    """Counts working time. Built once for a calendar's data, then each answer takes microseconds.

    Working time since the beginning of a table is a single number at every moment, and adding time is adding
    numbers: the office periods of a few years are laid out with running sums, and looked up by halving.
    """

    def __init__(self, data: CalendarData) -> None:
        self.data = data
        self._off = frozenset(data.days_off)
        self._make_up = frozenset(data.make_up_days)
        self._special = {day.on: day for day in data.special_days}
        self._usual = tuple(
            (_since_midnight(start), _since_midnight(end)) for start, end in data.office_hours
        )
        self._until_midnight = frozenset(
            day.on for day in data.special_days if day.hours and day.hours[-1][1] == _DAY
        )
        self._table = _Table(range(date.max.year, 0), date.max, [], [], [], [])  # of no years yet

    def is_working_day(self, day: date) -> bool:
        """Whether offices work that day."""
        special = self._special.get(day)
        if special is not None:
            return special.kind is not SpecialKind.OFF
        return day in self._make_up or (day.weekday() < _SATURDAY and day not in self._off)

    def next_working_day(self, day: date) -> date:
        """Return the first working day strictly after."""
        return self._nth_after(day, 1)

    def opening(self, day: date) -> datetime:
        """Return when office hours of that day begin, were it worked."""
        return _moment(day, self._hours(day)[0][0])

    def closing(self, day: date) -> datetime:
        """Return when office hours of that day end, were it worked; for 24:00 that is midnight of the next."""
        return _moment(day, self._hours(day)[-1][1])

    def in_office_hours(self, moment: datetime) -> bool:
        """Whether offices work at that moment; at 12:00 and 17:30 they do not."""
        at, table, place = self._place(moment)
        return table.starts[place] <= at

    def next_office_moment(self, moment: datetime) -> datetime:
        """Return the moment itself within office hours, else when they next begin."""
        at, table, place = self._place(moment)
        return max(at, table.starts[place])

    def add_working_time(self, start: datetime, amount: timedelta) -> datetime:
        """Return the moment at which that much working time has passed.

        A start outside office hours counts from the next office minute. A result that falls on the end of a half
        day stays there: 12:00, not 13:30. No time at all gives the next office moment.

        Args:
            amount: not below zero.
        """
        at, table, place = self._place(start)
        worked = _worked(at, table, place) + amount
        while table.through[-1] < worked:
            table = self._longer(table)
        place = bisect_left(table.through, worked, lo=place)
        return table.ends[place] - (table.through[place] - worked)

    def working_time_between(self, start: datetime, end: datetime) -> timedelta:
        """Return how much working time lies between; nothing when the end is not after the start."""
        if end <= start:
            return timedelta(0)
        at, table, place = self._place(start)
        then, later, place_then = self._place(end, table)
        return _worked(then, later, place_then) - _worked(at, table, place)

    def end_of_working_day(self, start: datetime, days: int) -> datetime:
        """Return when office hours end on the n-th working day after the day of the start.

        The day of the start does not count, whatever the hour; on a day off the first working day after it is the
        first. No days at all means the end of today's office hours, or of the next working day's if they are over.

        Source: 民法典 §§ 201, 203.
        """
        day = start.astimezone(SHANGHAI).date()
        if days == 0:
            over = not self.is_working_day(day) or start > self.closing(day)
            return self.closing(self.next_working_day(day) if over else day)
        return self.closing(self._nth_after(day, days))

    def due(self, start: datetime, limit: Limit) -> Due:
        """Return when a limit that starts now is due."""
        match limit.unit:
            case Unit.CONTINUOUS:
                at = utc(start) + limit.time
                return Due(at, estimated=False)
            case Unit.WORKING_TIME:
                at = self.add_working_time(start, limit.time)
            case Unit.WORKING_DAYS:
                at = self.end_of_working_day(start, limit.days)
        return Due(at, estimated=self.is_estimated(at))

    def after_pause(
        self, due: datetime, paused_from: datetime, paused_until: datetime, unit: Unit
    ) -> datetime:
        """Return when something is due after a pause (挂账): as much time is left after it as there was before.

        Working time and working days move by exactly the working time that lay in the pause, continuous limits by its
        length. A deadline at closing time that moves by whole days stays at closing time; a pause without any working
        time, such as a weekend, moves nothing. What was late before the pause is as late after it: lateness does not
        grow meanwhile. Several pauses that do not overlap are applied one after the other, in order.

        Args:
            paused_from: for a clock that started within the pause, its start.
        """
        at = utc(due)
        if paused_until <= paused_from:
            return at
        if unit is Unit.CONTINUOUS:
            return at + (paused_until - paused_from)
        moved = self.working_time_between(paused_from, paused_until)
        return self.add_working_time(at, moved) if moved else at

    def yellow_at(
        self, started_at: datetime, due_at: datetime, unit: Unit, share: float | Decimal | Fraction
    ) -> datetime:
        """Return the moment when only this share of a limit is left, in the limit's own unit.

        For working time and working days that is working time: of 30 working minutes from 17:20 a quarter is left at
        08:42:30 the next working day, and not in the night. Where no working time lies between start and due moment
        (a township asked for 20:00), time is counted as continuous. Exact to the microsecond, rounded towards start.

        Args:
            share: between 0 and 1; a float means the decimal that it is written as, so that 0.1 is a tenth.
        """
        whole = timedelta(0)
        if unit is not Unit.CONTINUOUS:
            whole = self.working_time_between(started_at, due_at)
        in_working_time = bool(whole)
        if not in_working_time:
            whole = max(due_at - started_at, timedelta(0))
        passed = 1 - Fraction(str(share))
        until = whole * passed.numerator // passed.denominator
        if not until:
            return utc(started_at)
        return self.add_working_time(started_at, until) if in_working_time else utc(started_at) + until

    def is_estimated(self, moment: datetime) -> bool:
        """Whether the moment lies beyond the last published notice, or before the first that is known."""
        local = moment.astimezone(SHANGHAI)
        day = local.date()
        if self._until_midnight and local.time() == _MIDNIGHT and day - _DAY in self._until_midnight:
            day -= _DAY  # 24:00 of a special day belongs to it
        return not self.data.published_from <= day <= self.data.published_until

    def _hours(self, day: date) -> tuple[tuple[timedelta, timedelta], ...]:
        """Return the office hours of that day, were it worked, since its midnight."""
        special = self._special.get(day)
        return self._usual if special is None or special.hours is None else special.hours

    def _place(self, moment: datetime, table: _Table | None = None) -> tuple[datetime, _Table, int]:
        """Return the moment in UTC, a table, and in it the office period that holds the moment or comes next.

        Args:
            table: to begin with; the one returned counts working time from the same day, if it holds the moment.
        """
        at = utc(moment)
        table = self._covering(at.astimezone(SHANGHAI).date(), table)
        return at, table, bisect_right(table.ends, at)

    def _nth_after(self, day: date, count: int) -> date:
        """Return the working day that comes so many working days after this day, which need not be one."""
        table = self._covering(day)
        place = bisect_right(table.days, day) + count - 1
        while place >= len(table.days):
            table = self._longer(table)
        return table.days[place]

    def _covering(self, day: date, table: _Table | None = None) -> _Table:
        """Return a table that holds the day and a working day after it."""
        table = table or self._table
        while not (table.first <= day and table.days and day < table.days[-1]):
            years = table.years
            table = self._numbered(range(min(day.year, years.start), max(day.year + 1, years.stop) + 1))
        return table

    def _longer(self, table: _Table) -> _Table:
        """Return a table of twice as many years that begins on the same day."""
        return self._numbered(range(table.years.start, table.years.stop + len(table.years)))

    def _numbered(self, years: range) -> _Table:
        """Lay out the office periods of these years and keep them for the next question."""
        first = date(years.start, 1, 1)
        table = _Table(years, first, [], [], [], [])
        worked = timedelta(0)
        for number in range((date(years.stop - 1, 12, 31) - first).days + 1):
            day = first + timedelta(days=number)
            if not self.is_working_day(day):
                continue
            table.days.append(day)
            for start, end in self._hours(day):
                worked += end - start
                table.starts.append(_moment(day, start))
                table.ends.append(_moment(day, end))
                table.through.append(worked)
        self._table = table
        return table


def _worked(at: datetime, table: _Table, place: int) -> timedelta:
    """Return the working time from the beginning of the table to the moment, which lies before that period's end."""
    return table.through[place] - (table.ends[place] - max(at, table.starts[place]))


def _moment(day: date, clock: timedelta) -> datetime:
    return (datetime.combine(day, _MIDNIGHT, SHANGHAI) + clock).astimezone(UTC)

"""Working time of Asia/Shanghai: office hours, public holidays and make-up working days (调休).

Boundaries: office hours are half open, so that 12:00 and 17:30 are outside; a deadline may fall on such a closing
moment, and is then kept up to and including it.
"""

import itertools
from bisect import bisect_right
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from enum import StrEnum
from typing import Annotated, Any, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

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
        if isinstance(amount, bool) or not isinstance(amount, int | float) or amount < 0:
            msg = f"{spelling} 须为不小于零的数字"
            raise ValueError(msg)
        unit, length, _ = _SPELLINGS[spelling]
        if length is not None:
            return {"unit": unit, "time": length(amount)}
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


class CalendarData(BaseModel):
    """The calendar as data: it goes into histories.

    Attributes:
        office_hours: local half-open periods of a working day, in order.
        days_off: weekdays that are not worked.
        make_up_days: Saturdays and Sundays that are worked.
        published_until: last day for which the State Council's notice is known; what lies beyond is estimated.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str
    office_hours: Annotated[tuple[tuple[time, time], ...], Field(min_length=1)]
    days_off: tuple[date, ...]
    make_up_days: tuple[date, ...]
    published_until: date

    @field_validator("office_hours")
    @classmethod
    def _in_order(cls, hours: tuple[tuple[time, time], ...]) -> tuple[tuple[time, time], ...]:
        moments = [moment for period in hours for moment in period]
        if any(earlier >= later for earlier, later in itertools.pairwise(moments)):
            msg = "办公时段须先后有序、互不重叠"
            raise ValueError(msg)
        return hours

    @model_validator(mode="after")
    def _sorted_and_distinct(self) -> Self:
        if set(self.days_off) & set(self.make_up_days):
            msg = "同一天不能既放假又上班"
            raise ValueError(msg)
        return self


_MIDNIGHT = time()
_SATURDAY = 5


def _since_midnight(moment: time) -> timedelta:
    return timedelta(
        hours=moment.hour, minutes=moment.minute, seconds=moment.second, microseconds=moment.microsecond
    )


class WorkCalendar:
    """Counts working time. Built once for a calendar's data, then each answer takes microseconds.

    Working days are numbered through a year ahead of need; working time since the first of them is then a single
    number, and adding time is adding numbers.
    """

    def __init__(self, data: CalendarData) -> None:
        self.data = data
        self._off = frozenset(data.days_off)
        self._make_up = frozenset(data.make_up_days)
        self._periods = [(_since_midnight(start), _since_midnight(end)) for start, end in data.office_hours]
        self._before = [
            sum((e - s for s, e in self._periods[:n]), timedelta(0)) for n in range(len(self._periods))
        ]
        self.day_length: timedelta = sum((end - start for start, end in self._periods), timedelta(0))
        self._days: list[date] = []
        self._first = self._last = date.min

    def is_working_day(self, day: date) -> bool:
        """Whether offices work that day."""
        return day in self._make_up or (day.weekday() < _SATURDAY and day not in self._off)

    def next_working_day(self, day: date) -> date:
        """Return the first working day strictly after."""
        self._reach(day, day + timedelta(days=31))
        place = bisect_right(self._days, day)
        while place >= len(self._days):
            self._reach(day, self._last + timedelta(days=366))
        return self._days[place]

    def opening(self, day: date) -> datetime:
        """Return when office hours of that day begin, were it worked."""
        return self._moment(day, self._periods[0][0])

    def closing(self, day: date) -> datetime:
        """Return when office hours of that day end, were it worked."""
        return self._moment(day, self._periods[-1][1])

    def in_office_hours(self, moment: datetime) -> bool:
        """Whether offices work at that moment; at 12:00 and 17:30 they do not."""
        day, clock = self._local(moment)
        return self.is_working_day(day) and any(start <= clock < end for start, end in self._periods)

    def next_office_moment(self, moment: datetime) -> datetime:
        """Return the moment itself within office hours, else when they next begin."""
        day, clock = self._local(moment)
        if self.is_working_day(day):
            for start, end in self._periods:
                if clock < end:
                    return self._moment(day, max(clock, start))
        return self.opening(self.next_working_day(day))

    def add_working_time(self, start: datetime, amount: timedelta) -> datetime:
        """Return the moment at which that much working time has passed.

        A start outside office hours counts from the next office minute. A result that falls on the end of a half
        day stays there: 12:00, not 13:30. No time at all gives the next office moment.
        """
        if not amount:
            return self.next_office_moment(start)
        day, worked = self._position(start)
        days, rest = divmod(worked + amount, self.day_length)
        if not rest:  # the very end of a day, not the beginning of the next
            days, rest = days - 1, self.day_length
        return self._moment(self._nth_after(day, days), self._clock_at(rest))

    def working_time_between(self, start: datetime, end: datetime) -> timedelta:
        """Return how much working time lies between; nothing when the end is not after the start."""
        if end <= start:
            return timedelta(0)
        (first, worked), (last, worked_then) = self._position(start), self._position(end)
        return self.day_length * (self._number(last) - self._number(first)) + worked_then - worked

    def end_of_working_day(self, start: datetime, days: int) -> datetime:
        """Return when office hours end on the n-th working day after the day of the start.

        The day of the start does not count, whatever the hour; on a day off the first working day after it is the
        first. No days at all means the end of today's office hours, or of the next working day's if they are over.

        Source: 民法典 §§ 201, 203.
        """
        day, _ = self._local(start)
        if days == 0:
            over = not self.is_working_day(day) or start > self.closing(day)
            return self.closing(self.next_working_day(day) if over else day)
        first = self.next_working_day(day)
        return self.closing(self._nth_after(first, days - 1))

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

    def is_estimated(self, moment: datetime) -> bool:
        """Whether the moment lies beyond the last published notice."""
        return self._local(moment)[0] > self.data.published_until

    def _position(self, moment: datetime) -> tuple[date, timedelta]:
        """Return the working day on which the moment counts, and how much of it has been worked by then.

        Outside office hours that is the next office moment; so the end of a day is the beginning of the next.
        """
        day, clock = self._local(self.next_office_moment(moment))
        place = bisect_right(self._periods, clock, key=lambda period: period[0]) - 1
        return day, self._before[place] + clock - self._periods[place][0]

    def _clock_at(self, worked: timedelta) -> timedelta:
        """Return the time of day at which so much of a day has been worked; at the end of a period, its end."""
        for (start, end), before in zip(self._periods, self._before, strict=True):
            if worked <= before + end - start:
                return start + worked - before
        return self._periods[-1][1]

    def _number(self, day: date) -> int:
        self._reach(day, day)
        return bisect_right(self._days, day)

    def _nth_after(self, day: date, count: int) -> date:
        """Return the working day that comes so many working days after this one."""
        place = self._number(day) - 1 + count
        while place >= len(self._days):
            self._reach(day, self._last + timedelta(days=366))
        return self._days[place]

    def _reach(self, first: date, last: date) -> None:
        """See that the working days from one day to another are numbered."""
        if self._days and self._first <= first and last <= self._last:
            return
        begin = min(first, self._first) if self._days else first
        begin = date(begin.year, 1, 1)
        end = max(last, self._last) if self._days else last
        end = date(end.year + 1, 12, 31)
        span = (end - begin).days + 1
        self._days = [
            day for day in (begin + timedelta(days=n) for n in range(span)) if self.is_working_day(day)
        ]
        self._first, self._last = begin, end

    @staticmethod
    def _local(moment: datetime) -> tuple[date, timedelta]:
        local = moment.astimezone(SHANGHAI)
        return local.date(), _since_midnight(local.time())

    @staticmethod
    def _moment(day: date, clock: timedelta) -> datetime:
        return (datetime.combine(day, _MIDNIGHT, SHANGHAI) + clock).astimezone(UTC)

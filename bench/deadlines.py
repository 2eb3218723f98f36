"""`python -m bench.deadlines`: microseconds a deadline after warm-up, beside two naive ways of counting.

The naive ways are also what the tests hold the calendar against: they share nothing with it but its data.
"""

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from pathlib import Path

from adapters.district import read_district
from domain.calendar import SHANGHAI, CalendarData, Limit, SpecialKind, Unit, WorkCalendar
from domain.clocks import calendar_of, check_in_due
from domain.policy import Urgency

ROOT = Path(__file__).parent.parent
WANTED = 20.0
"""Microseconds, at most."""

_DAY, _MINUTE = timedelta(days=1), timedelta(minutes=1)


class ByDay:
    """Counts as a clerk does with a wall calendar: day by day, office period by office period."""

    def __init__(self, data: CalendarData) -> None:
        self._data = data
        self._off, self._make_up = set(data.days_off), set(data.make_up_days)
        self._special = {day.on: day for day in data.special_days}

    def periods(self, day: date) -> list[tuple[datetime, datetime]]:
        """Return when offices are open that day, in Shanghai; nothing for a day off."""
        special = self._special.get(day)
        if special:
            worked = special.kind is not SpecialKind.OFF
        else:
            worked = day in self._make_up or (day.weekday() < 5 and day not in self._off)
        if not worked:
            return []
        midnight = datetime.combine(day, clock_time(), SHANGHAI)
        if special and special.hours:
            return [(midnight + opens, midnight + closes) for opens, closes in special.hours]
        return [
            (datetime.combine(day, opens, SHANGHAI), datetime.combine(day, closes, SHANGHAI))
            for opens, closes in self._data.office_hours
        ]

    def add(self, start: datetime, amount: timedelta) -> datetime:
        """Return when that much working time has passed."""
        at, left = start.astimezone(SHANGHAI), amount
        day = at.date()
        while True:
            for opens, closes in self.periods(day):
                begin = max(opens, at)
                if begin < closes:
                    if left <= closes - begin:
                        return (begin + left).astimezone(UTC)
                    left -= closes - begin
            day += _DAY

    def between(self, start: datetime, end: datetime) -> timedelta:
        """Return how much working time lies between."""
        day, total = start.astimezone(SHANGHAI).date(), timedelta(0)
        while day <= end.astimezone(SHANGHAI).date():
            for opens, closes in self.periods(day):
                total += max(min(closes, end) - max(opens, start), timedelta(0))
            day += _DAY
        return total

    def end_of_day(self, start: datetime, days: int) -> datetime:
        """Return the closing time of the n-th working day after the day of the start."""
        day = start.astimezone(SHANGHAI).date()
        while days:
            day += _DAY
            days -= bool(self.periods(day))
        return self.periods(day)[-1][1].astimezone(UTC)

    def due(self, start: datetime, limit: Limit) -> datetime:
        """Return when a limit that starts now is due."""
        match limit.unit:
            case Unit.CONTINUOUS:
                return start.astimezone(UTC) + limit.time
            case Unit.WORKING_TIME:
                return self.add(start, limit.time)
            case Unit.WORKING_DAYS:
                return self.end_of_day(start, limit.days)

    def check_in(self, start: datetime, cut_off: clock_time, morning: clock_time) -> datetime:
        """Return when a department must have checked in."""
        local = start.astimezone(SHANGHAI)
        day = local.date()
        today = self.periods(day)
        if today and local.time() <= cut_off and local < today[-1][1]:
            return today[-1][1].astimezone(UTC)
        day += _DAY
        while not self.periods(day):
            day += _DAY
        return datetime.combine(day, morning, SHANGHAI).astimezone(UTC)


class ByMinute(ByDay):
    """Counts with a stopwatch: a look at every minute. For whole minutes only."""

    def add(self, start: datetime, amount: timedelta) -> datetime:
        """Return when that much working time has passed."""
        at, left = start.astimezone(SHANGHAI), amount
        while left:
            if any(opens <= at < closes for opens, closes in self.periods(at.date())):
                left -= _MINUTE
            at += _MINUTE
        return at.astimezone(UTC)


def microseconds(one: Callable[[datetime], object], starts: list[datetime], budget: float) -> float:
    """Return the middle of what a call takes, over rounds of all the starts for about so many seconds."""
    rounds: list[float] = []
    until = time.perf_counter() + budget
    while not rounds or (time.perf_counter() < until and len(rounds) < 200):
        began = time.perf_counter()
        for start in starts:
            one(start)
        rounds.append((time.perf_counter() - began) / len(starts) * 1e6)
    return statistics.median(rounds)


def run(budget: float) -> float:
    """Measure, print, and return the slowest of our own figures."""
    district = read_district(ROOT / "districts" / "yicheng")
    data, rule = district.calendar, district.policy.limits.check_in
    cold = time.perf_counter()
    calendar = WorkCalendar(data)
    calendar.due(datetime(2026, 3, 4, 1, tzinfo=UTC), Limit.model_validate({"working_days": 15}))
    cold = time.perf_counter() - cold
    by_day, by_minute = ByDay(data), ByMinute(data)
    first = datetime(2026, 1, 1, tzinfo=UTC)
    starts = [
        first + timedelta(hours=7, minutes=11) * number for number in range(1000)
    ]  # all hours, ten months
    few = starts[::100]
    print(
        f"machine: {os.cpu_count()} cores, {platform.machine()}, {platform.system()}, Python {platform.python_version()}"
    )
    print(
        f"calendar {data.version}: first answer {cold * 1000:.1f} ms, then, in microseconds a deadline (median)\n"
    )
    print(f"{'limit':28}{'ours':>8}{'day by day':>14}{'ratio':>9}{'minute by minute':>20}{'ratio':>9}")
    slowest = 0.0
    for written in (
        {"working_minutes": 30},
        {"working_hours": 2},
        {"working_days": 1},
        {"working_days": 15},
        {"minutes": 15},
    ):
        limit = Limit.model_validate(written)
        calendar.due(starts[-1], limit)
        ours = microseconds(lambda at, limit=limit: calendar.due(at, limit), starts, budget)  # type: ignore[misc]
        days = microseconds(lambda at, limit=limit: by_day.due(at, limit), starts, budget)  # type: ignore[misc]
        minutes = (
            microseconds(lambda at, limit=limit: by_minute.due(at, limit), few, budget)  # type: ignore[misc]
            if limit.unit is Unit.WORKING_TIME
            else None
        )
        _line(str(limit), ours, days, minutes)
        slowest = max(slowest, ours)
    ours = microseconds(lambda at: check_in_due(at, calendar, rule, Urgency.ROUTINE), starts, budget)
    _line(
        "check-in rule",
        ours,
        microseconds(lambda at: by_day.check_in(at, rule.cut_off, rule.next_day_by), starts, budget),
        None,
    )
    slowest = max(slowest, ours)
    limit = Limit.model_validate({"working_days": 15})
    ours = microseconds(lambda at: calendar_of(data).due(at, limit), starts, budget)
    _line("15个工作日, from the terms", ours, None, None)
    slowest = max(slowest, ours)
    print(f"\nslowest of ours {slowest:.1f} (wanted: at most {WANTED:.0f})")
    return slowest


def _line(name: str, ours: float, *floors: float | None) -> None:
    told = "".join(
        f"{floor:>{width}.1f}{floor / ours:>8.1f}x" if floor else " " * (width + 9)
        for floor, width in zip(floors, (14, 20), strict=True)
    )
    wide = sum(ord(letter) > 0x2E80 for letter in name)  # Chinese letters take two columns
    print(f"{name:{28 - wide}}{ours:>8.1f}{told}")


def main() -> None:
    """Read the arguments and run; the exit status says whether the wanted figure was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure")
    sys.exit(run(parser.parse_args().seconds) > WANTED)


if __name__ == "__main__":
    main()

"""The working calendar's seed: the `holidays` library's record of the State Council's yearly notices."""

import hashlib
from collections.abc import Iterable
from datetime import date, time
from importlib.metadata import version

from holidays import country_holidays

from domain.calendar import CalendarData, SpecialDay

_SATURDAY = 5


def calendar_for(
    years: Iterable[int],
    office_hours: tuple[tuple[time, time], ...],
    special_days: Iterable[SpecialDay] = (),
) -> CalendarData:
    """Return the calendar of these years and of all between them, with the days that a district sets itself.

    A year counts as published when the library knows its make-up working days: every notice since 2001 has some,
    and without them a year is only a guess of the statutory days. What lies before the first published year that is
    asked for is as little known as what lies after the last. A make-up day in December may be named by the notice
    for the next year, so that the last week of the last published year can still change.

    The version names the years, the library's version and, if there are any, a digest of the special days.
    """
    asked = sorted(set(years))
    wanted = range(asked[0], asked[-1] + 1)
    known = country_holidays(
        "CN", years=range(wanted.start, wanted.stop + 1)
    )  # the next notice names days of December
    make_up = tuple(sorted(day for day in known.weekend_workdays if day.year in wanted))
    published = [year for year in wanted if any(day.year == year for day in make_up)]
    last = max(published, default=wanted.start - 1)
    special = tuple(sorted(special_days, key=lambda day: day.on))
    return CalendarData(
        version=f"CN-{wanted[0]}..{wanted[-1]}/holidays-{version('holidays')}{_digest(special)}",
        office_hours=office_hours,
        days_off=tuple(
            sorted(
                day
                for day in known
                if day.year in wanted and day.weekday() < _SATURDAY and day not in make_up
            )
        ),
        make_up_days=make_up,
        published_until=date(last, 12, 31),
        special_days=special,
        published_from=date(min(published, default=wanted.start), 1, 1),
    )


def _digest(special: tuple[SpecialDay, ...]) -> str:
    if not special:
        return ""
    written = "\n".join(day.model_dump_json() for day in special)
    return f"/special-{hashlib.sha256(written.encode()).hexdigest()[:8]}"

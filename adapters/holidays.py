"""The working calendar's seed: the `holidays` library's record of the State Council's yearly notices."""

from collections.abc import Iterable
from datetime import date, time
from importlib.metadata import version

from holidays import country_holidays

from domain.calendar import CalendarData

_SATURDAY = 5


def calendar_for(years: Iterable[int], office_hours: tuple[tuple[time, time], ...]) -> CalendarData:
    """Return the calendar of these years.

    A year counts as published when the library knows its make-up working days: every notice since 2008 has some,
    and without them a year is only a guess of the statutory days.
    """
    wanted = sorted(set(years))
    known = country_holidays("CN", years=wanted)
    make_up = tuple(sorted(day for day in known.weekend_workdays if day.year in wanted))
    published = [year for year in wanted if any(day.year == year for day in make_up)]
    last = max(published, default=wanted[0] - 1)
    return CalendarData(
        version=f"CN-{wanted[0]}..{wanted[-1]}/holidays-{version('holidays')}",
        office_hours=office_hours,
        days_off=tuple(sorted(day for day in known if day.weekday() < _SATURDAY and day not in make_up)),
        make_up_days=make_up,
        published_until=date(last, 12, 31),
    )

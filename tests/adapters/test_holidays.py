"""The seed of the working calendar agrees with an independent record of the State Council's notices."""

from datetime import date, time, timedelta

import chinese_calendar

from adapters.holidays import calendar_for
from domain.calendar import WorkCalendar

HOURS = ((time(8, 30), time(12)), (time(13, 30), time(17, 30)))


def test_every_day_of_the_published_years_agrees_with_an_independent_record() -> None:
    calendar = WorkCalendar(calendar_for(range(2019, 2027), HOURS))
    day = date(2019, 1, 1)
    while day <= date(2026, 12, 31):
        assert calendar.is_working_day(day) == chinese_calendar.is_workday(day), day
        day += timedelta(days=1)


def test_a_year_without_make_up_days_is_an_estimate() -> None:
    assert calendar_for([2025, 2026, 2027], HOURS).published_until == date(2026, 12, 31)
    assert calendar_for([2026], HOURS).published_until == date(2026, 12, 31)

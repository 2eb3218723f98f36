"""Working time, by a table worked out by hand and by properties. 2026-03-04 is a Wednesday.

The days of 2026: State Council notice 国办发明电〔2025〕7号.
"""

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.calendar import SHANGHAI, CalendarData, Limit, WorkCalendar
from tests.sample import limit, shanghai

DATA = CalendarData(
    version="2026",
    office_hours=((time(8, 30), time(12)), (time(13, 30), time(17, 30))),
    days_off=(
        date(2026, 1, 1),
        date(2026, 1, 2),
        *(date(2026, 2, day) for day in (16, 17, 18, 19, 20, 23)),
        date(2026, 4, 6),
        date(2026, 5, 1),
        date(2026, 5, 4),
        date(2026, 5, 5),
        date(2026, 6, 19),
        date(2026, 9, 25),
        *(date(2026, 10, day) for day in (1, 2, 5, 6, 7)),
    ),
    make_up_days=(
        date(2026, 1, 4),
        date(2026, 2, 14),
        date(2026, 2, 28),
        date(2026, 5, 9),
        date(2026, 9, 20),
        date(2026, 10, 10),
    ),
    published_until=date(2026, 12, 31),
)
CALENDAR = WorkCalendar(DATA)
MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 1)).map(  # noqa: DTZ001 - made aware next
    lambda moment: moment.replace(microsecond=0, tzinfo=SHANGHAI)
)
AMOUNTS = st.integers(0, 60 * 60).map(lambda minutes: timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("start", "amount", "due"),
    [
        ("2026-03-04 07:00", {"working_minutes": 30}, "2026-03-04 09:00"),
        ("2026-03-04 08:30", {"working_minutes": 30}, "2026-03-04 09:00"),
        ("2026-03-04 11:30", {"working_minutes": 30}, "2026-03-04 12:00"),
        ("2026-03-04 11:59", {"working_minutes": 30}, "2026-03-04 13:59"),
        ("2026-03-04 12:00", {"working_minutes": 30}, "2026-03-04 14:00"),
        ("2026-03-04 12:30", {"working_minutes": 30}, "2026-03-04 14:00"),
        ("2026-03-04 13:30", {"working_minutes": 30}, "2026-03-04 14:00"),
        ("2026-03-04 15:29", {"working_minutes": 30}, "2026-03-04 15:59"),
        ("2026-03-04 17:00", {"working_minutes": 30}, "2026-03-04 17:30"),
        ("2026-03-04 17:29", {"working_minutes": 30}, "2026-03-05 08:59"),
        ("2026-03-04 17:30", {"working_minutes": 30}, "2026-03-05 09:00"),
        ("2026-03-04 23:50", {"working_minutes": 30}, "2026-03-05 09:00"),
        ("2026-03-04 10:00", {"working_hours": 2}, "2026-03-04 12:00"),
        ("2026-03-04 10:01", {"working_hours": 2}, "2026-03-04 13:31"),
        ("2026-03-04 17:30", {"working_hours": 2}, "2026-03-05 10:30"),
        ("2026-03-04 08:30", {"working_hours": 7.5}, "2026-03-04 17:30"),
        ("2026-03-04 08:30", {"working_hours": 15}, "2026-03-05 17:30"),
        ("2026-03-06 17:00", {"working_hours": 1}, "2026-03-09 09:00"),
        ("2026-03-07 10:00", {"working_hours": 1}, "2026-03-09 09:30"),
        ("2026-02-13 17:00", {"working_hours": 1}, "2026-02-14 09:00"),
        ("2026-02-14 10:00", {"working_minutes": 30}, "2026-02-14 10:30"),
        ("2026-02-14 17:20", {"working_minutes": 30}, "2026-02-24 08:50"),
        ("2026-02-15 10:00", {"working_minutes": 30}, "2026-02-24 09:00"),
        ("2026-02-18 03:00", {"working_hours": 2}, "2026-02-24 10:30"),
        ("2026-02-27 17:00", {"working_hours": 1}, "2026-02-28 09:00"),
        ("2026-09-30 17:00", {"working_hours": 1}, "2026-10-08 09:00"),
        ("2026-10-03 12:00", {"working_minutes": 30}, "2026-10-08 09:00"),
        ("2026-10-09 17:15", {"working_minutes": 30}, "2026-10-10 08:45"),
        ("2026-12-31 17:15", {"working_minutes": 10}, "2026-12-31 17:25"),
        ("2026-03-04 10:00", {"working_days": 1}, "2026-03-05 17:30"),
        ("2026-03-04 00:01", {"working_days": 1}, "2026-03-05 17:30"),
        ("2026-03-04 23:59", {"working_days": 1}, "2026-03-05 17:30"),
        ("2026-03-04 10:00", {"working_days": 3}, "2026-03-09 17:30"),
        ("2026-03-04 10:00", {"working_days": 5}, "2026-03-11 17:30"),
        ("2026-03-04 10:00", {"working_days": 15}, "2026-03-25 17:30"),
        ("2026-03-07 10:00", {"working_days": 1}, "2026-03-09 17:30"),
        ("2026-03-04 10:00", {"working_days": 0}, "2026-03-04 17:30"),
        ("2026-03-04 18:00", {"working_days": 0}, "2026-03-05 17:30"),
        ("2026-03-07 10:00", {"working_days": 0}, "2026-03-09 17:30"),
        ("2026-02-13 10:00", {"working_days": 1}, "2026-02-14 17:30"),
        ("2026-02-13 10:00", {"working_days": 3}, "2026-02-25 17:30"),
        ("2026-02-14 10:00", {"working_days": 1}, "2026-02-24 17:30"),
        ("2026-02-26 10:00", {"working_days": 3}, "2026-03-02 17:30"),
        ("2026-04-03 10:00", {"working_days": 1}, "2026-04-07 17:30"),
        ("2026-04-30 10:00", {"working_days": 3}, "2026-05-08 17:30"),
        ("2026-09-18 10:00", {"working_days": 1}, "2026-09-20 17:30"),
        ("2026-09-24 10:00", {"working_days": 1}, "2026-09-28 17:30"),
        ("2026-09-30 10:00", {"working_days": 3}, "2026-10-10 17:30"),
        ("2026-03-04 23:50", {"minutes": 15}, "2026-03-05 00:05"),
        ("2026-10-01 02:00", {"hours": 2}, "2026-10-01 04:00"),
        ("2026-02-17 00:00", {"days": 7}, "2026-02-24 00:00"),
    ],
)
def test_a_limit_is_due_when_one_counts_it_by_hand(start: str, amount: dict[str, float], due: str) -> None:
    found = CALENDAR.due(shanghai(start), limit(**amount))
    assert found.at == shanghai(due), found.at.astimezone(SHANGHAI)
    assert found.at.tzinfo is UTC
    assert not found.estimated


def test_what_lies_beyond_the_published_notice_is_estimated_unless_time_never_stops() -> None:
    start = shanghai("2026-12-31 17:00")
    assert CALENDAR.due(start, limit(working_hours=1)).estimated
    assert CALENDAR.due(start, limit(working_days=1)).estimated
    assert not CALENDAR.due(start, limit(hours=24)).estimated


@given(start=MOMENTS, amount=AMOUNTS)
def test_adding_and_measuring_working_time_agree(start: datetime, amount: timedelta) -> None:
    end = CALENDAR.add_working_time(start, amount)
    assert CALENDAR.working_time_between(start, end) == amount
    assert end >= start


@given(start=MOMENTS, first=AMOUNTS, second=AMOUNTS)
def test_adding_in_two_steps_is_adding_at_once(start: datetime, first: timedelta, second: timedelta) -> None:
    once = CALENDAR.add_working_time(start, first + second)
    twice = CALENDAR.add_working_time(CALENDAR.add_working_time(start, first), second)
    assert CALENDAR.next_office_moment(once) == CALENDAR.next_office_moment(twice)


@given(start=MOMENTS, later=st.integers(0, 10_000), days=st.integers(1, 30), amount=AMOUNTS)
def test_deadlines_grow_with_the_start_and_with_the_limit(
    start: datetime, later: int, days: int, amount: timedelta
) -> None:
    then = start + timedelta(minutes=later)
    assert CALENDAR.end_of_working_day(start, days) <= CALENDAR.end_of_working_day(then, days)
    assert CALENDAR.end_of_working_day(start, days) < CALENDAR.end_of_working_day(start, days + 1)
    assert CALENDAR.add_working_time(start, amount) <= CALENDAR.add_working_time(then, amount)
    more = amount + timedelta(minutes=1)
    assert CALENDAR.add_working_time(start, amount) < CALENDAR.add_working_time(start, more)


@given(start=MOMENTS, minutes=st.integers(1, 900))
def test_counting_minute_by_minute_gives_the_same(start: datetime, minutes: int) -> None:
    at, left = start.replace(second=0), minutes
    begin = at
    while left:
        if CALENDAR.in_office_hours(at):
            left -= 1
        at += timedelta(minutes=1)
    assert CALENDAR.add_working_time(begin, timedelta(minutes=minutes)) == at


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ({"working_minutes": 30}, "30工作分钟"),
        ({"working_hours": 2}, "2工作小时"),
        ({"working_days": 3}, "3个工作日"),
        ({"minutes": 15}, "15分钟"),
        ({"hours": 2}, "2小时"),
        ({"days": 7}, "7天"),
        ({"minutes": 0}, "0分钟"),
    ],
)
def test_a_limit_is_written_with_one_unit_and_goes_through_json(written: dict[str, int], spoken: str) -> None:
    read = Limit.model_validate(written)
    assert str(read) == spoken
    assert Limit.model_validate_json(read.model_dump_json()) == read


@pytest.mark.parametrize(
    "written",
    [{}, {"hours": 1, "days": 1}, {"weeks": 1}, {"hours": -1}, {"hours": "2"}, {"working_days": 1.5}, 3],
)
def test_a_limit_that_makes_no_sense_is_refused(written: object) -> None:
    with pytest.raises(ValidationError):
        Limit.model_validate(written)


def test_office_hours_are_in_order_and_no_day_is_both_off_and_worked() -> None:
    for changes in (
        {"office_hours": ((time(13), time(12)),)},
        {"office_hours": ()},
        {"make_up_days": (date(2026, 1, 1),)},
    ):
        with pytest.raises(ValidationError):
            CalendarData.model_validate({**DATA.model_dump(), **changes})


def test_a_naive_moment_is_refused() -> None:
    from domain.calendar import utc

    with pytest.raises(ValueError, match="时区"):
        utc(datetime(2026, 3, 4))  # noqa: DTZ001 - that is the point

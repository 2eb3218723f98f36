"""What holds of working time whatever the numbers, with and without special days; the numbers are in the table by hand."""

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from threading import Barrier, Thread

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.deadlines import ByDay, ByMinute
from domain.calendar import SHANGHAI, CalendarData, Limit, SpecialDay, SpecialKind, Unit, WorkCalendar, utc
from domain.clocks import check_in_due
from domain.policy import Urgency
from tests.domain.test_calendar_by_hand import WITH_SPECIAL_DAYS
from tests.sample import POLICY, limit, shanghai
from tests.year_2026 import YEAR_2026

PLAIN, SPECIAL = WorkCalendar(YEAR_2026), WorkCalendar(WITH_SPECIAL_DAYS)
HALF_HOUR = timedelta(minutes=30)


def hours_of_a_day() -> st.SearchStrategy[tuple[tuple[timedelta, timedelta], ...]]:
    """Make one or two office periods between 00:00 and 24:00."""
    moments = st.lists(st.integers(0, 48), min_size=2, max_size=4, unique=True).filter(
        lambda found: len(found) % 2 == 0
    )
    return moments.map(sorted).map(
        lambda found: tuple(
            (HALF_HOUR * start, HALF_HOUR * end) for start, end in zip(found[::2], found[1::2], strict=True)
        )
    )


@st.composite
def special_day(draw: st.DrawFn) -> SpecialDay:
    """Make a day that a district sets itself, in three weeks of which two have no holidays."""
    kind = draw(st.sampled_from(SpecialKind))
    hours = None if kind is SpecialKind.OFF else draw(st.none() | hours_of_a_day())
    day = date(2026, 9, 14) + timedelta(days=draw(st.integers(0, 20)))
    return SpecialDay(on=day, kind=kind, reason="示例", hours=hours)


def data_with(days: list[SpecialDay]) -> CalendarData:
    """Return the year with these days."""
    return YEAR_2026.model_copy(update={"special_days": tuple(days)})


ANY_DATA = st.lists(special_day(), max_size=8, unique_by=lambda day: day.on).map(data_with)
CALENDARS = st.sampled_from([PLAIN, SPECIAL]) | ANY_DATA.map(WorkCalendar)
MOMENTS = st.builds(
    lambda day, seconds: shanghai("2026-09-10 00:00") + timedelta(days=day, seconds=seconds),
    st.integers(-240, 60) | st.integers(0, 28),
    st.integers(0, 24 * 60 * 60)
    | st.sampled_from([8.5, 12, 13.5, 15.5, 17.5, 24]).map(lambda hour: int(hour * 3600)),
)
AMOUNTS = st.integers(0, 60 * 60).map(lambda minutes: timedelta(minutes=minutes))
LIMITS = st.one_of(
    AMOUNTS.map(lambda amount: Limit(unit=Unit.WORKING_TIME, time=amount)),
    AMOUNTS.map(lambda amount: Limit(unit=Unit.CONTINUOUS, time=amount)),
    st.integers(0, 30).map(lambda days: Limit(unit=Unit.WORKING_DAYS, days=days)),
)
UNITS = st.sampled_from(Unit)


def longer(given_limit: Limit) -> Limit:
    """Return the limit with a little more."""
    return Limit(
        unit=given_limit.unit, time=given_limit.time + timedelta(seconds=1), days=given_limit.days + 1
    )


@given(calendar=CALENDARS, start=MOMENTS, amount=LIMITS, urgency=st.sampled_from(Urgency))
def test_no_deadline_lies_before_the_call(
    calendar: WorkCalendar, start: datetime, amount: Limit, urgency: Urgency
) -> None:
    assert calendar.due(start, amount).at >= start
    assert check_in_due(start, calendar, POLICY.limits.check_in, urgency).at > start


@given(calendar=CALENDARS, start=MOMENTS, later=st.integers(0, 600_000), amount=LIMITS)
def test_deadlines_grow_with_the_start_and_with_the_limit(
    calendar: WorkCalendar, start: datetime, later: int, amount: Limit
) -> None:
    then = start + timedelta(seconds=later)
    assert calendar.due(start, amount).at <= calendar.due(then, amount).at
    if (
        amount.unit is Unit.WORKING_DAYS and not amount.days
    ):  # on a day off both end with the next working day
        assert calendar.due(start, amount).at <= calendar.due(start, longer(amount)).at
    else:
        assert calendar.due(start, amount).at < calendar.due(start, longer(amount)).at


@given(calendar=CALENDARS, start=MOMENTS, end=MOMENTS, middle=MOMENTS)
def test_net_time_is_never_more_than_gross_time_and_adds_up(
    calendar: WorkCalendar, start: datetime, end: datetime, middle: datetime
) -> None:
    start, middle, end = sorted((start, middle, end))
    whole = calendar.working_time_between(start, end)
    assert timedelta(0) <= whole <= end - start
    parts = calendar.working_time_between(start, middle) + calendar.working_time_between(middle, end)
    assert parts == whole
    assert calendar.working_time_between(end, start) == timedelta(0)


@given(calendar=CALENDARS, start=MOMENTS, amount=AMOUNTS)
def test_adding_and_measuring_working_time_agree(
    calendar: WorkCalendar, start: datetime, amount: timedelta
) -> None:
    end = calendar.add_working_time(start, amount)
    assert calendar.working_time_between(start, end) == amount


@given(calendar=CALENDARS, start=MOMENTS, first=AMOUNTS, second=AMOUNTS)
def test_adding_in_two_steps_is_adding_at_once(
    calendar: WorkCalendar, start: datetime, first: timedelta, second: timedelta
) -> None:
    once = calendar.add_working_time(start, first + second)
    twice = calendar.add_working_time(calendar.add_working_time(start, first), second)
    assert calendar.next_office_moment(once) == calendar.next_office_moment(twice)


@given(data=ANY_DATA, start=MOMENTS, end=MOMENTS, amount=LIMITS)
def test_counting_day_by_day_gives_the_same(
    data: CalendarData, start: datetime, end: datetime, amount: Limit
) -> None:
    calendar, clerk, rule = WorkCalendar(data), ByDay(data), POLICY.limits.check_in
    assert calendar.working_time_between(start, end) == clerk.between(start, end)
    if amount.unit is not Unit.WORKING_DAYS or amount.days:
        assert calendar.due(start, amount).at == clerk.due(start, amount)
    by_rule = check_in_due(start, calendar, rule, Urgency.ROUTINE).at
    assert by_rule == clerk.check_in(start, rule.cut_off, rule.next_day_by)
    day = start.astimezone(SHANGHAI).date()
    assert calendar.is_working_day(day) == bool(clerk.periods(day))
    if clerk.periods(day):
        assert calendar.opening(day) == clerk.periods(day)[0][0]
        assert calendar.closing(day) == clerk.periods(day)[-1][1]
    open_now = any(opens <= start < closes for opens, closes in clerk.periods(day))
    assert calendar.in_office_hours(start) == open_now
    assert calendar.in_office_hours(calendar.next_office_moment(start))
    assert (calendar.next_office_moment(start) == start) == open_now


@given(calendar=st.sampled_from([PLAIN, SPECIAL]), start=MOMENTS, minutes=st.integers(1, 900))
def test_counting_minute_by_minute_gives_the_same(
    calendar: WorkCalendar, start: datetime, minutes: int
) -> None:
    whole, amount = start.replace(second=0), timedelta(minutes=minutes)
    assert calendar.add_working_time(whole, amount) == ByMinute(calendar.data).add(whole, amount)


@given(calendar=CALENDARS, due=MOMENTS, begin=MOMENTS, end=MOMENTS, unit=UNITS)
def test_a_pause_moves_a_deadline_by_exactly_the_time_that_it_took(
    calendar: WorkCalendar, due: datetime, begin: datetime, end: datetime, unit: Unit
) -> None:
    begin, end = sorted((begin, end))
    moved = calendar.after_pause(due, begin, end, unit)
    if unit is Unit.CONTINUOUS:
        assert moved - due == end - begin
    else:
        taken = calendar.working_time_between(begin, end)
        assert calendar.working_time_between(due, moved) == taken
        assert (moved == due) == (not taken)
        if taken and moved >= end and begin <= due:
            left = calendar.working_time_between(begin, due)
            assert calendar.working_time_between(end, moved) == left


@given(calendar=CALENDARS, due=MOMENTS, cuts=st.tuples(MOMENTS, MOMENTS, MOMENTS), unit=UNITS)
def test_two_pauses_on_end_are_one_pause(
    calendar: WorkCalendar, due: datetime, cuts: tuple[datetime, datetime, datetime], unit: Unit
) -> None:
    begin, middle, end = sorted(cuts)
    assume(begin < due)
    once = calendar.after_pause(due, begin, end, unit)
    halfway = calendar.after_pause(due, begin, middle, unit)
    assume(middle <= halfway)  # else it was due, outside office hours, before the second began
    assert calendar.after_pause(halfway, middle, end, unit) == once


@given(
    calendar=CALENDARS,
    start=MOMENTS,
    due=MOMENTS,
    unit=UNITS,
    share=st.fractions(Fraction(1, 100), Fraction(99, 100), max_denominator=100),
)
def test_at_the_yellow_moment_the_share_is_left_to_the_microsecond(
    calendar: WorkCalendar, start: datetime, due: datetime, unit: Unit, share: Fraction
) -> None:
    start, due = sorted((start, due))
    yellow = calendar.yellow_at(start, due, unit, share)
    assert start <= yellow <= due

    def time_between(first: datetime, last: datetime) -> timedelta:
        worked = timedelta(0) if unit is Unit.CONTINUOUS else calendar.working_time_between(start, due)
        return calendar.working_time_between(first, last) if worked else last - first

    exact = share * (time_between(start, due) // timedelta(microseconds=1))
    left = time_between(yellow, due) // timedelta(microseconds=1)
    assert 0 <= left - exact < 1


def test_a_share_is_the_decimal_that_is_written() -> None:
    start, due = shanghai("2026-03-04 09:00"), shanghai("2026-03-04 10:40")
    found = {
        PLAIN.yellow_at(start, due, Unit.CONTINUOUS, share)
        for share in (0.1, Decimal("0.1"), Fraction(1, 10))
    }
    assert found == {shanghai("2026-03-04 10:30")}


def test_answers_do_not_depend_on_what_was_asked_before() -> None:
    questions: list[Callable[[WorkCalendar], object]] = [
        lambda calendar: calendar.working_time_between(
            shanghai("2027-12-17 08:26"), shanghai("2028-02-20 18:12")
        ),
        lambda calendar: calendar.working_time_between(
            shanghai("2019-03-04 10:00"), shanghai("2026-03-04 10:00")
        ),
        lambda calendar: calendar.due(shanghai("2026-12-31 23:00"), limit(working_hours=9000)),
        lambda calendar: calendar.due(shanghai("2020-01-01 23:00"), limit(working_days=900)),
        lambda calendar: calendar.next_working_day(date(2027, 12, 31)),
        lambda calendar: calendar.in_office_hours(shanghai("2028-12-31 23:59")),
    ]
    forwards, backwards = WorkCalendar(WITH_SPECIAL_DAYS), WorkCalendar(WITH_SPECIAL_DAYS)
    first = [ask(forwards) for ask in questions]
    assert [ask(backwards) for ask in reversed(questions)] == first[::-1]
    assert [ask(WorkCalendar(WITH_SPECIAL_DAYS)) for ask in questions] == first


@pytest.mark.parametrize("end", ["2027-12-30 08:31", "2027-12-31 17:30", "2028-01-03 08:31"])
def test_deadlines_around_the_end_of_the_years_laid_out_so_far_are_right(end: str) -> None:
    start, clerk = shanghai("2026-03-04 10:00"), ByDay(YEAR_2026)
    calendar = WorkCalendar(YEAR_2026)
    assert calendar.in_office_hours(start)
    amount = clerk.between(start, shanghai(end))
    assert calendar.add_working_time(start, amount) == shanghai(end)
    fresh = WorkCalendar(YEAR_2026)
    assert fresh.in_office_hours(start)
    assert fresh.next_office_moment(shanghai("2027-12-31 18:00")) == shanghai("2028-01-03 08:30")


def test_threads_that_ask_one_calendar_at_once_get_the_same_answers() -> None:
    calendar, barrier = WorkCalendar(WITH_SPECIAL_DAYS), Barrier(4)
    starts = [
        shanghai(f"{year}-06-0{day} 10:00") for day in range(1, 8) for year in (2026, 2019, 2033, 2024, 2029)
    ]
    expected = [ByDay(WITH_SPECIAL_DAYS).end_of_day(start, 15) for start in starts]
    wrong: list[datetime] = []

    def ask() -> None:
        barrier.wait()
        for start, due in zip(starts, expected, strict=True):
            if calendar.end_of_working_day(start, 15) != due:
                wrong.append(start)

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_district_with_most_of_a_year_off_still_has_a_next_working_day() -> None:
    shut = [
        SpecialDay(on=date(2026, 1, 1) + timedelta(days=number), kind=SpecialKind.OFF, reason="示例")
        for number in range(2 * 365)
    ]
    calendar = WorkCalendar(data_with(shut))
    assert calendar.due(shanghai("2026-03-04 10:00"), limit(working_minutes=30)).at == shanghai(
        "2028-01-03 09:00"
    )
    assert calendar.next_working_day(date(2026, 3, 4)) == date(2028, 1, 3)


@pytest.mark.parametrize(
    ("call", "due"),
    [
        ("2026-03-04 10:00", "2026-03-04 17:30"),
        ("2026-03-04 17:30", "2026-03-04 17:30"),
        ("2026-03-04 18:00", "2026-03-05 17:30"),
        ("2026-03-07 10:00", "2026-03-09 17:30"),
    ],
)
def test_no_working_days_at_all_end_with_office_hours_of_the_day(call: str, due: str) -> None:
    assert PLAIN.due(shanghai(call), limit(working_days=0)).at == shanghai(due)


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
    [
        {},
        {"hours": 1, "days": 1},
        {"weeks": 1},
        {"hours": -1},
        {"hours": "2"},
        {"working_days": 1.5},
        {"hours": float("nan")},
        {"days": 3661},
        {"days": 99_999_999_999},
        {"minutes": float("inf")},
        {"working_days": 10**400},
        3,
    ],
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
            CalendarData.model_validate({**YEAR_2026.model_dump(), **changes})


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="时区"):
        utc(datetime(2026, 3, 4))  # noqa: DTZ001 - that is the point
    with pytest.raises(ValueError, match="时区"):
        PLAIN.due(datetime(2026, 3, 4), limit(working_hours=1))  # noqa: DTZ001 - that is the point


@given(days=st.lists(special_day(), max_size=4, unique_by=lambda day: day.on))
def test_special_days_go_through_json_and_calendars_from_before_them_still_load(
    days: list[SpecialDay],
) -> None:
    data = data_with(days)
    assert CalendarData.model_validate_json(data.model_dump_json()) == data
    assert hash(data) == hash(CalendarData.model_validate_json(data.model_dump_json()))
    old = YEAR_2026.model_dump(mode="json", exclude={"special_days", "published_from"})
    loaded = CalendarData.model_validate(old)
    assert (loaded.special_days, loaded.published_from) == ((), date.min)


def test_hours_of_a_special_day_are_written_up_to_24_00() -> None:
    written = {
        "on": "2026-07-25",
        "kind": "emergency",
        "reason": "防汛",
        "hours": [["00:00", "12:00"], ["13:30", "24:00"]],
    }
    day = SpecialDay.model_validate(written)
    assert day.hours is not None
    assert day.hours[-1][1] == timedelta(hours=24)
    assert day.model_dump(mode="json") == written
    as_times = {**written, "hours": [[time(0), time(12)], [time(13, 30), "24:00"]]}
    assert SpecialDay.model_validate(as_times) == day


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "off"},
        {"kind": "holiday"},
        {"reason": "  "},
        {"hours": []},
        {"hours": [["24:00", "00:00"]]},
        {"hours": [["08:00", "12:00"], ["11:00", "17:00"]]},
        {"hours": [["8:00", "12:00"]]},
        {"hours": [["08:00", "24:01"]]},
        {"hours": [["08:00", "25:00"]]},
        {"hours": [["08:00"]]},
        {"hours": [[time(8), time(12, 0, 30)]]},
        {"hours": [[timedelta(hours=20), timedelta(hours=30)]]},
    ],
)
def test_a_special_day_that_makes_no_sense_is_refused(changes: dict[str, object]) -> None:
    right = {"on": "2026-07-25", "kind": "working", "reason": "防汛", "hours": [["00:00", "24:00"]]}
    SpecialDay.model_validate(right)
    with pytest.raises(ValidationError):
        SpecialDay.model_validate({**right, **changes})


def test_a_day_is_special_once() -> None:
    day = SpecialDay(on=date(2026, 7, 25), kind=SpecialKind.OFF, reason="示例")
    with pytest.raises(ValidationError, match="特殊日"):
        CalendarData.model_validate({**YEAR_2026.model_dump(), "special_days": (day, day)})

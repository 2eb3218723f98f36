"""The seed of the working calendar agrees with an independent record of the State Council's notices."""

from datetime import date, timedelta

import chinese_calendar

from adapters.holidays import calendar_for
from domain.calendar import SpecialDay, SpecialKind, WorkCalendar
from tests.year_2026 import NEW_YEAR_2027, OFFICE_HOURS, YEAR_2026


def _days(first: int, last: int) -> list[date]:
    begin = date(first, 1, 1)
    return [begin + timedelta(days=number) for number in range((date(last, 12, 31) - begin).days + 1)]


def _special(day: int, kind: SpecialKind = SpecialKind.OFF, reason: str = "示例") -> SpecialDay:
    return SpecialDay(on=date(2026, 7, day), kind=kind, reason=reason)


def test_every_day_of_the_published_years_agrees_with_an_independent_record() -> None:
    calendar = WorkCalendar(calendar_for(range(2006, 2027), OFFICE_HOURS))
    differing = [
        day for day in _days(2006, 2026) if calendar.is_working_day(day) != chinese_calendar.is_workday(day)
    ]
    assert not differing


def test_every_day_of_2026_is_as_the_notice_written_out_by_hand_says() -> None:
    seeded, by_hand = WorkCalendar(calendar_for([2026, 2027], OFFICE_HOURS)), WorkCalendar(YEAR_2026)
    differing = [
        day for day in _days(2026, 2026) if seeded.is_working_day(day) != by_hand.is_working_day(day)
    ]
    assert not differing
    assert set(seeded.data.make_up_days) == set(YEAR_2026.make_up_days)
    assert not seeded.is_working_day(NEW_YEAR_2027)
    assert seeded.data.published_until == YEAR_2026.published_until
    assert seeded.data.published_from == YEAR_2026.published_from


def test_a_year_without_make_up_days_is_an_estimate() -> None:
    for years in ([2025, 2026, 2027], [2026], range(2019, 2031)):
        assert calendar_for(years, OFFICE_HOURS).published_until == date(2026, 12, 31)
    guessed = WorkCalendar(calendar_for([2025, 2026, 2027], OFFICE_HOURS))
    assert not any(day.year == 2027 for day in guessed.data.make_up_days)
    assert guessed.is_estimated(guessed.opening(date(2027, 3, 1)))
    assert not guessed.is_estimated(guessed.opening(date(2026, 12, 31)))
    only_guessed = WorkCalendar(calendar_for([2028], OFFICE_HOURS))
    assert all(
        only_guessed.is_estimated(only_guessed.opening(date(year, 3, 1))) for year in (2027, 2028, 2029)
    )


def test_years_before_the_first_notice_that_is_known_are_estimates_too() -> None:
    early = WorkCalendar(calendar_for([1999, 2026], OFFICE_HOURS))
    assert early.data.published_from == date(2001, 1, 1)
    assert early.is_estimated(early.opening(date(2000, 12, 29)))
    assert not early.is_estimated(early.opening(date(2001, 1, 4)))
    assert calendar_for([2025, 2026], OFFICE_HOURS).published_from == date(2025, 1, 1)


def test_years_between_those_asked_for_are_known_too() -> None:
    assert calendar_for([2024, 2026], OFFICE_HOURS) == calendar_for([2024, 2025, 2026], OFFICE_HOURS)


def test_a_make_up_day_in_december_that_the_next_notice_names_is_known() -> None:
    assert date(2005, 12, 31) in calendar_for([2005], OFFICE_HOURS).make_up_days


def test_the_version_changes_when_special_days_change_and_only_then() -> None:
    plain = calendar_for([2026], OFFICE_HOURS)
    assert "special" not in plain.version
    days = [_special(1), _special(2, SpecialKind.WORKING)]
    version = calendar_for([2026], OFFICE_HOURS, days).version
    assert version.startswith(f"{plain.version}/special-")
    assert calendar_for([2026], OFFICE_HOURS, days[::-1]).version == version
    hours = ((timedelta(0), timedelta(hours=24)),)
    changed = [
        days[:1],
        [*days, _special(3)],
        [days[0], days[1].model_copy(update={"kind": SpecialKind.EMERGENCY})],
        [days[0], days[1].model_copy(update={"reason": "另有原因"})],
        [days[0], days[1].model_copy(update={"hours": hours})],
    ]
    versions = {calendar_for([2026], OFFICE_HOURS, each).version for each in changed}
    assert len(versions | {version, plain.version}) == len(changed) + 2

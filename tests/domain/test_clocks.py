"""What the clocks of a case do when nobody acts. 2026-03-04 is a Wednesday."""

from datetime import timedelta

import pytest

from domain.calendar import WorkCalendar
from domain.case import Stage
from domain.clocks import check_in_due, wake_delay
from domain.events import CheckInConfirmed, Closed, Escalated, SignDeemed
from domain.policy import ClockKind, Order, Urgency
from tests.sample import (
    CALENDAR,
    DEPARTMENTS,
    ECOLOGY,
    MARKET,
    POLICE,
    POLICY,
    Play,
    shanghai,
)

WEDNESDAY = "2026-03-04"


def due(play: Play, kind: ClockKind, department: str | None = None) -> str:
    """Return when the newest clock of this kind is due, as a clock in Shandong shows it."""
    from domain.calendar import SHANGHAI

    found = [c for c in play.state.clocks if c.kind is kind and c.department == department]
    return f"{found[-1].due_at.astimezone(SHANGHAI):%m-%d %H:%M}"


def escalations(play: Play, kind: ClockKind, department: str | None = None) -> list[tuple[int, Order]]:
    """Return the rungs that a clock has climbed, in order."""
    return [
        (event.level, event.order)
        for event in play.events
        if isinstance(event, Escalated) and event.clock is kind and event.department == department
    ]


@pytest.mark.parametrize(
    ("dispatched", "expected"),
    [
        (f"{WEDNESDAY} 07:00", "03-04 17:30"),
        (f"{WEDNESDAY} 12:30", "03-04 17:30"),
        (f"{WEDNESDAY} 15:30", "03-04 17:30"),
        (f"{WEDNESDAY} 15:31", "03-05 10:00"),
        (f"{WEDNESDAY} 23:50", "03-05 10:00"),
        ("2026-03-06 16:00", "03-09 10:00"),
        ("2026-03-07 09:00", "03-09 10:00"),
        ("2026-09-20 09:00", "09-20 17:30"),
        ("2026-09-30 16:00", "10-08 10:00"),
    ],
)
def test_a_department_dispatched_up_to_the_cut_off_is_due_the_same_day(
    dispatched: str, expected: str
) -> None:
    assert due(Play(dispatched).dispatch(), ClockKind.CHECK_IN, ECOLOGY) == expected


def test_an_urgent_call_is_due_in_two_hours_day_or_night() -> None:
    play = Play(f"{WEDNESDAY} 23:50", urgency=Urgency.URGENT).dispatch()
    assert due(play, ClockKind.CHECK_IN, ECOLOGY) == "03-05 01:50"
    assert due(play, ClockKind.SIGN, ECOLOGY) == "03-05 00:05"


@pytest.mark.parametrize(("asked", "expected"), [("10:30", "03-04 10:30"), ("09:10", "03-04 09:30")])
def test_the_time_that_the_township_asks_for_is_the_deadline_but_never_before_signing(
    asked: str, expected: str
) -> None:
    wish = shanghai(f"{WEDNESDAY} {asked}")
    assert due(Play(requested_check_in_at=wish).dispatch(), ClockKind.CHECK_IN, ECOLOGY) == expected


def test_a_later_time_asked_for_moves_handling_too_since_nobody_can_begin_before() -> None:
    play = Play(requested_check_in_at=shanghai("2026-03-10 09:00")).dispatch()
    assert due(play, ClockKind.CHECK_IN, ECOLOGY) == "03-10 09:00"
    assert due(play, ClockKind.HANDLING, ECOLOGY) == "03-13 17:30"
    assert due(play, ClockKind.CASE) == "03-13 17:30"


def test_handling_counts_working_days_from_dispatch_by_the_class_of_the_item() -> None:
    for limit_class, expected in (
        ("simple", "03-05 17:30"),
        ("ordinary", "03-09 17:30"),
        ("hard", "03-11 17:30"),
        ("complex", "03-25 17:30"),
    ):
        assert due(Play(limit_class=limit_class).dispatch(), ClockKind.HANDLING, POLICE) == expected


def test_a_department_that_never_signs_is_deemed_to_have_signed_and_reminded_once() -> None:
    play = Play().dispatch().sign(ECOLOGY, POLICE).at(f"{WEDNESDAY} 09:30")
    assert not any(isinstance(event, SignDeemed) for event in play.events)
    play.later(seconds=1)
    assert play.events[-2] == SignDeemed(department=MARKET, due_at=shanghai(f"{WEDNESDAY} 09:30"))
    assert play.assignment(MARKET).signed_at is None
    assert play.state.stage is Stage.SIGNED
    assert escalations(play, ClockKind.SIGN, MARKET) == [(1, Order.REMINDER)]
    assert play.later(minutes=5).kinds().count("escalated") == 1


def test_signing_at_the_due_moment_is_on_time_and_one_second_later_is_not() -> None:
    on_time = Play().dispatch().at(f"{WEDNESDAY} 09:30").sign(ECOLOGY)
    assert on_time.assignment(ECOLOGY).sign_deemed_at is None
    late = Play().dispatch()
    late.now = shanghai(f"{WEDNESDAY} 09:30") + timedelta(seconds=1)
    late.sign(ECOLOGY)
    assert late.assignment(ECOLOGY).sign_deemed_at == shanghai(f"{WEDNESDAY} 09:30")
    assert late.kinds()[-1] == "signed"
    assert late.events[-1].late  # type: ignore[union-attr]


def test_a_deemed_signature_goes_on_climbing_until_the_department_signs_or_comes() -> None:
    play = Play().dispatch().sign(ECOLOGY, POLICE).at(f"{WEDNESDAY} 11:31")
    assert [level for level, _ in escalations(play, ClockKind.SIGN, MARKET)] == [1, 2]
    play.sign(MARKET).at("2026-03-05 17:31")
    assert [level for level, _ in escalations(play, ClockKind.SIGN, MARKET)] == [1, 2]


def test_every_rung_of_every_late_clock_fires_exactly_once_however_late_one_looks() -> None:
    watched, asleep = Play().dispatch(), Play().dispatch()
    for hour in range(24 * 30):
        watched.at(shanghai(f"{WEDNESDAY} 09:00") + timedelta(hours=hour))
    asleep.at(watched.now)
    for play in (watched, asleep):
        for kind in (ClockKind.SIGN, ClockKind.CHECK_IN, ClockKind.HANDLING):
            for department in DEPARTMENTS:
                assert [level for level, _ in escalations(play, kind, department)] == [1, 2, 3]
        assert [level for level, _ in escalations(play, ClockKind.CASE)] == [1]
    assert watched.events == asleep.events


def test_no_escalation_moves_the_case_off_the_departments_desk() -> None:
    play = Play().dispatch()
    before = [(each.department, each.lead) for each in play.state.assignments]
    play.later(days=30)
    assert [(each.department, each.lead) for each in play.state.assignments] == before
    assert play.state.stage is Stage.SIGNED


def test_the_rungs_name_when_they_fell_due() -> None:
    play = Play().dispatch().sign().later(days=3)
    rungs = [
        (event.level, event.rung_due_at)
        for event in play.events
        if isinstance(event, Escalated) and event.clock is ClockKind.CHECK_IN and event.department == ECOLOGY
    ]
    assert rungs == [
        (1, shanghai(f"{WEDNESDAY} 17:30")),
        (2, shanghai("2026-03-05 10:30")),
        (3, shanghai("2026-03-05 17:30")),
    ]


def test_a_call_that_nobody_dispatches_is_escalated_too() -> None:
    play = Play().at(f"{WEDNESDAY} 09:31")
    assert escalations(play, ClockKind.DISPATCH) == [(1, Order.REMINDER)]


def test_silence_confirms_a_check_in_after_two_working_hours() -> None:
    play = Play().at(f"{WEDNESDAY} 11:00").dispatch().sign().check_in(ECOLOGY, confirm=False)
    play.at(f"{WEDNESDAY} 14:30")
    assert not play.assignment(ECOLOGY).check_in.counts  # type: ignore[union-attr]
    play.later(seconds=1)
    assert play.events[-1] == CheckInConfirmed(department=ECOLOGY, by_silence=True)
    assert play.assignment(ECOLOGY).check_in.by_silence  # type: ignore[union-attr]


def test_arriving_on_time_is_on_time_even_when_reported_later() -> None:
    from domain.case import Officer
    from domain.commands import CheckIn
    from tests.sample import OFFICERS

    play = Play().dispatch().sign().at(f"{WEDNESDAY} 17:40")
    arrived = shanghai(f"{WEDNESDAY} 17:20")
    play.do(
        CheckIn(by=OFFICERS[ECOLOGY], department=ECOLOGY, officers=(Officer(name="王"),), arrived_at=arrived)
    )
    clock = next(c for c in play.state.clocks if c.kind == "check_in" and c.department == ECOLOGY)
    assert not clock.is_red(play.now)


def test_a_case_that_nobody_rates_closes_as_unrated_after_three_working_days() -> None:
    play = Play().until_rating().rate(ECOLOGY)
    assert due(play, ClockKind.RATING) == "03-09 17:30"
    assert play.at("2026-03-09 17:30").state.stage == "awaiting_rating"
    play.later(seconds=1)
    assert play.events[-1] == Closed(unrated=(POLICE, MARKET))
    assert play.state.stage is Stage.CLOSED


def test_rework_starts_the_rating_clock_anew() -> None:
    play = Play().until_rating().later(hours=2).rate(ECOLOGY, solved=False)
    assert not [clock for clock in play.state.running if clock.kind is ClockKind.RATING]
    play.at("2026-03-05 09:00").act(ECOLOGY).done(ECOLOGY)
    assert due(play, ClockKind.RATING) == "03-10 17:30"


def test_clocks_count_over_the_national_day_week_and_its_make_up_day() -> None:
    play = Play("2026-09-30 16:00").dispatch()
    assert due(play, ClockKind.SIGN, ECOLOGY) == "09-30 16:30"
    assert due(play, ClockKind.HANDLING, ECOLOGY) == "10-10 17:30"


def test_a_deadline_beyond_the_published_calendar_is_marked_estimated() -> None:
    play = Play("2026-12-30 10:00").dispatch()
    estimated = {clock.kind: clock.estimated for clock in play.state.clocks if clock.department == ECOLOGY}
    assert estimated == {ClockKind.SIGN: False, ClockKind.CHECK_IN: False, ClockKind.HANDLING: True}


def test_a_clock_turns_yellow_when_a_quarter_of_the_limit_is_left_and_red_when_it_is_passed() -> None:
    clock = next(clock for clock in Play().dispatch().state.clocks if clock.kind is ClockKind.SIGN)
    lights = [
        (clock.is_yellow(at, POLICY.yellow_share), clock.is_red(at))
        for at in (
            clock.due_at - timedelta(minutes=8),
            clock.due_at - timedelta(minutes=7, seconds=30),
            clock.due_at,
            clock.due_at + timedelta(seconds=1),
        )
    ]
    assert lights == [(False, False), (True, False), (True, False), (False, True)]


def test_looking_is_spread_over_the_allowed_time_and_the_same_for_ever_for_one_case() -> None:
    spread = timedelta(seconds=20)
    delays = [wake_delay(f"sample-20260304-{number:06}", spread) for number in range(500)]
    assert delays == [wake_delay(f"sample-20260304-{number:06}", spread) for number in range(500)]
    assert all(timedelta(0) < delay <= spread + timedelta(milliseconds=1) for delay in delays)
    assert len({int(delay.total_seconds()) for delay in delays}) >= 10


def test_urgent_check_in_ignores_the_calendar() -> None:
    at = shanghai("2026-10-01 03:00")
    found = check_in_due(at, WorkCalendar(CALENDAR), POLICY.limits.check_in, Urgency.URGENT)
    assert found.at == at + timedelta(hours=2)

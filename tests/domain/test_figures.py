"""The figures of domain.md §6: worked out by hand, and what holds of them whatever the cases are."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.case import AppealAbout, Basis, CaseState, Direction, Grade, Role
from domain.commands import (
    Adjudicate,
    Cancel,
    DecideAppeal,
    DecideSuspension,
    FileAppeal,
    Object,
    Rate,
    Suspend,
    Transfer,
)
from domain.errors import Invalid
from domain.figures import (
    By,
    Figures,
    Grouping,
    Key,
    LeftOut,
    RatingsByUnit,
    Unit,
    attendances,
    department_score,
    ranked,
    rate,
    require_period,
    resident_score,
    spread,
)
from domain.figures import (
    Rate as Share,
)
from domain.policy import Assessment, ClockKind, Ranking
from tests.sample import (
    COORDINATOR,
    DISPATCHER,
    ECOLOGY,
    FULL_TERMS,
    HEADS,
    HOUSING,
    MARKET,
    OFFICERS,
    OTHER_SUPERVISOR,
    OTHER_TOWN,
    POLICE,
    SUPERVISOR,
    TOWN,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    actor,
    shanghai,
)

OTHER_APPROVER = actor(Role.TOWNSHIP_APPROVER, OTHER_TOWN)
LATER = shanghai("2026-03-20 12:00")


def called(at: str = "2026-03-04 09:00", **changes: Any) -> Play:
    """A released call of a Wednesday, under every rule of the mechanism."""
    return Play(at, terms=FULL_TERMS, **({"caller": TOWN_APPROVER} | changes))


def figures(*plays: Play | CaseState, moment: datetime = LATER) -> Figures:
    """The figures of these, some time after."""
    grouping = Grouping(moment)
    grouping.add(each.state if isinstance(each, Play) else each for each in plays)
    return grouping.total


def parts(share: Share) -> tuple[float, int]:
    """Numerator and denominator."""
    return float(share.numerator), share.n


def graded(play: Play, **grades: Grade) -> Play:
    """Let the township rate each department so."""
    for department, grade in grades.items():
        play.do(Rate(by=TOWN_OFFICER, department=department, grade=grade, solved=True))
    return play


def upheld(play: Play, department: Any, about: AppealAbout, grade: Grade | None = None) -> Play:
    """Let the department appeal, and two reviewers agree."""
    play.do(FileAppeal(by=HEADS[department], department=department, about=about, reason="与事实不符"))
    for who in (SUPERVISOR, OTHER_SUPERVISOR):
        play.do(DecideAppeal(by=who, department=department, uphold=True, grade=grade, reason="属实"))
    return play


# --- department assignments --------------------------------------------------------------------------------


def test_signing_late_is_signed_but_not_timely_and_not_signing_is_neither() -> None:
    play = called().dispatch().at("2026-03-04 09:30").sign(ECOLOGY)
    play.at("2026-03-04 09:31").sign(POLICE)
    found = figures(play)
    assert (found.dispatched, found.signed, found.deemed) == (3, 2, 2)
    assert parts(found.sign_for) == (2, 3)
    assert parts(found.timely_sign_for) == (1, 3)


def test_check_in_same_day_and_on_time_are_three_different_things() -> None:
    asked = shanghai("2026-03-04 11:00")
    play = called(requested_check_in_at=asked).dispatch().sign()
    play.at("2026-03-04 11:00").check_in(ECOLOGY)  # on time
    play.at("2026-03-04 11:01").check_in(POLICE)  # late, the same day
    play.at("2026-03-05 09:00").check_in(MARKET)  # the day after
    found = figures(play)
    assert parts(found.check_in) == (3, 3)
    assert parts(found.same_day) == (2, 3)
    assert parts(found.on_time) == (1, 3)


def test_the_calendar_day_is_that_of_shanghai() -> None:
    asked = shanghai("2026-03-04 23:00")
    play = called(requested_check_in_at=asked).dispatch(ECOLOGY, POLICE).sign()
    play.at("2026-03-04 23:59").check_in(ECOLOGY)
    play.at("2026-03-05 07:59").check_in(POLICE)  # still the 4th of March in UTC
    assert parts(figures(play).same_day) == (1, 2)


def test_who_comes_before_the_day_that_the_township_asked_for_has_come_in_time() -> None:
    play = called(requested_check_in_at=shanghai("2026-03-06 10:00")).dispatch(ECOLOGY).sign().check_in()
    found = figures(play, moment=play.now)
    assert parts(found.same_day) == parts(found.on_time) == (1, 1)


def test_what_has_not_fallen_due_is_in_no_check_in_rate_and_what_nobody_came_for_is() -> None:
    play = called().dispatch(ECOLOGY).sign()
    assert figures(play, moment=shanghai("2026-03-04 17:29")).check_in.value is None
    assert figures(play, moment=shanghai("2026-03-04 17:30")).check_in.value == 0


def test_a_check_in_counts_by_arrival_once_the_township_has_confirmed_it_and_not_before() -> None:
    play = called().dispatch(ECOLOGY).sign().at("2026-03-04 17:20").check_in(confirm=False)
    found = figures(play)
    assert (found.awaiting_confirmation, parts(found.check_in)) == (1, (0, 1))
    play.at("2026-03-05 12:00")  # confirmed by silence the next morning
    found = figures(play)
    assert (found.awaiting_confirmation, parts(found.check_in), parts(found.same_day)) == (0, (1, 1), (1, 1))


def test_a_check_in_that_the_township_let_stand_until_the_case_closed_counts() -> None:
    play = (
        called().dispatch(ECOLOGY).sign().at("2026-03-04 10:00").check_in(confirm=False).act().done().rate()
    )
    found = figures(play, moment=shanghai("2026-03-06 12:00"))
    assert play.state.stage.value == "closed"
    assert (found.awaiting_confirmation, parts(found.check_in), parts(found.on_time)) == (0, (1, 1), (1, 1))


def test_what_stands_still_before_its_deadline_is_not_due() -> None:
    play = called().dispatch(ECOLOGY).sign()
    until = shanghai("2026-03-18 09:00")
    play.do(Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定", until=until))
    play.do(DecideSuspension(by=COORDINATOR, approve=True))
    assert figures(play, moment=shanghai("2026-03-10 09:00")).due == 0


def test_a_transferred_department_stays_in_and_is_due_only_if_its_time_had_run_out() -> None:
    def moved(at: str) -> Figures:
        play = called().dispatch(ECOLOGY)
        play.at(at).do(Transfer(by=DISPATCHER, department=ECOLOGY, to=HOUSING, reason="职责"))
        return figures(play)

    early, late = moved("2026-03-04 10:00"), moved("2026-03-05 10:00")
    assert (early.dispatched, early.deemed, early.due) == (2, 1, 1)
    assert (late.dispatched, late.deemed, late.due) == (2, 1, 2)
    assert early.assignments_left_out == late.assignments_left_out == {}


def test_a_department_that_comes_back_stands_for_each_of_its_times_with_the_clocks_of_that_time() -> None:
    play = called().dispatch(ECOLOGY)
    for source, to in ((ECOLOGY, HOUSING), (HOUSING, ECOLOGY)):
        play.later(minutes=10).do(Transfer(by=DISPATCHER, department=source, to=to, reason="职责"))
    play.sign().check_in()
    found = attendances(play.state)
    assert [(each.assignment.department, len(each.clocks)) for each in found] == [
        (ECOLOGY, 3),
        (HOUSING, 3),
        (ECOLOGY, 4),  # sign-for, check-in and handling, and the township's time to confirm
    ]
    assert all(each.started_at >= shanghai("2026-03-04 09:20") for each in found[2].clocks)
    counted = figures(play)
    assert (parts(counted.sign_for), parts(counted.check_in)) == ((1, 3), (1, 1))


def released(play: Play) -> Play:
    """Let a ruling release the ecology office; housing takes its place."""
    play.do(
        Object(
            by=OFFICERS[ECOLOGY],
            department=ECOLOGY,
            basis=Basis.LAW,
            reason="非我职责",
            proposed=HOUSING,
        )
    )
    return play.do(Adjudicate(by=DISPATCHER, department=ECOLOGY, uphold=True, reason="改派"))


def test_who_is_released_by_a_ruling_leaves_every_figure_and_stays_counted_as_marked() -> None:
    play = released(called().dispatch(ECOLOGY).sign()).sign(HOUSING)
    found = figures(play)
    assert (found.dispatched, parts(found.sign_for)) == (1, (1, 1))
    assert found.assignments_left_out == {LeftOut.RULING: 1}
    assert (parts(found.objection), parts(found.objection_upheld)) == ((1, 1), (1, 1))
    by_step = {each.step: each for each in found.steps}
    assert by_step[ClockKind.SIGN].gross.n == 1


def test_an_upheld_appeal_takes_the_lateness_out_and_leaves_the_rating_in() -> None:
    play = called().dispatch(ECOLOGY).at("2026-03-04 10:00").sign().check_in().act().done()
    graded(play, ecology=Grade.DISSATISFIED)
    assert parts(figures(play).timely_sign_for) == (0, 1)
    found = figures(upheld(play, ECOLOGY, AppealAbout.LATENESS))
    assert (found.dispatched, found.timely_sign_for.value) == (0, None)
    assert found.assignments_left_out == {LeftOut.EXEMPTED: 1}
    assert parts(found.satisfaction) == (0, 1)


def test_a_case_that_was_withdrawn_is_in_no_rate_and_neither_are_its_departments() -> None:
    play = called().dispatch(ECOLOGY, POLICE).do(Cancel(by=TOWN_OFFICER, reason="误报"))
    found = figures(play)
    assert (found.cases, found.dispatched) == (0, 0)
    assert found.cases_left_out == {LeftOut.CANCELLED: 1}
    assert found.assignments_left_out == {LeftOut.CANCELLED: 2}
    assert all(each.value is None for each in found.rates().values())


def test_a_call_that_waits_for_its_release_has_not_been_made_yet() -> None:
    assert figures(called(caller=TOWN_OFFICER)).cases_left_out == {LeftOut.NOT_RELEASED: 1}


def test_what_a_department_asks_of_a_township_is_no_check_in_and_is_counted_as_such() -> None:
    play = called(direction=Direction.DOWN, caller_office=ECOLOGY, caller=OFFICERS[ECOLOGY])
    found = figures(play)
    assert (found.cases, found.cases_left_out) == (0, {LeftOut.DOWNWARD: 1})


# --- ratings -----------------------------------------------------------------------------------------------


def test_satisfaction_counts_basically_satisfied_as_nine_tenths_of_what_was_rated() -> None:
    play = called().dispatch().sign().check_in().act().done()
    graded(play, ecology=Grade.SATISFIED, police=Grade.BASICALLY_SATISFIED, market=Grade.DISSATISFIED)
    found = figures(play)
    assert parts(found.satisfaction) == (1.9, 3)
    assert (parts(found.resolution), parts(found.unrated)) == ((3, 3), (0, 3))
    assert dict(found.grades) == dict.fromkeys(Grade, 1)


def test_what_nobody_rated_is_shown_as_such_and_is_no_part_of_satisfaction() -> None:
    play = called().dispatch(ECOLOGY, POLICE).sign().check_in().act().done()
    assert figures(play, moment=play.now).unrated.value is None  # not closed yet
    graded(play, police=Grade.SATISFIED).at("2026-03-12 09:00")
    found = figures(play)
    assert (parts(found.satisfaction), parts(found.unrated)) == ((1, 1), (1, 2))


def test_a_corrected_rating_counts_and_the_original_is_shown_beside_it() -> None:
    play = called().dispatch(ECOLOGY).sign().check_in().act().done()
    graded(play, ecology=Grade.DISSATISFIED)
    found = figures(upheld(play, ECOLOGY, AppealAbout.RATING, Grade.SATISFIED))
    assert found.corrected == 1
    assert (parts(found.satisfaction), parts(found.satisfaction_as_given)) == ((1, 1), (0, 1))


def test_a_rework_wipes_no_bad_rating_out_until_the_next_is_given() -> None:
    play = called().dispatch(ECOLOGY).sign().check_in().act().done().rate(solved=False)
    found = figures(play)
    assert (parts(found.satisfaction), parts(found.resolution), parts(found.rework)) == (
        (0, 1),
        (0, 1),
        (1, 1),
    )
    found = figures(play.act().done().rate())
    assert (parts(found.satisfaction), parts(found.resolution), parts(found.rework)) == (
        (1, 1),
        (1, 1),
        (1, 1),
    )


# --- cases -------------------------------------------------------------------------------------------------


def test_closing_on_time_is_counted_among_what_had_to_be_closed() -> None:
    kept = called().until_rating().rate()
    late = called().dispatch(ECOLOGY).sign().at("2026-03-12 09:00").check_in().act().done().rate()
    never, fresh = called().dispatch(ECOLOGY), called("2026-03-20 09:00").dispatch(ECOLOGY)
    found = figures(kept, late, never, fresh)
    assert (parts(found.closed), parts(found.closed_on_time)) == ((2, 4), (1, 3))


def test_hours_are_raw_and_without_what_was_suspended() -> None:
    play = called().dispatch(ECOLOGY).sign().check_in()
    until = shanghai("2026-03-06 09:00")
    play.do(Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定", until=until))
    play.do(DecideSuspension(by=COORDINATOR, approve=True)).at("2026-03-06 11:00").act().done()
    handling = next(each for each in figures(play).steps if each.step is ClockKind.HANDLING)
    assert (handling.gross.n, handling.gross.median, handling.net.median) == (1, 50.0, 2.0)


def test_median_and_ninetieth_percentile_by_hand() -> None:
    assert (spread([]).median, spread([]).p90) == (None, None)
    assert (spread([3, 1]).median, spread([3, 1]).p90) == (2, 3)
    assert (spread(range(1, 11)).median, spread(range(1, 11)).p90) == (5.5, 9)
    assert spread(range(1, 12)).p90 == 10


def test_the_channel_split_and_the_policy_versions_are_beside_the_rates() -> None:
    found = figures(called(channel="grid"), called(channel="grid"), called(channel="wechat"))
    assert {channel: parts(each) for channel, each in found.channels.items()} == {
        "grid": (2, 3),
        "wechat": (1, 3),
    }
    assert found.policy_versions == {"sample-2": 3}


# --- groups and lists --------------------------------------------------------------------------------------


def test_a_case_belongs_to_its_lead_and_every_assignment_to_its_own_department() -> None:
    grouping = Grouping(LATER, By.DEPARTMENT)
    grouping.add([called().dispatch(ECOLOGY, POLICE).state, called().state])
    rows = {key.code: (each.cases, each.dispatched) for key, each in grouping.rows().items()}
    assert rows == {"": (1, 0), "ecology": (1, 1), "police": (0, 1)}


def test_the_month_is_that_of_the_call_in_shanghai_and_the_field_that_of_the_item() -> None:
    states = [called("2026-03-01 07:00", item_code="paper-mill").state, called("2026-02-28 09:00").state]
    months, fields = Grouping(LATER, By.MONTH), Grouping(LATER, By.FIELD, lambda _, item: f"{item}的领域")
    months.add(states)
    fields.add(states)
    assert [key.code for key in months.rows()] == ["2026-02", "2026-03"]
    assert [key.code for key in fields.rows()] == ["", "paper-mill的领域"]


def test_rank_lists_are_off_by_default_and_never_show_fewer_than_ten() -> None:
    def row(town: str, satisfied: int, n: int) -> tuple[Key, Figures]:
        one = called().until_rating().rate().state
        empty = figures(one)
        share = rate(satisfied, n)
        return Key("sample", town), _with(empty, satisfaction=share)

    rows = dict([row("a", 9, 10), row("b", 10, 10), row("c", 9, 10), row("d", 9, 9)])
    assert ranked(rows, "satisfaction", Ranking()) == {}
    shown = ranked(rows, "satisfaction", Ranking(shown=True))
    assert {key.code: place for key, place in shown.items()} == {"b": 1, "a": 2, "c": 2}
    with pytest.raises(ValueError, match="least"):
        Ranking(shown=True, least=9)
    with pytest.raises(KeyError):
        ranked(rows, "cases", Ranking(shown=True))  # the number of calls makes no list


def _with(figures_: Figures, **changes: Any) -> Figures:
    content = {name: getattr(figures_, name) for name in Figures.__dataclass_fields__}
    return Figures(**(content | changes))


def test_a_period_that_holds_nothing_is_refused() -> None:
    with pytest.raises(Invalid, match="empty_period"):
        require_period(LATER, LATER)
    require_period(None, LATER)
    require_period(LATER, LATER + timedelta(seconds=1))


# --- assessment --------------------------------------------------------------------------------------------


def test_a_resident_unit_is_scored_by_the_township_for_at_least_six_tenths() -> None:
    score = resident_score(rate(9, 10), Assessment(), "v1", Decimal(80))
    assert (score.value, score.weight, score.policy_version) == (Decimal("86.0"), Decimal("0.6"), "v1")
    with pytest.raises(ValueError, match="resident_weight"):
        Assessment(resident_weight=Decimal("0.59"))


def test_a_departments_year_is_one_third_the_townships_rating_and_waits_for_the_imported_rest() -> None:
    third = Assessment()
    assert department_score(rate(9, 10), third, "v1").value is None
    assert department_score(rate(9, 10), third, "v1").rating_points == Decimal("29.997")
    assert department_score(rate(9, 10), third, "v1", Decimal(60)).value == Decimal("69.999")
    assert department_score(rate(0, 0), third, "v1", Decimal(60)).value is None
    with pytest.raises(Invalid, match="score_out_of_range"):
        department_score(rate(9, 10), third, "v1", Decimal(101))


def test_ratings_are_collected_for_departments_and_for_their_units_in_townships() -> None:
    play = called().dispatch(ECOLOGY, POLICE).sign().check_in().act().done()
    graded(play, ecology=Grade.SATISFIED, police=Grade.BASICALLY_SATISFIED)
    collected = RatingsByUnit()
    collected.add([play.state, released(called().dispatch(ECOLOGY)).state])
    assert {unit: parts(each) for unit, each in collected.rates().items()} == {
        Unit("sample", ECOLOGY): (1, 1),
        Unit("sample", POLICE): (0.9, 1),
        Unit("sample", POLICE, TOWN): (0.9, 1),  # its officers are resident there
    }


# --- properties --------------------------------------------------------------------------------------------


def _fragments() -> Sequence[CaseState]:
    """Cases in every situation that matters to the figures."""
    done = called().until_rating()
    listed = [
        called(),
        called(caller=TOWN_OFFICER),
        called(channel="grid", township=OTHER_TOWN, caller=OTHER_APPROVER).dispatch(ECOLOGY),
        called("2026-02-27 16:00", item_code="paper-mill").dispatch(POLICE, MARKET).sign(POLICE),
        called().dispatch(ECOLOGY, POLICE).sign().at("2026-03-05 09:00").check_in(ECOLOGY),
        called().dispatch(MARKET).sign().check_in(confirm=False),
        done,
        called().until_rating().rate(),
        called().until_rating().rate(ECOLOGY).at("2026-03-12 09:00"),
        called().until_rating().rate(ECOLOGY, solved=False),
        called().dispatch(ECOLOGY).do(Cancel(by=TOWN_OFFICER, reason="误报")),
        released(called().dispatch(ECOLOGY, MARKET)),
        called().dispatch(ECOLOGY).do(Transfer(by=DISPATCHER, department=ECOLOGY, to=HOUSING, reason="职责")),
        upheld(
            graded(called().dispatch(ECOLOGY).sign().check_in().act().done(), ecology=Grade.DISSATISFIED),
            ECOLOGY,
            AppealAbout.RATING,
            Grade.BASICALLY_SATISFIED,
        ),
    ]
    return [play.state for play in listed]


CASES = _fragments()
SOME = st.lists(st.sampled_from(CASES), max_size=20)
WHEN = st.datetimes(datetime(2026, 3, 4, 12), datetime(2026, 4, 1), timezones=st.just(LATER.tzinfo))  # type: ignore[arg-type]  # noqa: DTZ001


@given(SOME, WHEN)
def test_every_rate_lies_between_nothing_and_all_or_has_no_value(
    states: list[CaseState], moment: datetime
) -> None:
    found = figures(*states, moment=moment)
    for name, each in (*found.rates().items(), *found.channels.items()):
        assert 0 <= each.numerator <= each.n, name
        assert (each.value is None) == (each.n == 0), name
        assert each.value is None or 0 <= each.value <= 1, name
    for step in found.steps:
        assert step.gross.n == step.net.n > 0
        assert step.net.median is not None
        assert step.gross.median is not None
        assert step.net.median <= step.gross.median


@settings(max_examples=50)
@given(SOME, WHEN, st.sampled_from(By))
def test_numerators_and_denominators_add_up_over_any_grouping(
    states: list[CaseState], moment: datetime, by: By
) -> None:
    grouping = Grouping(moment, by)
    grouping.add(states)
    rows, total = grouping.rows().values(), grouping.total
    for name, each in total.rates().items():
        assert each.n == sum(row.rates()[name].n for row in rows), name
        assert each.numerator == sum(row.rates()[name].numerator for row in rows), name
    for name in ("cases", "dispatched", "due", "signed", "deemed", "corrected"):
        assert getattr(total, name) == sum(getattr(row, name) for row in rows), name
    for reason in LeftOut:
        for part in ("cases_left_out", "assignments_left_out"):
            found = [getattr(row, part).get(reason, 0) for row in rows]
            assert getattr(total, part).get(reason, 0) == sum(found)


@given(SOME.flatmap(lambda states: st.tuples(st.just(states), st.permutations(states))), WHEN)
def test_the_order_of_cases_does_not_matter(
    both: tuple[list[CaseState], list[CaseState]], moment: datetime
) -> None:
    assert figures(*both[0], moment=moment) == figures(*both[1], moment=moment)


@given(SOME, WHEN)
def test_whoever_is_released_by_a_ruling_never_counts(states: list[CaseState], moment: datetime) -> None:
    without = [
        state.model_copy(update={"former": tuple(each for each in state.former if each.in_figures)})
        for state in states
    ]
    # the clocks of who was released would else look like nobody's
    before, after = figures(*states, moment=moment), figures(*without, moment=moment)
    changed = {LeftOut.RULING: sum(not each.in_figures for state in states for each in state.former)}
    assert _with(before, assignments_left_out={}) == _with(after, assignments_left_out={})
    assert before.assignments_left_out.get(LeftOut.RULING, 0) == changed[LeftOut.RULING]

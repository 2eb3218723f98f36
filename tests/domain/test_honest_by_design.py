"""Systems of this kind fail their users in known ways. One test for each of them says what ours does instead."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from domain.case import AppealAbout, Basis, CaseState, CheckIn, Grade, Officer, Stage
from domain.commands import (
    Adjudicate,
    DecideAppeal,
    DecideExtension,
    DecideSuspension,
    DisputeCheckIn,
    Extend,
    FileAppeal,
    Object,
    Rate,
    Release,
    Reopen,
    ReportDone,
    Rework,
    Suspend,
)
from domain.commands import CheckIn as CheckInCommand
from domain.events import Escalated
from domain.figures import By, Grouping, RatingsByUnit, department_score, ranked
from domain.policy import ClockKind, Ranking, Urgency
from domain.rating_patterns import Pattern, given_ratings, rating_flags
from tests.domain.test_lifecycle import refusal
from tests.sample import (
    COORDINATOR,
    DEPARTMENTS,
    DISPATCHER,
    ECOLOGY,
    FULL_TERMS,
    HEADS,
    HOUSING,
    LISTED,
    MARKET,
    OFFICERS,
    OTHER_SUPERVISOR,
    OTHER_TOWN,
    POLICE,
    SUPERVISOR,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    shanghai,
    shown,
)


def called(at: str = "2026-03-04 09:00", **changes: Any) -> Play:
    """A released call under every rule of the mechanism, Wednesday 9:00."""
    return Play(at, terms=FULL_TERMS, **({"caller": TOWN_APPROVER} | changes))


def test_unsigned_means_untimed_here_the_clock_runs_from_dispatch_and_signing_is_deemed() -> None:
    play = called().dispatch(ECOLOGY)
    dispatched_at = play.now
    assert {clock.started_at for clock in play.state.running} == {dispatched_at}
    play.at("2026-03-10 09:00")
    assignment = play.assignment(ECOLOGY)
    assert assignment.signed_at is None
    assert assignment.sign_deemed_at == dispatched_at + timedelta(minutes=30)
    late = {event.clock for event in play.events if isinstance(event, Escalated) and event.level > 0}
    assert late >= {ClockKind.SIGN, ClockKind.CHECK_IN, ClockKind.HANDLING, ClockKind.CASE}
    play.sign()
    assert play.assignment(ECOLOGY).sign_deemed_at is not None  # signing later does not wipe it out


def test_departments_pass_the_case_round_here_one_case_clock_runs_and_the_third_refusal_is_ruled_on() -> None:
    play = called().dispatch(ECOLOGY)
    whole = play.state.clock(ClockKind.CASE)
    assert whole is not None
    for department, other in ((ECOLOGY, POLICE), (POLICE, MARKET), (MARKET, HOUSING)):
        play.later(minutes=10)
        objection = Object(
            by=OFFICERS[department], department=department, basis=Basis.LAW, reason="非我职责", proposed=other
        )
        with pytest.raises(ValueError, match="proposed"):
            Object.model_validate({"by": OFFICERS[department], "department": department, "reason": "x"})
        play.do(objection)
        if department is not MARKET:
            play.do(Adjudicate(by=DISPATCHER, department=department, uphold=True, reason="改派"))
    assert play.state.objections[-1].before_group
    ruling = Adjudicate(by=COORDINATOR, department=MARKET, uphold=True, owner=ECOLOGY, reason="终局")
    play.do(ruling)
    assert play.state.clock(ClockKind.CASE) == whole
    back = Object(
        by=OFFICERS[ECOLOGY], department=ECOLOGY, basis=Basis.LAW, reason="非我职责", proposed=POLICE
    )
    assert refusal(play, back) == "ruling_binds"


def test_fake_check_in_here_it_counts_when_the_township_says_so_and_a_disputed_one_does_not() -> None:
    play = called().dispatch(ECOLOGY, POLICE, MARKET).sign()
    for department in DEPARTMENTS:
        with pytest.raises(ValueError, match="officers"):
            CheckInCommand(by=OFFICERS[department], department=department, officers=())
    play.check_in(ECOLOGY).check_in(POLICE, MARKET, confirm=False)
    play.do(DisputeCheckIn(by=TOWN_OFFICER, department=POLICE, reason="无人到场"))
    play.at("2026-03-04 11:00")
    assert [_counts(play, each) for each in DEPARTMENTS] == [True, False, False]
    play.later(seconds=1)  # two working hours of silence
    assert [_counts(play, each) for each in DEPARTMENTS] == [True, False, True]
    assert play.state.clock(ClockKind.CHECK_IN, POLICE) is not None
    for model in (CheckIn, CheckInCommand, Officer):  # no tracking, no selfies: 防治“指尖上的形式主义”
        fields = " ".join(model.model_fields)
        assert not any(word in fields for word in ("longitude", "latitude", "location", "photo", "image"))


def _counts(play: Play, department: Any) -> bool:
    check_in = play.assignment(department).check_in
    return check_in is not None and check_in.counts


def test_closed_is_not_fixed_here_only_the_caller_closes_and_not_solved_goes_back_and_is_reopened() -> None:
    play = called(responsibility=LISTED).dispatch_as_listed().sign().check_in().act()
    empty_handed = ReportDone(by=OFFICERS[ECOLOGY], department=ECOLOGY, result="完成")
    assert refusal(play, empty_handed) == "evidence_missing"
    play.do(empty_handed.model_copy(update={"attachments": shown()})).done(POLICE, MARKET)
    assert play.state.stage is Stage.AWAITING_RATING
    for who in (OFFICERS[ECOLOGY], HEADS[ECOLOGY], DISPATCHER, COORDINATOR):
        rating = Rate(by=who, department=ECOLOGY, grade=Grade.SATISFIED, solved=True)
        assert refusal(play, rating) == "role_may_not"
    play.rate(ECOLOGY, solved=False)
    assert play.assignment(ECOLOGY).round == 2
    assert play.act(ECOLOGY).done(ECOLOGY).rate().state.stage is Stage.CLOSED
    again = Reopen(by=TOWN_OFFICER, reason="违建复建")
    assert play.later(days=6).do(again).state.stage is Stage.ENFORCING
    play.act().done(POLICE, MARKET).done(ECOLOGY).rate()
    assert refusal(play, again) == "reopen_needs_approval"


def test_pause_and_extension_abuse_here_both_need_approval_and_raw_time_is_kept_beside_net_time() -> None:
    play = called().dispatch(ECOLOGY).sign().check_in()
    ask = Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定", until=shanghai("2026-03-11 09:00"))
    play.do(ask)
    assert play.state.suspension is None
    play.do(DecideSuspension(by=COORDINATOR, approve=True)).at("2026-03-11 10:00")
    pause = play.state.suspensions[0]
    assert (pause.reason, pause.approved_by) == ("鉴定", COORDINATOR.name)
    assert (pause.began_at, pause.ended_at) == (shanghai("2026-03-04 09:00"), shanghai("2026-03-11 09:00"))
    clock = play.state.clock(ClockKind.HANDLING, ECOLOGY)
    assert clock is not None
    assert (clock.gross(play.now), clock.net(play.now)) == (timedelta(days=7, hours=1), timedelta(hours=1))
    for _ in range(2):
        play.do(Extend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="再鉴定"))
        play.do(DecideExtension(by=TOWN_APPROVER, department=ECOLOGY, approve=True))
        play.do(DecideExtension(by=COORDINATOR, department=ECOLOGY, approve=True))
    third = Extend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="三鉴定")
    assert refusal(play, third) == "extended_enough"
    assert [each.reason for each in play.state.extensions] == ["再鉴定", "再鉴定"]


def test_bought_ratings_here_they_are_locked_and_a_correction_is_an_appeal_with_both_versions_kept() -> None:
    play = called().dispatch(ECOLOGY, POLICE).sign().check_in().act().done()
    bad = Rate(by=TOWN_OFFICER, department=ECOLOGY, grade=Grade.DISSATISFIED, solved=True)
    play.do(bad)
    assert refusal(play, bad.model_copy(update={"grade": Grade.SATISFIED})) == "already_rated"
    assert refusal(play, Rework(by=TOWN_OFFICER, department=ECOLOGY, reason="x")) == "already_rated"
    play.rate(POLICE)
    play.do(FileAppeal(by=HEADS[ECOLOGY], department=ECOLOGY, about=AppealAbout.RATING, reason="与事实不符"))
    for who in (SUPERVISOR, OTHER_SUPERVISOR):
        play.do(DecideAppeal(by=who, department=ECOLOGY, uphold=True, grade=Grade.SATISFIED, reason="属实"))
    assignment = play.assignment(ECOLOGY)
    assert assignment.rating is not None
    assert assignment.corrected is not None
    assert (assignment.rating.grade, assignment.corrected.grade) == (Grade.DISSATISFIED, Grade.SATISFIED)


def test_an_unrated_case_here_is_neither_satisfied_nor_dissatisfied() -> None:
    play = called().dispatch(ECOLOGY, POLICE).sign().check_in().act().done().rate(POLICE)
    play.at("2026-03-09 17:30")
    assert play.state.stage is Stage.AWAITING_RATING
    play.later(seconds=1)
    assert play.state.closure is not None
    assert play.state.closure.unrated == (ECOLOGY,)
    assert play.assignment(ECOLOGY).rating is None


def test_whistle_inflation_and_fear_here_the_township_releases_and_the_same_matter_again_rings_higher() -> (
    None
):
    routine = called(caller=TOWN_OFFICER)
    assert routine.state.stage is Stage.AWAITING_RELEASE
    urgent = called(caller=TOWN_OFFICER, urgency=Urgency.URGENT)
    assert urgent.state.stage is Stage.CALLED
    urgent.do(Release(by=TOWN_APPROVER, justified=False, note="并非紧急"))
    assert urgent.state.urgency_justified is False

    def levels_at_red(raised: int) -> list[int]:
        play = called(raised=raised).dispatch(ECOLOGY).at("2026-03-04 09:31")
        return [e.level for e in play.events if isinstance(e, Escalated) and e.clock is ClockKind.SIGN]

    assert (levels_at_red(0), levels_at_red(1)) == ([1], [1, 2])


def test_one_more_system_to_feed_here_a_call_says_everything_once_and_its_channel_is_kept() -> None:
    play = called(responsibility=LISTED, channel="grid")
    play.dispatch_as_listed()
    assert play.state.departments() == (ECOLOGY, POLICE, MARKET)  # nobody types what the list knows
    assert play.state.call.channel == "grid"
    assert play.state.call.responsibility == LISTED


def test_mechanical_ratings_here_they_are_flagged_with_what_the_flag_rests_on_and_not_dropped() -> None:
    plays = [
        called(f"2026-03-04 09:{minute:02}", case_id=f"case-{minute:02}").dispatch(ECOLOGY)
        for minute in range(10)
    ]
    states = [play.sign().check_in().act().done().rate().state for play in plays]
    given = [rating for state in states for rating in given_ratings(state)]
    flags = {flag.pattern: flag for flag in rating_flags(given)}
    assert set(flags) == {Pattern.UNIFORM, Pattern.TOO_FAST}
    assert [each.case_id for each in flags[Pattern.UNIFORM].ratings] == [each.case_id for each in states]
    grouping = Grouping(plays[-1].now)
    grouping.add(states)
    assert (grouping.total.satisfaction.value, grouping.total.satisfaction.n) == (Decimal(1), 10)


def test_100_percent_with_no_denominator_here_every_rate_has_its_n_and_none_of_nothing() -> None:
    nothing = Grouping(shanghai("2026-03-04 09:00")).total
    assert nothing.rates()
    assert all((each.n, each.value) == (0, None) for each in nothing.rates().values())
    grouping = Grouping(shanghai("2026-03-20 09:00"), By.TOWNSHIP)
    play = called(channel="grid").dispatch(ECOLOGY, POLICE).sign().check_in().act().done().rate(POLICE)
    grouping.add([play.at("2026-03-19 09:00").state])
    found = grouping.total
    assert (found.satisfaction.value, found.satisfaction.n, found.unrated.value) == (
        Decimal(1),
        1,
        Decimal("0.5"),
    )
    assert found.channels["grid"].n == 1
    assert ranked(grouping.rows(), "satisfaction", Ranking()) == {}
    assert ranked(grouping.rows(), "satisfaction", Ranking(shown=True)) == {}  # n < 10


def test_whistle_inflation_and_fear_here_the_number_of_calls_never_enters_a_townships_score() -> None:
    few = [
        called().dispatch(ECOLOGY, POLICE).sign().check_in().act().done().rate().state,
        called(township=OTHER_TOWN).state,
    ]

    def rates_and_scores(states: list[CaseState]) -> tuple[Any, Any, set[str]]:
        grouping, collected = Grouping(shanghai("2026-03-20 09:00"), By.TOWNSHIP), RatingsByUnit()
        grouping.add(states)
        collected.add(states)
        rates = {
            key.code: {name: each.value for name, each in row.rates().items()}
            for key, row in grouping.rows().items()
        }
        scores = {
            unit: department_score(each, FULL_TERMS.policy.assessment, "v1", Decimal(80)).value
            for unit, each in collected.rates().items()
        }
        return rates, scores, {unit.department for unit in collected.rates()}

    assert rates_and_scores(few) == rates_and_scores(few * 7)
    assert rates_and_scores(few)[2] == {ECOLOGY, POLICE}  # no township is scored at all

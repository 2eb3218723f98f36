"""More time: extension, suspension, newer terms; all of it kept, with who and why."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.calendar import CalendarData
from domain.case import Actor, CaseState, Clock, OrganisationCode, Pause, Stage
from domain.commands import (
    AdoptTerms,
    Cancel,
    DecideExtension,
    DecideSuspension,
    DisputeCheckIn,
    Extend,
    Instruct,
    ReportDone,
    Resume,
    Rework,
    Sign,
    Suspend,
    TakeAction,
    Watch,
)
from domain.district import AdoptionScope, Terms
from domain.events import Escalated, ExtensionDecided, Resumed, TermsAdopted
from domain.lifecycle import fold
from domain.policy import ClockKind, LimitClass, Urgency
from tests.domain.test_lifecycle import refusal
from tests.sample import (
    ADMINISTRATOR,
    CALENDAR,
    COORDINATOR,
    DEPARTMENTS,
    DISPATCHER,
    ECOLOGY,
    FULL_TERMS,
    HEADS,
    LEADER,
    OFFICERS,
    POLICE,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    limit,
    shanghai,
)

HANDLING_DUE = shanghai("2026-03-09 17:30")
"""Three working days after Wednesday the 4th."""


def at_work(at: str = "2026-03-04 09:00", *departments: OrganisationCode, **changes: Any) -> Play:
    """A case on which all have checked in."""
    play = Play(at, terms=FULL_TERMS, caller=TOWN_APPROVER, **changes)
    return play.dispatch(*departments or (ECOLOGY, POLICE)).sign().check_in()


def handling(state: CaseState, department: OrganisationCode = ECOLOGY) -> Clock:
    """The department's handling clock."""
    clock = state.clock(ClockKind.HANDLING, department)
    assert clock is not None
    return clock


def asks(**add: int) -> Extend:
    """Return the department's request."""
    return Extend(
        by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="需鉴定", add=limit(**add) if add else None
    )


def decides(by: Actor, *, approve: bool = True, reason: str = "") -> DecideExtension:
    """Return one office's decision."""
    return DecideExtension(by=by, department=ECOLOGY, approve=approve, reason=reason)


def extend(play: Play, **add: int) -> Play:
    """Let the department get more time."""
    return play.do(asks(**add)).do(decides(TOWN_APPROVER)).do(decides(COORDINATOR))


# --- extension ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [TOWN_APPROVER, COORDINATOR])
def test_more_time_needs_the_word_of_the_township_and_of_the_group_in_any_order(first: Actor) -> None:
    second = COORDINATOR if first is TOWN_APPROVER else TOWN_APPROVER
    play = at_work().do(asks(working_days=2)).do(decides(first))
    assert play.state.extensions[0].granted is None
    assert handling(play.state).due_at == HANDLING_DUE
    assert refusal(play, decides(first)) == "already_decided"
    play.do(decides(second))
    assert play.state.extensions[0].granted is True
    assert handling(play.state).due_at == shanghai("2026-03-11 17:30")
    assert handling(play.state, POLICE).due_at == HANDLING_DUE


def test_the_clock_of_the_case_moves_along_when_it_would_end_before_the_department() -> None:
    play = extend(at_work(), working_days=2)
    whole = play.state.clock(ClockKind.CASE)
    assert whole is not None
    assert whole.due_at == shanghai("2026-03-11 17:30")
    extended = play.events[-1]
    assert isinstance(extended, ExtensionDecided)
    assert {(move.clock, move.department) for move in extended.moved} == {
        (ClockKind.HANDLING, ECOLOGY),
        (ClockKind.CASE, None),
    }


@pytest.mark.parametrize("by", [TOWN_APPROVER, COORDINATOR])
def test_one_no_ends_it_and_needs_a_reason(by: Actor) -> None:
    play = at_work().do(asks())
    assert refusal(play, decides(by, approve=False)) == "reason_missing"
    play.do(decides(by, approve=False, reason="可当日完成"))
    assert play.state.extensions[0].granted is False
    assert handling(play.state).due_at == HANDLING_DUE
    other = COORDINATOR if by is TOWN_APPROVER else TOWN_APPROVER
    assert refusal(play, decides(other)) == "no_extension"


def test_who_asks_and_who_decides() -> None:
    play = at_work()
    assert refusal(play, asks().model_copy(update={"by": OFFICERS[POLICE]})) == "not_your_department"
    play.do(asks())
    assert refusal(play, asks()) == "extension_open"
    for who in (TOWN_OFFICER, DISPATCHER, OFFICERS[ECOLOGY], HEADS[ECOLOGY]):
        assert refusal(play, decides(who)) in {"role_may_not", "not_your_department"}


def test_left_out_it_is_the_original_limit_and_never_more() -> None:
    assert handling(extend(at_work()).state).due_at == shanghai("2026-03-12 17:30")
    assert refusal(at_work(), asks(working_days=4)) == "extension_too_long"
    assert refusal(at_work(), asks(working_hours=2)) == "extension_too_long"
    assert refusal(at_work(), asks(days=1)) == "extension_too_long"
    assert refusal(at_work(), asks(working_days=0)) == "extension_too_long"


def test_at_most_twice() -> None:
    play = extend(extend(at_work()))
    assert handling(play.state).due_at == shanghai("2026-03-17 17:30")
    assert refusal(play, asks()) == "extended_enough"


def test_a_request_that_was_turned_down_does_not_count() -> None:
    play = at_work().do(asks()).do(decides(COORDINATOR, approve=False, reason="不必"))
    extend(extend(play))
    assert [each.granted for each in play.state.extensions] == [False, True, True]


def test_none_after_red_and_the_very_last_moment_is_in_time() -> None:
    play = at_work().at(HANDLING_DUE)
    play.do(asks()).do(decides(TOWN_APPROVER)).do(decides(COORDINATOR))
    assert handling(play.state).due_at == shanghai("2026-03-12 17:30")
    late = at_work().at(HANDLING_DUE).later(seconds=1)
    assert refusal(late, asks()) == "clock_is_red"


def test_what_waits_for_a_decision_lapses_at_red() -> None:
    play = at_work().do(asks()).do(decides(TOWN_APPROVER)).at(HANDLING_DUE).later(seconds=1)
    lapsed = next(event for event in play.events if isinstance(event, ExtensionDecided) and not event.office)
    assert lapsed.granted is False
    assert refusal(play, decides(COORDINATOR)) == "no_extension"
    first = [entry.event.kind for entry in play.entries].index("escalated")
    assert play.events.index(lapsed) < len(play.events)
    warned_only = [e for e in play.events[:first] if isinstance(e, Escalated) and e.level > 0]
    assert warned_only == []


def test_who_is_done_asks_for_nothing_and_a_request_does_not_outlive_the_work() -> None:
    play = at_work().do(asks()).act(ECOLOGY).done(ECOLOGY)
    assert play.state.extensions[0].granted is False
    assert refusal(play, decides(COORDINATOR)) == "no_extension"
    assert refusal(play, asks()) == "already_done"
    assert refusal(Play().dispatch().sign(), asks()) == "not_in_policy"


# --- suspension --------------------------------------------------------------------------------------------


def suspend(play: Play, until: str = "2026-04-01 09:00") -> Play:
    """Let the group approve a suspension."""
    ask = Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="等待鉴定", until=shanghai(until))
    return play.do(ask).do(DecideSuspension(by=COORDINATOR, approve=True))


def test_a_suspension_needs_the_group_and_an_end() -> None:
    play = at_work()
    now = play.now
    for until, code in (
        (now, "time_in_past"),
        (now + timedelta(days=365, seconds=1), "suspension_too_long"),
    ):
        ask = Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="x", until=until)
        assert refusal(play, ask) == code
    ask = Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="x", until=now + timedelta(days=365))
    play.do(ask)
    assert play.state.stage is Stage.CHECKED_IN
    assert refusal(play, ask) == "suspension_open"
    for who in (TOWN_APPROVER, DISPATCHER, HEADS[ECOLOGY]):
        assert refusal(play, DecideSuspension(by=who, approve=True)) == "role_may_not"
    assert refusal(play, DecideSuspension(by=COORDINATOR, approve=False)) == "reason_missing"
    play.do(DecideSuspension(by=COORDINATOR, approve=False, reason="证据不足"))
    assert play.state.suspensions[0].approved is False
    assert refusal(play, DecideSuspension(by=COORDINATOR, approve=True)) == "no_suspension"


def test_an_approval_that_comes_after_the_end_is_none() -> None:
    play = at_work()
    ask = Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="x", until=shanghai("2026-03-05 09:00"))
    play.do(ask).at("2026-03-05 09:00")
    assert refusal(play, DecideSuspension(by=COORDINATOR, approve=True)) == "suspension_over"


def test_while_suspended_every_clock_stands_still_and_nothing_is_done_but_what_leads_out() -> None:
    play = suspend(at_work().act(POLICE))
    assert play.state.stage is Stage.SUSPENDED
    ends = play.state.clock(ClockKind.SUSPENSION)
    assert ends is not None
    assert ends.due_at == shanghai("2026-04-01 09:00")
    assert all(clock.paused_at == play.now for clock in play.state.running if clock is not ends)
    play.at("2026-03-31 09:00")
    assert "escalated" not in play.kinds()
    assert not play.state.is_overdue(play.now)
    for command in (
        Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY),
        asks(),
        ReportDone(by=OFFICERS[POLICE], department=POLICE, result="完成"),
        TakeAction.model_validate(
            {
                "by": OFFICERS[POLICE],
                "department": POLICE,
                "kind": "fine",
                "description": "x",
                "result": "x",
            }
        ),
    ):
        assert refusal(play, command) == "suspended"
    play.do(Watch(by=LEADER)).do(Instruct(by=LEADER, text="抓紧"))
    assert refusal(play, Cancel(by=TOWN_OFFICER, reason="x")) == "work_has_begun"
    assert suspend(at_work()).do(Cancel(by=TOWN_OFFICER, reason="x")).state.stage is Stage.CANCELLED


def test_it_resumes_by_itself_at_its_date_and_each_clock_goes_on_by_what_it_had_left() -> None:
    play = suspend(at_work("2026-03-04 09:00"), "2026-03-11 09:00").at("2026-03-11 09:00")
    assert play.state.stage is Stage.SUSPENDED
    assert play.later(hours=1).state.stage is Stage.CHECKED_IN
    resumed = next(event for event in play.events if isinstance(event, Resumed))
    assert resumed.by_date
    clock = handling(play.state)
    # Five working days less half an hour of the first and plus half an hour of the last: exactly five.
    assert clock.due_at == shanghai("2026-03-16 17:30")
    assert clock.changes == (
        Pause(paused_at=shanghai("2026-03-04 09:00"), resumed_at=shanghai("2026-03-11 09:00")),
    )
    assert clock.gross(play.now) == timedelta(days=7, hours=1)
    assert clock.net(play.now) == timedelta(hours=1)
    assert play.state.suspensions[0].ended_at == shanghai("2026-03-11 09:00")


def test_the_group_resumes_it_by_hand_before_its_date() -> None:
    play = suspend(at_work()).at("2026-03-05 09:00")
    resume = Resume(by=COORDINATOR, reason="鉴定完成")
    assert refusal(play, resume.model_copy(update={"by": TOWN_APPROVER})) == "role_may_not"
    play.do(resume)
    assert handling(play.state).due_at == shanghai("2026-03-10 17:30")
    assert refusal(play, resume) == "not_suspended"
    assert [clock.kind for clock in play.state.running if clock.paused_at] == []


def test_a_clock_that_was_red_already_stays_red_and_its_next_rung_comes_exactly_the_pause_later() -> None:
    play = Play(terms=FULL_TERMS, caller=TOWN_APPROVER).dispatch(ECOLOGY).at("2026-03-04 10:00")
    suspend(play, "2026-03-09 10:00").at("2026-03-09 10:01")
    sign = play.state.clock(ClockKind.SIGN, ECOLOGY)
    assert sign is not None
    assert sign.is_red(play.now)
    assert sign.fired == (1,)
    second = shanghai("2026-03-09 11:30")  # was to be 11:30 on the 4th
    play.at(second)
    assert play.state.clock(ClockKind.SIGN, ECOLOGY).fired == (1,)  # type: ignore[union-attr]
    play.later(seconds=1)
    assert play.state.clock(ClockKind.SIGN, ECOLOGY).fired == (1, 2)  # type: ignore[union-attr]


def test_continuous_limits_stand_still_by_the_clock_on_the_wall() -> None:
    play = Play(terms=FULL_TERMS, caller=TOWN_APPROVER, urgency=Urgency.URGENT).dispatch(ECOLOGY)
    suspend(play.later(minutes=5), "2026-03-06 09:05").at("2026-03-06 09:10")
    due = {clock.kind: clock.due_at for clock in play.state.running}
    assert due[ClockKind.SIGN] == shanghai("2026-03-06 09:15")
    assert due[ClockKind.CHECK_IN] == shanghai("2026-03-06 11:00")


def test_when_all_is_done_there_is_nothing_to_suspend() -> None:
    play = at_work().act().done()
    ask = Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="x", until=shanghai("2026-03-05 09:00"))
    assert refusal(play, ask) == "already_done"
    waiting = at_work().do(ask).act().done()
    assert refusal(waiting, DecideSuspension(by=COORDINATOR, approve=True)) == "already_done"
    assert refusal(Play().dispatch(), ask) == "not_in_policy"


def test_a_check_in_that_is_disputed_after_a_suspension_is_not_late_by_the_pause() -> None:
    play = Play(terms=FULL_TERMS, caller=TOWN_APPROVER).dispatch(ECOLOGY).sign()
    play.check_in(ECOLOGY, confirm=False).act()
    suspend(play, "2026-03-11 09:00").at("2026-03-11 09:30")
    play.do(DisputeCheckIn(by=TOWN_OFFICER, department=ECOLOGY, reason="无人到场"))
    clock = play.state.clock(ClockKind.CHECK_IN, ECOLOGY)
    assert clock is not None
    assert clock.due_at == shanghai("2026-03-11 17:30")
    assert clock.net(play.now) == timedelta(minutes=30)


# --- newer terms -------------------------------------------------------------------------------------------

NEW_HOLIDAY = CALENDAR.model_copy(
    update={
        "version": "sample-2026b",
        "days_off": (*CALENDAR.days_off, shanghai("2026-03-06 12:00").date()),
    }
)
TIGHTER = FULL_TERMS.policy.model_copy(
    update={
        "version": "sample-3",
        "limits": FULL_TERMS.policy.limits.model_copy(
            update={
                "handling": {
                    **FULL_TERMS.policy.limits.handling,
                    LimitClass.ORDINARY: limit(working_days=2),
                }
            }
        ),
    }
)
NEWER = FULL_TERMS.model_copy(update={"calendar": NEW_HOLIDAY, "policy": TIGHTER})


def adopt(
    scope: AdoptionScope = AdoptionScope.CALENDAR, terms: Terms = NEWER, *, by: Actor = ADMINISTRATOR
) -> AdoptTerms:
    """Return the act."""
    return AdoptTerms(by=by, scope=scope, terms=terms, reason="国务院办公厅通知")


def dues(play: Play) -> dict[tuple[str, str], datetime]:
    """When each running clock is due."""
    return {(clock.kind.value, clock.department or ""): clock.due_at for clock in play.state.running}


def test_a_newer_calendar_moves_the_clocks_that_it_concerns_and_says_so_in_the_journal() -> None:
    play = at_work().do(adopt())
    adopted = play.events[-1]
    assert isinstance(adopted, TermsAdopted)
    assert {move.clock for move in adopted.moved} == {ClockKind.HANDLING, ClockKind.CASE}
    assert handling(play.state).due_at == shanghai("2026-03-10 17:30")
    assert (play.state.calendar_version, play.state.policy_version) == ("sample-2026b", "sample-2")
    assert play.terms.policy == FULL_TERMS.policy
    assert fold(play.entries) == play.state
    assert refusal(play, adopt()) == "nothing_new"


def test_what_is_taken_over_is_what_was_named() -> None:
    play = at_work().do(adopt(AdoptionScope.POLICY))
    assert (play.state.calendar_version, play.state.policy_version) == ("sample-2026", "sample-3")
    assert handling(play.state).due_at == shanghai("2026-03-06 17:30")
    play = at_work().do(adopt(AdoptionScope.ALL))
    assert handling(play.state).due_at == shanghai("2026-03-09 17:30")


def test_who_lets_newer_terms_hold() -> None:
    play = at_work()
    for who in (TOWN_APPROVER, DISPATCHER, LEADER):
        assert refusal(play, adopt(by=who)) == "role_may_not"
    assert play.do(adopt(by=COORDINATOR)).state.calendar_version == "sample-2026b"


def test_what_moved_a_clock_before_moves_the_recomputed_one_in_the_same_order() -> None:
    play = suspend(at_work(), "2026-03-05 09:00").at("2026-03-05 09:01")
    extend(play, working_days=1)
    assert handling(play.state).due_at == shanghai("2026-03-11 17:30")
    play.do(adopt())
    # From the 4th three days without the 6th: the 10th; the pause of one working day: the 11th; one day more.
    assert handling(play.state).due_at == shanghai("2026-03-12 17:30")
    whole = play.state.clock(ClockKind.CASE)
    assert whole is not None
    assert whole.due_at == shanghai("2026-03-12 17:30")


def test_adopting_while_suspended_and_then_resuming_gives_the_same_as_the_other_way_round() -> None:
    first = suspend(at_work(), "2026-03-05 09:00").do(adopt()).at("2026-03-05 09:01")
    second = suspend(at_work(), "2026-03-05 09:00").at("2026-03-05 09:01").do(adopt())
    assert dues(first) == dues(second)


def test_an_estimated_date_is_recomputed_when_the_notice_comes() -> None:
    play = Play("2026-12-30 09:00", terms=FULL_TERMS, caller=TOWN_APPROVER).dispatch(ECOLOGY)
    clock = handling(play.state)
    assert (clock.estimated, clock.due_at) == (True, shanghai("2027-01-04 17:30"))
    notice: CalendarData = CALENDAR.model_copy(
        update={
            "version": "sample-2027",
            "days_off": (*CALENDAR.days_off, shanghai("2027-01-01 12:00").date()),
            "published_until": shanghai("2027-12-31 12:00").date(),
        }
    )
    play.do(adopt(terms=FULL_TERMS.model_copy(update={"calendar": notice})))
    clock = handling(play.state)
    assert (clock.estimated, clock.due_at) == (False, shanghai("2027-01-05 17:30"))


def test_a_clock_that_has_ended_is_not_moved_and_a_rework_counts_from_its_own_start() -> None:
    play = at_work().act().done().later(days=1)
    play.do(Rework(by=TOWN_OFFICER, department=ECOLOGY, reason="未清理"))
    ended = [clock for clock in play.state.clocks if not clock.runs]
    play.do(adopt())
    assert [clock for clock in play.state.clocks if not clock.runs] == ended
    assert handling(play.state).due_at == shanghai("2026-03-11 17:30")


def test_a_follow_up_that_is_watched_after_closure_takes_newer_terms_on_and_a_settled_case_does_not() -> None:
    play = at_work()
    notice = TakeAction.model_validate(
        {
            "by": OFFICERS[ECOLOGY],
            "department": ECOLOGY,
            "kind": "demolition_notice",
            "description": "限期拆除",
            "result": "已送达",
            "follow_up_on": "2026-03-05",
        }
    )
    play.do(notice).act(POLICE).done().rate()
    assert play.state.stage is Stage.CLOSED
    play.do(adopt())
    assert dues(play) == {("follow_up", ECOLOGY): shanghai("2026-03-09 17:30")}
    settled = at_work().act().done().rate()
    assert refusal(settled, adopt()) == "case_over"


def test_a_district_may_drop_a_limit_and_what_runs_under_it_stays_as_it_is() -> None:
    play = Play(terms=FULL_TERMS)
    dropped = FULL_TERMS.policy.limits.model_copy(update={"release": None})
    without = FULL_TERMS.policy.model_copy(update={"version": "sample-4", "limits": dropped})
    before = dues(play)
    play.do(adopt(AdoptionScope.POLICY, FULL_TERMS.model_copy(update={"policy": without})))
    assert dues(play) == before
    assert play.release().state.stage is Stage.CALLED
    assert DEPARTMENTS

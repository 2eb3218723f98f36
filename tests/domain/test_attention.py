"""领导关注, 批示, supervision orders with their answers, warnings, quiet hours."""

from datetime import datetime
from typing import Any

import pytest

from domain.case import Basis, OrganisationCode
from domain.commands import AnswerOrder, Instruct, Object, Watch
from domain.events import Escalated
from domain.notices import leaves_at
from domain.policy import ClockKind, Order, Receiver, Urgency
from domain.words import sentence
from tests.domain.test_lifecycle import refusal
from tests.sample import (
    COORDINATOR,
    DISPATCHER,
    ECOLOGY,
    FULL_POLICY,
    FULL_TERMS,
    HEADS,
    LEADER,
    MARKET,
    OFFICERS,
    POLICE,
    SUPERVISOR,
    TERMS,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    shanghai,
)


def dispatched(at: str = "2026-03-04 09:00", **changes: Any) -> Play:
    """A dispatched case under every rule of the mechanism."""
    return Play(at, terms=FULL_TERMS, caller=TOWN_APPROVER, **changes).dispatch(ECOLOGY, POLICE)


def order(department: OrganisationCode | None = ECOLOGY, **changes: Any) -> Instruct:
    """Return a supervision order of the coordination group."""
    content = {"by": COORDINATOR, "text": "今日办结", "answer_required": True} | changes
    return Instruct.model_validate({**content, "department": department})


def answer(number: int | None = None, department: OrganisationCode = ECOLOGY) -> AnswerOrder:
    """Return the head's answer."""
    return AnswerOrder(by=HEADS[department], department=department, text="已派人", number=number)


def escalations(
    play: Play, kind: ClockKind, department: OrganisationCode | None = ECOLOGY
) -> list[Escalated]:
    """What a clock has caused."""
    return [
        event
        for event in play.events
        if isinstance(event, Escalated) and (event.clock, event.department) == (kind, department)
    ]


# --- watching and instructions -----------------------------------------------------------------------------


def test_leaders_follow_a_case_and_stop_following_it() -> None:
    play = dispatched().do(Watch(by=LEADER)).do(Watch(by=SUPERVISOR))
    assert play.state.watchers == (LEADER.id, SUPERVISOR.id)
    assert refusal(play, Watch(by=LEADER)) == "watching_already"
    assert play.do(Watch(by=LEADER, watching=False)).state.watchers == (SUPERVISOR.id,)
    assert refusal(play, Watch(by=LEADER, watching=False)) == "watching_already"
    assert refusal(play, Watch(by=DISPATCHER)) == "role_may_not"


def test_a_leader_instructs_everybody_or_one_department_and_that_moves_nothing() -> None:
    play = dispatched()
    before = play.state.clocks
    play.do(Instruct(by=LEADER, text="依法从快")).do(Instruct(by=LEADER, text="抓紧", department=POLICE))
    assert [(each.by, each.department) for each in play.state.instructions] == [
        (LEADER.name, None),
        (LEADER.name, POLICE),
    ]
    assert play.state.clocks == before
    assert play.state.orders == ()


def test_who_instructs_whom() -> None:
    play = dispatched()
    assert refusal(play, Instruct(by=TOWN_OFFICER, text="x")) == "role_may_not"
    assert refusal(play, Instruct(by=COORDINATOR, text="x")) == "instructions_are_for_leaders"
    assert refusal(play, order(None)) == "missing_field"
    assert refusal(play, order(OrganisationCode("market"))) == "not_assigned"
    called = Play(terms=FULL_TERMS, caller=TOWN_APPROVER)
    assert refusal(called, order()) == "not_dispatched"
    assert refusal(Play().dispatch(), order()) == "not_in_policy"
    assert refusal(Play().dispatch(), order(by=LEADER)) == "not_in_policy"


# --- supervision orders ------------------------------------------------------------------------------------


def test_a_supervision_order_has_a_clock_of_its_own_and_is_answered_by_the_head() -> None:
    play = dispatched().do(order())
    clock = play.state.clock(ClockKind.ORDER, ECOLOGY)
    assert clock is not None
    assert clock.due_at == shanghai("2026-03-04 14:30")
    officers = answer().model_copy(update={"by": OFFICERS[ECOLOGY]})
    assert refusal(play, officers) == "not_your_department"
    assert refusal(play, answer(2)) == "unknown_order"
    play.do(answer())
    assert play.state.clock(ClockKind.ORDER, ECOLOGY) is None
    assert (play.state.orders[0].answer, play.state.orders[0].answered_at) == ("已派人", play.now)
    assert refusal(play, answer()) == "no_order"


def test_of_two_orders_the_oldest_is_answered_first_unless_one_is_named() -> None:
    play = dispatched().do(order()).do(order(POLICE)).do(order()).do(answer(3))
    assert [each.number for each in play.state.orders if each.answered_at is None] == [1, 2]
    assert [(c.department, c.round) for c in play.state.running if c.kind is ClockKind.ORDER] == [
        (ECOLOGY, 1),
        (POLICE, 1),
    ]
    assert refusal(play, answer(2)) == "unknown_order"
    play.do(answer())
    assert [each.number for each in play.state.orders if each.answered_at is None] == [2]


def test_an_order_that_is_not_answered_climbs_its_own_ladder_and_issues_no_further_order() -> None:
    play = dispatched().do(order()).at("2026-03-04 14:30")
    assert escalations(play, ClockKind.ORDER) == []
    play.later(seconds=1)
    (late,) = escalations(play, ClockKind.ORDER)
    assert (late.receivers, late.supervision) == ((Receiver.COORDINATOR,), None)


def test_the_second_rung_is_a_supervision_order_that_needs_an_answer() -> None:
    play = dispatched().at("2026-03-04 11:30")
    assert [each.level for each in escalations(play, ClockKind.SIGN)] == [1]
    play.later(seconds=1)
    second = escalations(play, ClockKind.SIGN)[-1]
    assert (second.level, second.order, second.supervision) == (2, Order.SUPERVISION, 1)
    assert [each.department for each in play.state.orders] == [ECOLOGY, POLICE]
    clock = play.state.clock(ClockKind.ORDER, ECOLOGY)
    assert clock is not None
    assert clock.started_at == shanghai("2026-03-04 11:30")
    assert clock.due_at == shanghai("2026-03-04 17:00")
    play.do(answer())
    assert play.assignment(ECOLOGY).signed_at is None  # the owner stays accountable


def test_without_a_time_for_answers_the_order_is_sent_and_none_is_expected() -> None:
    play = Play().dispatch(ECOLOGY).at("2026-03-04 12:00")
    assert escalations(play, ClockKind.SIGN)[-1].supervision is None
    assert play.state.orders == ()


# --- warnings ----------------------------------------------------------------------------------------------


def test_a_clock_warns_once_when_a_quarter_of_its_own_time_is_left() -> None:
    play = dispatched().sign().check_in()
    handling = play.state.clock(ClockKind.HANDLING, ECOLOGY)
    assert handling is not None
    # From Wednesday 9:00 to Monday 17:30: 29.5 working hours, and three quarters are 22 h 7.5 min.
    assert handling.yellow_at == shanghai("2026-03-09 08:37:30")
    play.at(handling.yellow_at)
    assert escalations(play, ClockKind.HANDLING) == []
    play.later(seconds=1)
    (warned,) = escalations(play, ClockKind.HANDLING)
    assert (warned.level, warned.order, warned.due_at) == (0, Order.WARNING, handling.due_at)
    assert handling.is_yellow(play.now, 0.25)
    play.at("2026-03-09 17:29")
    assert len(escalations(play, ClockKind.HANDLING)) == 1
    assert play.state.escalation_level == 0


def test_only_the_clocks_that_the_policy_names_warn() -> None:
    play = dispatched()
    warn = {clock.kind for clock in play.state.running if clock.yellow_at is not None}
    assert warn == {ClockKind.CHECK_IN, ClockKind.HANDLING, ClockKind.CASE}
    silent = Play(terms=TERMS).dispatch()
    assert [clock for clock in silent.state.running if clock.yellow_at is not None] == []


def test_an_urgent_check_in_warns_by_the_clock_on_the_wall() -> None:
    play = dispatched("2026-03-07 22:00", urgency=Urgency.URGENT)
    clock = play.state.clock(ClockKind.CHECK_IN, ECOLOGY)
    assert clock is not None
    assert clock.yellow_at == shanghai("2026-03-07 23:30")


# --- quiet hours -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("at", "leaves"),
    [
        ("2026-03-04 21:59", "2026-03-04 21:59"),
        ("2026-03-04 22:00", "2026-03-05 07:00"),
        ("2026-03-05 00:00", "2026-03-05 07:00"),
        ("2026-03-05 06:59", "2026-03-05 07:00"),
        ("2026-03-05 07:00", "2026-03-05 07:00"),
    ],
)
def test_routine_notices_wait_for_the_morning_and_urgent_ones_do_not(at: str, leaves: str) -> None:
    moment = shanghai(at)
    assert leaves_at(moment, dispatched().state, FULL_POLICY) == shanghai(leaves)
    urgent = dispatched(urgency=Urgency.URGENT).state
    assert leaves_at(moment, urgent, FULL_POLICY) == moment
    assert leaves_at(moment, dispatched().state, TERMS.policy) == moment


def test_quiet_hours_may_lie_within_one_day() -> None:
    quiet = FULL_POLICY.quiet_hours
    assert quiet is not None
    noon = quiet.model_copy(
        update={"start": datetime.fromisoformat("2026-01-01 12:00").time(), "end": quiet.end.replace(hour=13)}
    )
    policy = FULL_POLICY.model_copy(update={"quiet_hours": noon})
    state = dispatched().state
    for at, leaves in (("11:59", "11:59"), ("12:00", "13:00"), ("13:00", "13:00"), ("23:00", "23:00")):
        assert leaves_at(shanghai(f"2026-03-04 {at}"), state, policy) == shanghai(f"2026-03-04 {leaves}")


def test_a_ruling_that_is_late_is_said_to_be_the_groups_and_not_the_departments() -> None:
    objection = Object(
        by=OFFICERS[ECOLOGY], department=ECOLOGY, basis=Basis.LAW, reason="非我职责", proposed=MARKET
    )
    play = dispatched().do(objection).at("2026-03-05 17:31")
    told = [
        sentence(entry, play.terms)
        for entry in play.entries
        if isinstance(entry.event, Escalated) and entry.event.clock is ClockKind.RULING
    ]
    assert [text.split("超时")[0] for text in told] == ["协调小组对生态环境分局的异议裁定"]

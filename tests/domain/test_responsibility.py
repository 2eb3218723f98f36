"""Whose job it is: dispatch by the list, objections and their ruling, transfer."""

from datetime import timedelta
from typing import Any

import pytest

from domain.access import may_see, sees_contact
from domain.case import Actor, Basis, LeavingBy, OrganisationCode, Stage
from domain.commands import (
    Adjudicate,
    ConfirmCheckIn,
    DecideExtension,
    Dispatch,
    Extend,
    Object,
    Refuse,
    Sign,
    Transfer,
)
from domain.district import Station
from domain.errors import Invalid, Refused
from domain.events import Adjudicated, Dispatched, Escalated, ObjectionReferred
from domain.policy import ClockKind
from tests.domain.test_lifecycle import refusal
from tests.sample import (
    COORDINATOR,
    DISPATCHER,
    ECOLOGY,
    FULL_TERMS,
    HEADS,
    HOUSING,
    LISTED,
    MARKET,
    OFFICERS,
    POLICE,
    RESIDENT,
    TOWN,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    limit,
    shanghai,
)


def called(at: str = "2026-03-04 09:00", **changes: Any) -> Play:
    """A released call under every rule of the mechanism."""
    return Play(at, terms=FULL_TERMS, caller=TOWN_APPROVER, **changes)


def objects(
    department: OrganisationCode = ECOLOGY, proposed: OrganisationCode = HOUSING, *, by: Actor | None = None
) -> Object:
    """Return the department's objection."""
    return Object(
        by=by or OFFICERS[department],
        department=department,
        basis=Basis.CATALOGUE,
        reason="清单列明由住建局主责",
        proposed=proposed,
    )


def rules(
    department: OrganisationCode = ECOLOGY,
    *,
    uphold: bool,
    by: Actor = DISPATCHER,
    owner: OrganisationCode | None = None,
) -> Adjudicate:
    """Return the ruling."""
    return Adjudicate(by=by, department=department, uphold=uphold, owner=owner, reason="依清单裁定")


def running(play: Play, department: OrganisationCode | None) -> set[str]:
    """The kinds of the office's clocks that run."""
    return {clock.kind.value for clock in play.state.running if clock.department == department}


def whole(play: Play) -> tuple[Any, Any]:
    """Start and end of the case's own clock."""
    clock = play.state.clock(ClockKind.CASE)
    assert clock is not None
    return clock.started_at, clock.due_at


# --- dispatch ----------------------------------------------------------------------------------------------


def test_the_list_names_lead_and_cooperating_departments() -> None:
    play = called(responsibility=LISTED).dispatch_as_listed()
    assert play.state.departments() == (ECOLOGY, POLICE, MARKET)
    assert play.state.lead is not None
    assert play.state.lead.department == ECOLOGY


@pytest.mark.parametrize(
    ("lead", "cooperating"),
    [(POLICE, (ECOLOGY, MARKET)), (ECOLOGY, (POLICE,)), (ECOLOGY, (POLICE, MARKET, HOUSING)), (None, ())],
)
def test_to_differ_from_the_list_needs_a_reason(
    lead: OrganisationCode | None, cooperating: tuple[OrganisationCode, ...]
) -> None:
    play = called(responsibility=LISTED)
    command = Dispatch(by=DISPATCHER, lead=lead, cooperating=cooperating)
    assert refusal(play, command) == "reason_missing"
    play.do(command.model_copy(update={"reason": "现场涉及房屋安全"}))
    dispatched = play.events[-1]
    assert isinstance(dispatched, Dispatched)
    assert dispatched.reason == "现场涉及房屋安全"


def test_the_listed_departments_in_another_order_are_the_list() -> None:
    play = called(responsibility=LISTED)
    play.do(Dispatch(by=DISPATCHER, lead=ECOLOGY, cooperating=(MARKET, POLICE)))
    assert play.state.stage is Stage.DISPATCHED


def test_without_an_item_the_dispatcher_names_the_lead() -> None:
    assert refusal(called(), Dispatch(by=DISPATCHER)) == "lead_missing"


def automatic(**changes: Any) -> Play:
    """A released call where the list dispatches by itself."""
    policy = FULL_TERMS.policy.model_copy(update={"automatic_dispatch": True})
    terms = FULL_TERMS.model_copy(update={"policy": policy})
    return Play(terms=terms, **({"caller": TOWN_APPROVER, "responsibility": LISTED} | changes))


def test_the_list_dispatches_by_itself_where_the_policy_says_so() -> None:
    play = automatic()
    called_at = play.now
    play.later(seconds=1)
    dispatched = play.events[-1]
    assert isinstance(dispatched, Dispatched)
    assert dispatched.automatic
    assert play.entries[-1].by is None
    assert play.state.departments() == (ECOLOGY, POLICE, MARKET)
    assert {clock.started_at for clock in play.state.running} == {called_at}


@pytest.mark.parametrize(
    "changes",
    [{"responsibility": None}, {"departments": (HOUSING,)}, {"caller": TOWN_OFFICER}],
    ids=["no item", "the caller asks for others", "not released"],
)
def test_the_list_alone_does_not_dispatch_what_somebody_must_look_at(changes: dict[str, Any]) -> None:
    assert "dispatched" not in automatic(**changes).later(minutes=5).kinds()


def test_departments_with_officers_in_the_township_are_called_there_first() -> None:
    play = called().dispatch()
    assert [each.department for each in play.state.assignments if each.resident] == [POLICE]
    play.do(Sign(by=RESIDENT, department=POLICE))
    assert play.assignment(POLICE).signed_at == play.now


# --- objections --------------------------------------------------------------------------------------------


def test_an_objection_names_its_basis_and_who_it_should_be_and_stops_no_clock() -> None:
    play = called().dispatch()
    before = {clock.key for clock in play.state.running}
    play.do(objects())
    found = play.state.objections[0]
    assert (found.basis, found.proposed, found.as_lead, found.is_open) == (
        Basis.CATALOGUE,
        HOUSING,
        True,
        True,
    )
    assert {clock.key for clock in play.state.running} - before == {("objection", ECOLOGY, 1)}
    assert before < {clock.key for clock in play.state.running}
    play.later(minutes=31)
    assert play.assignment(ECOLOGY).sign_deemed_at is not None


def test_who_may_object_and_to_whom() -> None:
    play = called().dispatch()
    assert refusal(play, objects(proposed=ECOLOGY)) == "proposed_itself"
    assert refusal(play, objects(proposed=TOWN)) == "unknown_department"
    assert refusal(play, objects(by=OFFICERS[POLICE])) == "not_your_department"
    assert refusal(play, objects(by=TOWN_OFFICER)) == "role_may_not"
    play.do(objects())
    assert refusal(play, objects()) == "objection_open"
    assert refusal(called().dispatch().sign().check_in(ECOLOGY), objects()) == "already_checked_in"
    assert refusal(Play().dispatch(), objects()) == "not_in_policy"


def test_the_dispatcher_has_the_first_word_and_the_group_only_after_the_hour() -> None:
    play = called().dispatch().do(objects())
    for who in (COORDINATOR, TOWN_APPROVER):
        assert refusal(play, rules(uphold=True, by=who)) == "role_may_not"
    play.at("2026-03-04 10:00")
    assert "objection_referred" not in play.kinds()
    play.later(seconds=1)
    assert ObjectionReferred in {type(event) for event in play.events}
    assert running(play, ECOLOGY) >= {"ruling"}
    assert "objection" not in running(play, ECOLOGY)
    assert refusal(play, rules(uphold=True)) == "role_may_not"
    play.do(rules(uphold=True, by=COORDINATOR))
    assert play.state.departments() == (HOUSING, POLICE, MARKET)


def test_an_upheld_objection_puts_the_other_department_in_its_place_and_out_of_the_figures() -> None:
    play = called().dispatch()
    case_clock = whole(play)
    play.later(hours=2).do(objects()).do(rules(uphold=True))
    assert whole(play) == case_clock
    former = play.state.former[0]
    assert (former.assignment.department, former.by, former.successor) == (
        ECOLOGY,
        LeavingBy.ADJUDICATION,
        HOUSING,
    )
    assert not former.in_figures
    assert play.assignment(HOUSING).lead
    assert play.assignment(HOUSING).dispatched_at == play.now
    assert running(play, ECOLOGY) == set()
    assert running(play, HOUSING) == {"sign", "check_in", "handling"}
    assert refusal(play, Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY)) == "not_assigned"


def test_a_ruling_may_name_another_owner_than_was_proposed_or_one_who_is_there_already() -> None:
    play = called().dispatch(ECOLOGY, POLICE).do(objects()).do(rules(uphold=True, owner=MARKET))
    assert play.state.departments() == (MARKET, POLICE)
    play = called().dispatch(ECOLOGY, POLICE).sign(POLICE).do(objects())
    signed = play.assignment(POLICE).signed_at
    play.do(rules(uphold=True, owner=POLICE))
    assert play.state.departments() == (POLICE,)
    assert play.assignment(POLICE).lead
    assert play.assignment(POLICE).signed_at == signed


def test_what_a_ruling_cannot_say() -> None:
    play = called().dispatch().do(objects())
    assert refusal(play, rules(uphold=False, owner=HOUSING)) == "owner_without_upholding"
    assert refusal(play, rules(uphold=True, owner=ECOLOGY)) == "owner_is_the_same"
    assert refusal(play, rules(uphold=True, owner=TOWN)) == "unknown_department"
    assert refusal(play, rules(POLICE, uphold=True)) == "no_objection"


def test_who_is_turned_down_by_the_dispatcher_may_ask_the_group_and_its_ruling_binds() -> None:
    play = called().dispatch().do(objects()).do(rules(uphold=False))
    assert play.assignment(ECOLOGY).bound is False
    play.do(objects())
    assert play.state.objections[-1].before_group
    assert "ruling" in running(play, ECOLOGY)
    play.do(rules(uphold=False, by=COORDINATOR))
    assert play.assignment(ECOLOGY).bound
    assert refusal(play, objects()) == "ruling_binds"


def test_whom_the_group_names_is_bound_whom_the_dispatcher_names_may_object() -> None:
    by_dispatcher = called().dispatch().do(objects()).do(rules(uphold=True))
    by_dispatcher.do(objects(HOUSING, ECOLOGY))
    by_group = called().dispatch().do(objects()).later(hours=2).do(rules(uphold=True, by=COORDINATOR))
    assert refusal(by_group, objects(HOUSING, ECOLOGY)) == "ruling_binds"


def test_the_third_department_that_declines_the_lead_goes_straight_to_the_group() -> None:
    play = called().dispatch(ECOLOGY)
    for declining, proposed in ((ECOLOGY, POLICE), (POLICE, MARKET)):
        play.do(objects(declining, proposed))
        assert not play.state.objections[-1].before_group
        play.do(rules(declining, uphold=True))
    play.do(objects(MARKET, HOUSING))
    assert play.state.objections[-1].before_group
    assert refusal(play, rules(MARKET, uphold=True)) == "role_may_not"
    play.do(rules(MARKET, uphold=True, by=COORDINATOR, owner=ECOLOGY))
    assert play.assignment(ECOLOGY).bound
    assert [each.assignment.department for each in play.state.former] == [ECOLOGY, POLICE, MARKET]


def test_cooperating_departments_that_object_do_not_count_as_declining_the_lead() -> None:
    play = called().dispatch(ECOLOGY, POLICE, MARKET)
    play.do(objects(POLICE)).do(objects(MARKET)).do(objects(ECOLOGY))
    assert [each.before_group for each in play.state.objections] == [False, False, False]


def test_a_ruling_that_is_late_climbs_the_groups_ladder() -> None:
    play = called().dispatch().do(objects()).at("2026-03-05 17:31")
    late = [e for e in play.events if isinstance(e, Escalated) and e.clock is ClockKind.RULING]
    assert [each.level for each in late] == [1]


def test_who_has_reported_done_is_not_ruled_off_any_more() -> None:
    play = called().dispatch(ECOLOGY, POLICE).do(objects()).sign().check_in().act().done()
    assert play.state.stage is Stage.AWAITING_RATING
    assert refusal(play, rules(uphold=True)) == "already_done"
    play.do(rules(uphold=False))
    assert play.rate().state.stage is Stage.CLOSED


def test_a_department_that_has_reported_done_takes_nobodys_place_or_the_work_would_vanish() -> None:
    play = called().dispatch(ECOLOGY, POLICE).do(objects()).sign(POLICE).check_in(POLICE)
    play.act(POLICE).done(POLICE)
    assert refusal(play, rules(uphold=True, owner=POLICE)) == "owner_is_done"
    play.do(rules(uphold=False))
    assert refusal(play, transfers(POLICE)) == "owner_is_done"


# --- transfer ----------------------------------------------------------------------------------------------


def transfers(to: OrganisationCode = HOUSING, department: OrganisationCode = ECOLOGY) -> Transfer:
    """Return the dispatcher's act."""
    return Transfer(by=DISPATCHER, department=department, to=to, reason="职责调整")


def test_a_transfer_never_resets_the_clock_of_the_case_and_stays_in_the_figures() -> None:
    play = called().dispatch()
    case_clock = whole(play)
    play.later(days=1).do(transfers())
    assert whole(play) == case_clock
    former = play.state.former[0]
    assert (former.by, former.in_figures) == (LeavingBy.TRANSFER, True)
    assert former.assignment.sign_deemed_at is not None
    assert play.assignment(HOUSING).lead
    assert running(play, ECOLOGY) == set()
    sign = play.state.clock(ClockKind.SIGN, HOUSING)
    assert sign is not None
    assert (sign.started_at, sign.due_at) == (play.now, play.now + timedelta(minutes=30))


def test_a_case_that_comes_back_to_a_department_gives_it_new_clocks() -> None:
    play = called().dispatch(ECOLOGY).do(transfers()).do(transfers(ECOLOGY, HOUSING))
    assert play.state.departments() == (ECOLOGY,)
    assert [clock.round for clock in play.state.running if clock.department == ECOLOGY] == [2, 2, 2]
    assert len(play.state.former) == 2


def test_who_has_come_is_not_transferred_and_an_open_objection_is_ruled_first() -> None:
    play = called().dispatch().sign()
    assert refusal(play, transfers(ECOLOGY)) == "owner_is_the_same"
    assert refusal(play, transfers(TOWN)) == "unknown_department"
    by_group = transfers().model_copy(update={"by": COORDINATOR})
    assert refusal(play, by_group) == "role_may_not"
    assert refusal(play.check_in(ECOLOGY), transfers()) == "already_checked_in"
    assert refusal(called().dispatch().do(objects()), transfers()) == "objection_open"


def test_a_department_that_has_left_still_sees_the_case_and_acts_no_more() -> None:
    play = called().dispatch(ECOLOGY).do(transfers())
    assert may_see(HEADS[ECOLOGY], play.state)
    assert not sees_contact(HEADS[ECOLOGY], play.state)
    assert refusal(play, objects()) == "not_assigned"


def test_residents_of_the_new_department_are_called_first_too() -> None:
    terms = FULL_TERMS.model_copy(update={"stations": (Station(department=HOUSING, township=TOWN),)})
    play = Play(terms=terms, caller=TOWN_APPROVER).dispatch(ECOLOGY, POLICE)
    assert not play.assignment(POLICE).resident
    play.do(transfers())
    assert play.assignment(HOUSING).resident


def test_a_ruling_says_whether_it_binds() -> None:
    play = called().dispatch().do(objects()).do(rules(uphold=True))
    ruling = play.events[-1]
    assert isinstance(ruling, Adjudicated)
    assert (ruling.owner, ruling.owner_leads, ruling.binding) == (HOUSING, True, False)


def test_the_dispatcher_sends_back_what_is_no_matter_for_a_call_only_before_dispatch() -> None:
    assert called().do(Refuse(by=DISPATCHER, reason="镇街事权")).state.stage is Stage.REFUSED
    assert refusal(called().dispatch(), Refuse(by=DISPATCHER, reason="x")) == "wrong_stage"


def test_what_a_department_was_told_to_do_by_another_time_holds_for_its_successor() -> None:
    asked = shanghai("2026-03-05 14:00")
    play = called(requested_check_in_at=asked).dispatch(ECOLOGY).later(hours=1).do(transfers())
    due = {clock.kind: clock.due_at for clock in play.state.running if clock.department == HOUSING}
    assert due[ClockKind.CHECK_IN] == asked


def test_an_extension_that_waits_does_not_outlive_the_departments_part() -> None:
    play = called().dispatch(ECOLOGY)
    play.do(Extend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定"))
    play.do(transfers()).do(transfers(ECOLOGY, HOUSING))
    decide = DecideExtension(by=COORDINATOR, department=ECOLOGY, approve=True)
    assert refusal(play, decide) == "no_extension"


def test_a_department_that_is_not_here_is_not_confirmed() -> None:
    play = called().dispatch(ECOLOGY).do(transfers())
    assert refusal(play, ConfirmCheckIn(by=TOWN_OFFICER, department=ECOLOGY)) == "not_assigned"


def test_an_objection_and_a_ruling_are_one_in_a_policy() -> None:
    limits = FULL_TERMS.policy.limits.model_dump() | {"ruling": None}
    with pytest.raises(ValueError, match="裁定"):
        type(FULL_TERMS.policy.limits).model_validate(limits)
    assert limit(working_hours=1) == FULL_TERMS.policy.limits.objection
    with pytest.raises((Refused, Invalid)):
        Play().dispatch().do(rules(uphold=True))

"""The straight path and everything that may go wrong on it, by example."""

from datetime import timedelta

import pytest

from domain import audit
from domain.case import ActionKind, Grade, Officer, OrganisationCode, Role, Stage
from domain.commands import (
    Act,
    AnyCommand,
    Cancel,
    CheckIn,
    ConfirmCheckIn,
    Dispatch,
    DisputeCheckIn,
    Plan,
    Rate,
    Refuse,
    Rework,
    Sign,
    TakeAction,
)
from domain.errors import DomainError, Invalid, LedgerConflict, Refused
from domain.events import Called, Closed, Signed
from domain.lifecycle import ABOUT_AN_OFFICE, allowed_acts, evolve, fold, open_case
from tests.sample import (
    COORDINATOR,
    DEPARTMENTS,
    DISPATCHER,
    ECOLOGY,
    HEADS,
    HOUSING,
    MARKET,
    OFFICERS,
    OTHER_TOWN_OFFICER,
    POLICE,
    TERMS,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    actor,
    call_details,
    shanghai,
)


def refusal(play: Play, command: AnyCommand) -> str:
    """Return the code with which the rules refuse the act, having changed nothing."""
    before = (play.state, len(play.entries))
    with pytest.raises(DomainError) as caught:
        play.do(command)
    assert (play.state, len(play.entries)) == before
    assert any("\u4e00" <= letter <= "\u9fff" for letter in caught.value.detail)
    return caught.value.code


def test_a_call_goes_through_every_stage_and_closes_when_every_department_is_rated() -> None:
    play = Play()
    stages = [play.state.stage]
    for step in ("dispatch", "sign", "check_in", "act", "done", "rate"):
        getattr(play, step)()
        stages.append(play.state.stage)
    assert stages == [
        Stage.CALLED,
        Stage.DISPATCHED,
        Stage.SIGNED,
        Stage.CHECKED_IN,
        Stage.ENFORCING,
        Stage.AWAITING_RATING,
        Stage.CLOSED,
    ]
    assert play.events[-1] == Closed(unrated=())


def test_folding_the_entries_gives_the_state() -> None:
    play = Play().until_rating().rate()
    assert fold(play.entries) == play.state


def test_the_entries_are_one_hash_chain() -> None:
    play = Play().until_rating().rate()
    audit.check_chain(play.entries)
    changed = play.entries[3].model_copy(update={"at": play.entries[3].at + timedelta(seconds=1)})
    with pytest.raises(LedgerConflict, match="第 4 条"):
        audit.check_chain([*play.entries[:3], changed, *play.entries[4:]])
    with pytest.raises(LedgerConflict, match="第 3 条"):
        audit.check_chain([*play.entries[:2], *play.entries[3:]])


def test_an_event_that_gains_a_field_with_a_default_keeps_the_hashes_of_older_entries() -> None:
    class LaterSigned(Signed):
        remark: str = ""

    play = Play().dispatch().sign(ECOLOGY)
    old = play.entries[-1]
    later = old.model_copy(update={"event": LaterSigned.model_validate(old.event.model_dump())})
    assert audit.digest(audit.canonical(later)) == old.hash
    assert "note" not in audit.canonical(play.entries[1])
    noted = Play().do(Dispatch(by=DISPATCHER, lead=ECOLOGY, note="请当日到场"))
    assert "请当日到场" in audit.canonical(noted.entries[1])


def test_the_stage_is_signed_only_when_every_department_has_signed() -> None:
    play = Play().dispatch().sign(ECOLOGY, POLICE)
    assert play.state.stage is Stage.DISPATCHED
    assert play.sign(MARKET).state.stage is Stage.SIGNED


def test_a_department_that_stays_away_does_not_hide_that_the_others_are_at_work() -> None:
    play = Play().dispatch().sign().check_in(ECOLOGY).act(ECOLOGY)
    assert play.state.stage is Stage.ENFORCING
    assert play.assignment(POLICE).status == "signed"


def test_exactly_one_department_leads() -> None:
    play = Play().dispatch(POLICE, ECOLOGY)
    assert [each.department for each in play.state.assignments if each.lead] == [POLICE]
    assert play.state.departments() == (POLICE, ECOLOGY)


def test_a_department_cannot_be_dispatched_twice() -> None:
    command = Dispatch(by=DISPATCHER, lead=ECOLOGY, cooperating=(POLICE, ECOLOGY))
    assert refusal(Play(), command) == "department_twice"


def test_only_departments_that_exist_can_be_dispatched() -> None:
    play = Play()
    assert refusal(play, Dispatch(by=DISPATCHER, lead=OrganisationCode("nobody"))) == "unknown_department"
    assert refusal(play, Dispatch(by=DISPATCHER, lead=OrganisationCode("town"))) == "unknown_department"


def test_a_call_for_a_township_or_department_that_does_not_exist_is_refused() -> None:
    at = shanghai("2026-03-04 09:00")
    with pytest.raises(Invalid) as caught:
        open_case(call_details(township="nowhere"), at, TERMS)
    assert caught.value.code == "unknown_township"
    with pytest.raises(Invalid) as caught:
        open_case(call_details(departments=("nobody",)), at, TERMS)
    assert caught.value.code == "unknown_department"


def test_people_cannot_be_asked_to_come_in_the_past() -> None:
    at = shanghai("2026-03-04 09:00")
    with pytest.raises(Invalid) as caught:
        open_case(call_details(requested_check_in_at=at), at, TERMS)
    assert caught.value.code == "time_in_past"


def test_a_second_dispatch_is_refused() -> None:
    assert refusal(Play().dispatch(), Dispatch(by=DISPATCHER, lead=ECOLOGY)) == "wrong_stage"


def test_a_second_signature_is_refused() -> None:
    play = Play().dispatch().sign(ECOLOGY)
    assert refusal(play, Sign(by=HEADS[ECOLOGY], department=ECOLOGY)) == "already_signed"


def test_a_department_signs_before_it_checks_in() -> None:
    command = CheckIn(by=OFFICERS[ECOLOGY], department=ECOLOGY, officers=(Officer(name="王"),))
    assert refusal(Play().dispatch(), command) == "not_signed"


def test_a_second_check_in_is_refused_while_the_first_stands() -> None:
    play = Play().dispatch().sign().check_in(ECOLOGY)
    command = CheckIn(by=OFFICERS[ECOLOGY], department=ECOLOGY, officers=(Officer(name="王"),))
    assert refusal(play, command) == "already_checked_in"


def test_nobody_arrives_in_the_future_or_before_the_dispatch() -> None:
    play = Play().dispatch().sign().later(minutes=20)
    officers = (Officer(name="王"),)
    early, late = play.now - timedelta(hours=2), play.now + timedelta(minutes=1)
    command = CheckIn(by=OFFICERS[ECOLOGY], department=ECOLOGY, officers=officers, arrived_at=late)
    assert refusal(play, command) == "time_in_future"
    command = CheckIn(by=OFFICERS[ECOLOGY], department=ECOLOGY, officers=officers, arrived_at=early)
    assert refusal(play, command) == "time_before_dispatch"


def test_a_check_in_does_not_count_before_the_township_confirms() -> None:
    play = Play().dispatch().sign().check_in(confirm=False)
    assert play.state.stage is Stage.SIGNED
    play.do(ConfirmCheckIn(by=TOWN_OFFICER, department=ECOLOGY))
    assert play.assignment(ECOLOGY).status == "confirmed"
    assert refusal(play, ConfirmCheckIn(by=TOWN_OFFICER, department=ECOLOGY)) == "already_confirmed"


def test_a_disputed_check_in_does_not_count_and_the_clock_goes_on() -> None:
    play = Play().dispatch().sign().check_in(ECOLOGY, confirm=False)
    due = next(clock.due_at for clock in play.state.clocks if clock.kind == "check_in")
    play.do(DisputeCheckIn(by=TOWN_OFFICER, department=ECOLOGY, reason="无人到场"))
    assert play.assignment(ECOLOGY).status == "signed"
    running = [
        clock for clock in play.state.running if clock.kind == "check_in" and clock.department == ECOLOGY
    ]
    assert [clock.due_at for clock in running] == [due]
    play.check_in(ECOLOGY)
    assert play.assignment(ECOLOGY).status == "confirmed"


def test_what_was_reported_done_is_not_done_when_the_check_in_is_disputed() -> None:
    play = Play().dispatch(ECOLOGY).sign().check_in(confirm=False).act().done()
    assert play.state.stage is Stage.AWAITING_RATING
    play.do(DisputeCheckIn(by=TOWN_OFFICER, department=ECOLOGY, reason="无人到场"))
    assert play.assignment(ECOLOGY).done_at is None
    assert {clock.kind for clock in play.state.running} == {"check_in", "handling", "case"}
    play.check_in().done()
    assert play.assignment(ECOLOGY).status == "done"
    rated = Play().dispatch(ECOLOGY, POLICE).sign().check_in(confirm=False).act().done().rate(ECOLOGY)
    assert refusal(rated, DisputeCheckIn(by=TOWN_OFFICER, department=ECOLOGY, reason="x")) == "already_rated"


def test_an_action_needs_people_on_site_and_a_demolition_notice_needs_a_date() -> None:
    play = Play().dispatch().sign()
    command = TakeAction(
        by=OFFICERS[ECOLOGY],
        department=ECOLOGY,
        kind=ActionKind.DEMOLITION_NOTICE,
        description="通知",
        result="送达",
    )
    assert refusal(play, command) == "not_checked_in"
    play.check_in(ECOLOGY)
    assert refusal(play, command) == "follow_up_missing"
    past = command.model_copy(update={"follow_up_on": play.now.date() - timedelta(days=1)})
    assert refusal(play, past) == "time_in_past"
    play.do(command.model_copy(update={"follow_up_on": play.now.date() + timedelta(days=10)}))
    assert play.state.actions[-1].follow_up_on == play.now.date() + timedelta(days=10)


def test_done_needs_an_action_of_the_department() -> None:
    play = Play().dispatch().sign().check_in()
    with pytest.raises(Refused, match="no_action"):
        play.done(ECOLOGY)


def test_only_the_lead_records_the_plan() -> None:
    play = Play().dispatch().sign().check_in()
    assert refusal(play, Plan(by=OFFICERS[POLICE], department=POLICE, text="方案")) == "not_the_lead"
    play.do(Plan(by=OFFICERS[ECOLOGY], department=ECOLOGY, text="方案一"))
    play.do(Plan(by=OFFICERS[ECOLOGY], department=ECOLOGY, text="方案二"))
    assert play.state.plan == "方案二"
    assert play.kinds().count("plan_agreed") == 2


def test_done_by_every_department_does_not_close_the_case() -> None:
    play = Play().until_rating()
    assert play.state.stage is Stage.AWAITING_RATING
    assert not play.state.is_over


def test_a_rating_waits_until_every_department_is_done() -> None:
    play = Play().dispatch().sign().check_in().act().done(ECOLOGY)
    command = Rate(by=TOWN_OFFICER, department=ECOLOGY, grade=Grade.SATISFIED, solved=True)
    assert refusal(play, command) == "not_all_done"


def test_a_rating_is_locked_once_given() -> None:
    play = Play().until_rating().rate(ECOLOGY)
    command = Rate(by=TOWN_OFFICER, department=ECOLOGY, grade=Grade.DISSATISFIED, solved=True)
    assert refusal(play, command) == "already_rated"
    assert refusal(play, Rework(by=TOWN_OFFICER, department=ECOLOGY, reason="再办")) == "already_rated"


def test_not_solved_sends_it_back_with_a_new_handling_clock_and_keeps_the_rating() -> None:
    play = Play().until_rating().later(hours=3).rate(ECOLOGY, solved=False)
    assignment = play.assignment(ECOLOGY)
    assert (assignment.status, assignment.round) == ("enforcing", 2)
    assert [rating.solved for rating in assignment.past_ratings] == [False]
    handling = [c for c in play.state.clocks if c.kind == "handling" and c.department == ECOLOGY]
    assert [clock.runs for clock in handling] == [False, True]
    assert handling[1].started_at == play.now
    with pytest.raises(Refused, match="no_action"):
        play.done(ECOLOGY)
    play.act(ECOLOGY).done(ECOLOGY).rate()
    assert play.state.stage is Stage.CLOSED


def test_the_clock_of_the_whole_case_is_not_reset_by_rework() -> None:
    play = Play().until_rating()
    before = next(clock for clock in play.state.clocks if clock.kind == "case")
    play.later(hours=1).do(Rework(by=TOWN_APPROVER, department=POLICE, reason="没有处理完"))
    after = [clock for clock in play.state.clocks if clock.kind == "case"]
    assert len(after) == 1
    assert (after[0].started_at, after[0].due_at) == (before.started_at, before.due_at)
    assert after[0].runs


def test_the_dispatcher_refuses_a_call_with_a_reason_and_only_before_dispatch() -> None:
    play = Play().do(Refuse(by=DISPATCHER, reason="镇街自办事项"))
    assert play.state.stage is Stage.REFUSED
    assert play.state.closure is not None
    assert play.state.closure.reason == "镇街自办事项"
    assert refusal(Play().dispatch(), Refuse(by=DISPATCHER, reason="x")) == "wrong_stage"


def test_the_caller_cancels_until_work_has_begun() -> None:
    assert Play().dispatch().do(Cancel(by=TOWN_OFFICER, reason="已解决")).state.stage is Stage.CANCELLED
    begun = Play().dispatch().sign().check_in(ECOLOGY).act(ECOLOGY)
    assert refusal(begun, Cancel(by=TOWN_OFFICER, reason="x")) == "work_has_begun"


def test_a_case_that_is_over_takes_no_act_and_none_of_its_clocks_runs() -> None:
    for play in (
        Play().until_rating().rate(),
        Play().do(Refuse(by=DISPATCHER, reason="x")),
        Play().dispatch().do(Cancel(by=TOWN_OFFICER, reason="x")),
    ):
        assert not list(play.state.running)
        assert play.next_due() is None
        assert refusal(play, Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY)) in {
            "case_over",
            "case_not_visible",
        }
        assert refusal(play, Cancel(by=TOWN_OFFICER, reason="x")) == "case_over"


def test_a_department_acts_for_itself_only() -> None:
    play = Play().dispatch()
    assert refusal(play, Sign(by=OFFICERS[POLICE], department=ECOLOGY)) == "not_your_department"


def test_a_department_that_is_not_on_the_case_does_not_see_it() -> None:
    play = Play().dispatch(ECOLOGY)
    assert refusal(play, Sign(by=OFFICERS[POLICE], department=POLICE)) == "case_not_visible"


def test_naming_a_department_that_is_not_on_the_case_is_refused() -> None:
    play = Play().dispatch(ECOLOGY)
    assert refusal(play, ConfirmCheckIn(by=TOWN_OFFICER, department=POLICE)) == "not_assigned"
    assert refusal(Play(), ConfirmCheckIn(by=TOWN_OFFICER, department=POLICE)) == "not_dispatched"


@pytest.mark.parametrize(
    ("who", "command"),
    [
        (TOWN_OFFICER, Dispatch(by=TOWN_OFFICER, lead=ECOLOGY)),
        (COORDINATOR, Dispatch(by=COORDINATOR, lead=ECOLOGY)),
        (DISPATCHER, Cancel(by=DISPATCHER, reason="x")),
        (TOWN_OFFICER, Refuse(by=TOWN_OFFICER, reason="x")),
    ],
)
def test_an_act_of_another_role_is_forbidden(who: object, command: AnyCommand) -> None:
    assert command.by == who
    assert refusal(Play(), command) == "role_may_not"


def test_another_township_neither_sees_nor_rates() -> None:
    play = Play().until_rating()
    command = Rate(by=OTHER_TOWN_OFFICER, department=ECOLOGY, grade=Grade.SATISFIED, solved=True)
    assert refusal(play, command) == "case_not_visible"


def test_the_department_does_not_confirm_its_own_check_in_nor_rate_itself() -> None:
    play = Play().dispatch().sign().check_in(ECOLOGY, confirm=False)
    assert refusal(play, ConfirmCheckIn(by=OFFICERS[ECOLOGY], department=ECOLOGY)) == "role_may_not"
    done = Play().until_rating()
    command = Rate(by=HEADS[ECOLOGY], department=ECOLOGY, grade=Grade.SATISFIED, solved=True)
    assert refusal(done, command) == "role_may_not"


def test_the_same_codes_in_another_district_give_no_right() -> None:
    stranger = actor(Role.DEPARTMENT_OFFICER, ECOLOGY, district="elsewhere")
    play = Play().dispatch()
    assert refusal(play, Sign(by=stranger, department=ECOLOGY)) == "case_not_visible"
    city = actor(Role.COORDINATOR, "city", district="elsewhere")
    assert refusal(play, Sign(by=city, department=ECOLOGY)) == "role_may_not"


def test_a_resident_officer_acts_for_the_department_in_the_own_township_only() -> None:
    here = actor(Role.RESIDENT_OFFICER, POLICE, township="town")
    there = actor(Role.RESIDENT_OFFICER, POLICE, township="other-town")
    play = Play().dispatch()
    assert refusal(play, Sign(by=there, department=POLICE)) == "case_not_visible"
    assert play.do(Sign(by=here, department=POLICE)).assignment(POLICE).signed_at == play.now


def test_an_administrator_does_no_act_and_sees_no_case() -> None:
    assert (
        refusal(Play(), Dispatch(by=actor(Role.ADMINISTRATOR, "platform"), lead=ECOLOGY))
        == "case_not_visible"
    )


def test_allowed_acts_are_exactly_those_that_the_rules_then_accept() -> None:
    bodies: dict[Act, dict[str, object]] = {
        Act.DISPATCH: {"lead": ECOLOGY},
        Act.REFUSE: {"reason": "x"},
        Act.CANCEL: {"reason": "x"},
        Act.CHECK_IN: {"officers": [{"name": "王"}]},
        Act.DISPUTE_CHECK_IN: {"reason": "x"},
        Act.PLAN: {"text": "x"},
        Act.ACTION: {"kind": "fine", "description": "x", "result": "x"},
        Act.DONE: {"result": "x"},
        Act.RATE: {"grade": "satisfied", "solved": True},
        Act.REWORK: {"reason": "x"},
        Act.OBJECT: {"basis": "law", "reason": "x", "proposed": MARKET},
        Act.ADJUDICATE: {"uphold": False, "reason": "x"},
        Act.TRANSFER: {"to": HOUSING, "reason": "x"},
        Act.EXTEND: {"reason": "x"},
        Act.DECIDE_EXTENSION: {"approve": True},
        Act.SUSPEND: {"reason": "x", "until": shanghai("2026-03-09 09:00")},
        Act.DECIDE_SUSPENSION: {"approve": True},
        Act.RESUME: {"reason": "x"},
        Act.LINK: {"other": "sample-20260301-bbbbbb", "kind": "related"},
        Act.INSTRUCT: {"text": "x"},
        Act.ANSWER_ORDER: {"text": "x"},
        Act.REOPEN: {"reason": "x"},
        Act.APPEAL: {"about": "rating", "reason": "x"},
        Act.DECIDE_APPEAL: {"uphold": False, "reason": "x"},
    }
    from domain.commands import COMMANDS

    people = [TOWN_OFFICER, TOWN_APPROVER, OTHER_TOWN_OFFICER, DISPATCHER, COORDINATOR, *OFFICERS.values()]
    for steps in range(7):
        play = Play()
        for step in ("dispatch", "sign", "check_in", "act", "done", "rate")[:steps]:
            getattr(play, step)()
        for person in people:
            allowed = set(allowed_acts(play.state, person, play.now, play.terms))
            for act, command in COMMANDS.items():
                if act is Act.ADOPT_TERMS:
                    continue  # reaches many cases at once, and is offered on none
                about = act in ABOUT_AN_OFFICE
                for department in DEPARTMENTS if about else (None,):
                    body = bodies.get(act, {}) | ({"department": department} if department else {})
                    asked = command.model_validate({"by": person, **body})
                    trial = Play()
                    trial.state, trial.now = play.state, play.now
                    trial.entries = list(play.entries)
                    try:
                        trial.do(asked)
                        accepted = True
                    except DomainError:
                        accepted = False
                    assert accepted == ((act, department) in allowed), (steps, person.id, act, department)


def test_the_first_entry_of_a_case_is_its_call() -> None:
    play = Play().dispatch()
    with pytest.raises(Invalid, match="not_a_call"):
        evolve(None, play.entries[1])
    with pytest.raises(Invalid, match="not_a_call"):
        fold([])
    with pytest.raises(Invalid, match="called_twice"):
        evolve(play.state, play.entries[0])
    assert isinstance(play.events[0], Called)

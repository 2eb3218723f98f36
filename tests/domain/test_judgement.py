"""What comes after 'done': evidence, follow-ups, rating, reopening, appeal."""

from datetime import date
from typing import Any

import pytest

from domain.case import Actor, AppealAbout, Attachment, Grade, OrganisationCode, Stage
from domain.commands import (
    AnswerOrder,
    AnyCommand,
    DecideAppeal,
    FileAppeal,
    Rate,
    Refuse,
    Reopen,
    ReportDone,
    Rework,
    TakeAction,
)
from domain.errors import DomainError
from domain.events import Escalated
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
    OTHER_SUPERVISOR,
    POLICE,
    SUPERVISOR,
    TOWN,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    shanghai,
    shown,
)


def on_site(*departments: OrganisationCode, **changes: Any) -> Play:
    """A case on which all have checked in; Wednesday, 9:00."""
    play = Play(terms=FULL_TERMS, caller=TOWN_APPROVER, **changes)
    return play.dispatch(*departments or (ECOLOGY, POLICE)).sign().check_in()


def closed(*departments: OrganisationCode) -> Play:
    """A case that is closed, rated by all."""
    return on_site(*departments).act().done().rate()


def action(department: OrganisationCode = ECOLOGY, *, by: Actor | None = None, **changes: Any) -> TakeAction:
    """Return an action."""
    content = {"kind": "demolition", "description": "拆除", "result": "已拆"} | changes
    who = by or OFFICERS[department]
    return TakeAction.model_validate({"by": who, "department": department, **content})


NOTICE: dict[str, Any] = {"kind": "demolition_notice", "follow_up_on": date(2026, 3, 20)}


# --- evidence ----------------------------------------------------------------------------------------------


def done(department: OrganisationCode = ECOLOGY, *attachments: Attachment) -> ReportDone:
    """Return the report."""
    return ReportDone(by=OFFICERS[department], department=department, result="完成", attachments=attachments)


def test_the_lead_shows_all_that_closes_the_item_before_it_says_done() -> None:
    play = on_site(ECOLOGY, POLICE, MARKET, responsibility=LISTED).act()
    for given in ((), shown("现场照片"), shown("处置文书")):
        assert refusal(play, done(ECOLOGY, *given)) == "evidence_missing"
    play.do(done(ECOLOGY, *shown()))
    assert play.assignment(ECOLOGY).status == "done"


def test_what_an_action_of_anybody_has_shown_counts() -> None:
    play = on_site(ECOLOGY, POLICE, MARKET, responsibility=LISTED)
    play.do(action(POLICE, attachments=shown("现场照片"))).do(action(attachments=shown("处置文书")))
    assert play.do(done()).assignment(ECOLOGY).status == "done"


def test_cooperating_departments_need_none_and_slips_of_the_pen_are_noticed() -> None:
    play = on_site(ECOLOGY, POLICE, MARKET, responsibility=LISTED).act()
    play.do(done(POLICE))
    assert refusal(play, done(ECOLOGY, *shown("现场照骗"))) == "unknown_evidence"
    assert refusal(play, action(attachments=shown("x"))) == "unknown_evidence"
    assert refusal(on_site().act(), done(ECOLOGY, *shown("现场照片"))) == "unknown_evidence"


# --- follow-ups --------------------------------------------------------------------------------------------


def test_the_township_records_its_own_part_once_departments_are_called() -> None:
    own = action(TOWN, by=TOWN_OFFICER, kind="mediation")
    assert refusal(Play(terms=FULL_TERMS, caller=TOWN_APPROVER), own) == "not_dispatched"
    play = on_site().do(own)
    assert play.state.actions[-1].department == TOWN
    assert refusal(play, action(TOWN, by=OFFICERS[ECOLOGY])) == "not_your_department"


def test_a_date_by_which_others_must_have_done_something_is_watched() -> None:
    play = on_site().do(action(**NOTICE))
    follow_up = play.state.follow_ups[0]
    assert (follow_up.number, follow_up.department, follow_up.on) == (1, ECOLOGY, date(2026, 3, 20))
    clock = play.state.clock(ClockKind.FOLLOW_UP, ECOLOGY)
    assert clock is not None
    # They have the whole of Friday; the department then has Monday.
    assert clock.due_at == shanghai("2026-03-23 17:30")


def test_a_follow_up_is_watched_after_closure_escalates_and_is_settled_then() -> None:
    play = on_site(ECOLOGY).do(action(**NOTICE)).done().rate()
    assert play.state.stage is Stage.CLOSED
    assert not play.state.is_settled
    assert refusal(play, action()) == "case_over"
    play.at("2026-03-23 17:30")
    assert "escalated" not in play.kinds()
    play.later(seconds=1)
    assert [e.clock for e in play.events if isinstance(e, Escalated)] == [ClockKind.FOLLOW_UP]
    play.do(action(settles=1, result="已自行拆除"))
    assert play.state.is_settled
    assert play.state.follow_ups[0].settled_at == play.now
    assert play.next_due() is None
    assert refusal(play, action(settles=1)) == "already_settled"


def test_a_supervision_order_about_a_late_follow_up_can_be_answered_after_closure() -> None:
    play = on_site(ECOLOGY).do(action(**NOTICE)).done().rate().at("2026-03-24 11:00")
    (order,) = play.state.orders
    play.do(action(settles=1, result="已自行拆除"))
    assert not play.state.is_settled
    answer = AnswerOrder(by=HEADS[ECOLOGY], department=ECOLOGY, text="已核查", number=order.number)
    play.do(answer)
    assert play.state.orders[0].answer == "已核查"
    assert play.state.is_settled


def test_a_follow_up_is_settled_once_by_the_office_that_set_it() -> None:
    play = on_site().do(action(**NOTICE))
    assert refusal(play, action(POLICE, settles=1)) == "unknown_follow_up"
    assert refusal(play, action(settles=2)) == "unknown_follow_up"
    play.do(action(settles=1))
    assert refusal(play, action(settles=1)) == "already_settled"


def test_settling_after_done_reopens_nothing_and_may_set_the_next_date() -> None:
    play = on_site(ECOLOGY).do(action(**NOTICE)).done()
    play.do(action(settles=1, result="只拆了一半", kind="demolition_notice", follow_up_on=date(2026, 4, 3)))
    assert play.assignment(ECOLOGY).status == "done"
    assert [each.settled_at is None for each in play.state.follow_ups] == [False, True]
    assert play.rate().state.is_settled is False


def test_without_a_rule_for_follow_ups_the_date_is_kept_and_nothing_rings() -> None:
    play = Play().dispatch(ECOLOGY).sign().check_in().do(action(**NOTICE)).done().rate()
    assert play.state.follow_ups[0].on == date(2026, 3, 20)
    assert play.state.is_settled


# --- rework ------------------------------------------------------------------------------------------------


def test_rework_before_rating_takes_only_what_is_done() -> None:
    play = on_site().act(ECOLOGY)
    assert refusal(play, Rework(by=TOWN_OFFICER, department=ECOLOGY, reason="x")) == "not_done"
    play.done(ECOLOGY).do(Rework(by=TOWN_OFFICER, department=ECOLOGY, reason="未清理"))
    assert (play.assignment(ECOLOGY).round, play.assignment(POLICE).round) == (2, 1)


# --- reopening ---------------------------------------------------------------------------------------------


def reopen(*departments: OrganisationCode, by: Actor = TOWN_OFFICER) -> Reopen:
    """Return the act."""
    return Reopen(by=by, reason="违建复建", departments=departments)


def test_the_caller_reopens_within_seven_days_once_and_the_work_begins_again() -> None:
    play = closed().at("2026-03-11 09:00")
    play.do(reopen())
    assert play.state.stage is Stage.ENFORCING
    assert [each.round for each in play.state.assignments] == [2, 2]
    assert [len(each.past_ratings) for each in play.state.assignments] == [1, 1]
    assert {(c.kind, c.department, c.started_at) for c in play.state.running} == {
        (ClockKind.HANDLING, ECOLOGY, play.now),
        (ClockKind.HANDLING, POLICE, play.now),
        (ClockKind.CASE, None, play.now),
    }
    assert len(play.state.past_closures) == 1
    assert play.act().done().rate().state.stage is Stage.CLOSED
    assert refusal(play, reopen()) == "reopen_needs_approval"
    play.do(reopen(by=COORDINATOR))
    assert len(play.state.past_closures) == 2


def test_after_seven_days_only_the_group_reopens() -> None:
    play = closed().at("2026-03-11 09:00").later(seconds=1)
    assert refusal(play, reopen()) == "reopen_too_late"
    assert play.do(reopen(by=COORDINATOR)).state.stage is Stage.ENFORCING


def test_some_departments_may_begin_again_while_the_others_stay_rated() -> None:
    play = closed().do(reopen(POLICE))
    assert (play.assignment(ECOLOGY).status, play.assignment(POLICE).status) == ("rated", "enforcing")
    play.act(POLICE).done(POLICE).rate(POLICE)
    assert play.state.stage is Stage.CLOSED


def test_who_does_not_reopen_and_what_is_not_reopened() -> None:
    play = closed()
    for who in (DISPATCHER, OFFICERS[ECOLOGY], SUPERVISOR):
        assert refusal(play, reopen(by=who)) == "role_may_not"
    assert refusal(play, reopen(MARKET)) == "not_assigned"
    assert refusal(play, reopen(POLICE, POLICE)) == "department_twice"
    assert refusal(on_site(), reopen()) == "wrong_stage"
    assert refusal(Play().until_rating().rate(), reopen()) == "not_in_policy"


def test_a_follow_up_goes_on_when_the_case_is_reopened() -> None:
    play = on_site(ECOLOGY).do(action(**NOTICE)).done().rate().do(reopen())
    assert play.state.clock(ClockKind.FOLLOW_UP, ECOLOGY) is not None
    play.act().done().rate().do(action(settles=1))
    assert play.state.is_settled


# --- appeal ------------------------------------------------------------------------------------------------


def appeals(
    about: AppealAbout = AppealAbout.RATING,
    department: OrganisationCode = ECOLOGY,
    *,
    by: Actor | None = None,
) -> FileAppeal:
    """Return the head's act."""
    return FileAppeal(by=by or HEADS[department], department=department, about=about, reason="与现场记录不符")


def verdict(
    by: Actor = SUPERVISOR, *, uphold: bool = True, grade: Grade | None = Grade.SATISFIED
) -> DecideAppeal:
    """Return one reviewer's decision."""
    return DecideAppeal(
        by=by, department=ECOLOGY, uphold=uphold, grade=grade if uphold else None, reason="查证属实"
    )


def badly_rated() -> Play:
    """Closed, the lead rated dissatisfied."""
    play = on_site().act().done()
    bad = Rate(by=TOWN_OFFICER, department=ECOLOGY, grade=Grade.DISSATISFIED, solved=True)
    return play.do(bad).rate(POLICE)


def test_an_upheld_appeal_keeps_both_versions_of_the_rating() -> None:
    play = badly_rated().do(appeals())
    original = play.assignment(ECOLOGY).rating
    play.do(verdict())
    assert play.assignment(ECOLOGY).corrected is None
    assert play.state.appeals[0].is_open
    play.do(verdict(OTHER_SUPERVISOR))
    assert play.assignment(ECOLOGY).rating == original
    corrected = play.assignment(ECOLOGY).corrected
    assert corrected is not None
    assert (corrected.grade, corrected.solved) == (Grade.SATISFIED, True)
    assert [each.reviewer for each in play.state.appeals[0].verdicts] == [SUPERVISOR.id, OTHER_SUPERVISOR.id]
    assert play.state.appeals[0].upheld is True
    assert play.state.stage is Stage.CLOSED


def test_two_different_reviewers_must_agree_and_the_first_no_ends_it() -> None:
    play = badly_rated().do(appeals()).do(verdict())
    assert refusal(play, verdict()) == "same_reviewer"
    other = verdict(OTHER_SUPERVISOR, grade=Grade.BASICALLY_SATISFIED)
    assert refusal(play, other) == "reviewers_differ"
    play.do(verdict(OTHER_SUPERVISOR, uphold=False))
    assert play.state.appeals[0].upheld is False
    assert play.assignment(ECOLOGY).corrected is None
    assert play.state.is_settled
    at_once = badly_rated().do(appeals()).do(verdict(uphold=False))
    assert at_once.state.appeals[0].upheld is False
    assert refusal(at_once, verdict(OTHER_SUPERVISOR)) == "no_appeal"


def test_an_appeal_once_only_after_closure_and_within_five_working_days() -> None:
    assert refusal(on_site().act().done(), appeals()) == "wrong_stage"
    play = badly_rated().at("2026-03-11 17:30")
    late = badly_rated().at("2026-03-11 17:30").later(seconds=1)
    assert refusal(late, appeals()) == "appeal_too_late"
    play.do(appeals()).do(verdict(uphold=False))
    assert refusal(play, appeals()) == "already_appealed"
    assert refusal(Play().until_rating().rate(), appeals()) == "not_in_policy"


def test_who_appeals_and_who_decides() -> None:
    play = badly_rated()
    assert refusal(play, appeals(by=OFFICERS[ECOLOGY])) == "not_your_department"
    assert refusal(play, appeals(by=HEADS[POLICE])) == "not_your_department"
    assert refusal(play, appeals(department=HOUSING)) == "case_not_visible"
    play.do(appeals())
    for who in (COORDINATOR, TOWN_APPROVER, HEADS[ECOLOGY], DISPATCHER):
        assert refusal(play, verdict(who)) in {"role_may_not", "not_your_department"}


def test_what_a_verdict_must_say() -> None:
    play = badly_rated().do(appeals())
    assert refusal(play, verdict(grade=None)) == "grade_missing"
    turned_down = verdict(uphold=False).model_copy(update={"grade": Grade.SATISFIED})
    assert refusal(play, turned_down) == "grade_without_upholding"


def test_lateness_is_exempted_by_an_upheld_appeal_and_stays_in_the_record() -> None:
    play = Play(terms=FULL_TERMS, caller=TOWN_APPROVER).dispatch(ECOLOGY, POLICE).sign(POLICE)
    play.later(hours=1).check_in().act().done().rate()
    assert play.assignment(ECOLOGY).sign_deemed_at is not None
    assert refusal(play, appeals(AppealAbout.LATENESS, POLICE)) == "not_late"
    play.do(appeals(AppealAbout.LATENESS))
    graded = verdict()
    assert refusal(play, graded) == "grade_without_upholding"
    play.do(verdict(grade=None)).do(verdict(OTHER_SUPERVISOR, grade=None))
    assert play.assignment(ECOLOGY).exempted
    assert not play.assignment(POLICE).exempted
    assert play.assignment(ECOLOGY).sign_deemed_at is not None


def test_what_others_were_late_with_is_no_lateness_of_the_department() -> None:
    play = Play(terms=FULL_TERMS, caller=TOWN_APPROVER).dispatch(ECOLOGY).sign()
    play.check_in(confirm=False).later(days=1).act().done().rate()
    assert "check_in_confirmed" in play.kinds()
    assert refusal(play, appeals(AppealAbout.LATENESS)) == "not_late"


def test_who_was_not_rated_has_no_rating_to_appeal_against() -> None:
    play = on_site().act().done().rate(POLICE).at("2026-03-10 09:00")
    assert play.state.closure is not None
    assert play.state.closure.unrated == (ECOLOGY,)
    assert refusal(play, appeals()) == "not_rated"


def test_an_appeal_that_nobody_decides_climbs_the_groups_ladder_and_keeps_the_case_unsettled() -> None:
    play = badly_rated().do(appeals()).at("2026-03-11 17:30")
    assert "escalated" not in play.kinds()
    play.later(seconds=1)
    assert [e.clock for e in play.events if isinstance(e, Escalated)] == [ClockKind.APPEAL]
    assert not play.state.is_settled
    play.do(verdict()).do(verdict(OTHER_SUPERVISOR))
    assert play.state.is_settled


def test_a_case_that_was_reopened_keeps_its_appeal_open() -> None:
    play = badly_rated().do(appeals()).do(reopen())
    play.do(verdict()).do(verdict(OTHER_SUPERVISOR))
    corrected = play.assignment(ECOLOGY).corrected
    assert corrected is not None
    assert corrected.grade is Grade.SATISFIED
    assert play.assignment(ECOLOGY).past_ratings[0].grade is Grade.DISSATISFIED


@pytest.mark.parametrize("command", [appeals(), reopen(), verdict()])
def test_none_of_it_on_a_case_that_was_sent_back(command: AnyCommand) -> None:
    play = Play(terms=FULL_TERMS).do(Refuse(by=TOWN_APPROVER, reason="自办"))
    with pytest.raises(DomainError):
        play.do(command)
    assert play.later(days=30).state.stage is Stage.REFUSED

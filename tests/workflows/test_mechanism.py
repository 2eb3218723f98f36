"""Every step of the mechanism as a workflow: under skipped time, across restarts, and after a case has ended."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from domain import audit
from domain.case import ActionKind, AppealAbout, Basis, Grade, Stage
from domain.clocks import next_due
from domain.commands import (
    Adjudicate,
    AdoptTerms,
    AnswerOrder,
    DecideAppeal,
    DecideSuspension,
    Dispatch,
    Extend,
    FileAppeal,
    Object,
    Rate,
    Release,
    Reopen,
    Sign,
    Suspend,
    TakeAction,
)
from domain.district import AdoptionScope, Terms
from domain.events import Closed, Dispatched, Escalated, ExtensionDecided, ObjectionReferred, Resumed
from domain.lifecycle import fold
from domain.policy import ClockKind
from tests.sample import (
    ADMINISTRATOR,
    CALENDAR,
    COORDINATOR,
    DEPARTMENTS,
    DISPATCHER,
    ECOLOGY,
    FULL_TERMS,
    HEADS,
    HOUSING,
    LISTED,
    OFFICERS,
    OTHER_SUPERVISOR,
    POLICE,
    SUPERVISOR,
    TOWN_APPROVER,
    TOWN_OFFICER,
)
from tests.workflows.cases import Cases, Running

A_MOMENT = timedelta(seconds=2)
ON_SITE = ("sign", "check_in", "confirm", "action")
AUTOMATIC = FULL_TERMS.model_copy(
    update={"policy": FULL_TERMS.policy.model_copy(update={"automatic_dispatch": True})}
)


async def called(cases: Cases, *, terms: Terms = FULL_TERMS, **changes: Any) -> Running:
    """Call as the township's approver, under every rule of the mechanism."""
    return await cases.call(terms=terms, **({"caller": TOWN_APPROVER} | changes))


async def until(skipped: Cases, moment: datetime) -> None:
    """Let time pass until just after a moment."""
    await skipped.environment.sleep(moment - await skipped.now() + A_MOMENT)


async def until_due(skipped: Cases, case: Running) -> None:
    """Let time pass until just after the next thing that a clock does."""
    due = next_due(await case.state(), FULL_TERMS)
    assert due is not None
    await until(skipped, due)


async def test_release_and_its_ladder(skipped: Cases) -> None:
    case = await skipped.call(terms=FULL_TERMS)
    await until_due(skipped, case)
    late = case.entries[-1].event
    assert isinstance(late, Escalated)
    assert late.clock is ClockKind.RELEASE
    await case.do(Release(by=TOWN_APPROVER))
    assert (await case.state()).stage is Stage.CALLED


async def test_the_list_dispatches_by_itself_as_soon_as_the_call_is_released(skipped: Cases) -> None:
    case = await skipped.call(terms=AUTOMATIC, responsibility=LISTED)
    await case.do(Release(by=TOWN_APPROVER))
    await skipped.environment.sleep(A_MOMENT)
    dispatched = case.entries[-1].event
    assert isinstance(dispatched, Dispatched)
    assert dispatched.automatic
    assert (await case.state()).departments() == DEPARTMENTS


async def test_every_rung_in_order_with_orders_and_warnings_when_nobody_acts(skipped: Cases) -> None:
    case = await called(skipped)
    await case.dispatch(ECOLOGY)
    await skipped.environment.sleep(timedelta(days=40))
    climbed: dict[tuple[str, int], list[int]] = {}
    for entry in case.entries:
        if isinstance(entry.event, Escalated):
            climbed.setdefault((entry.event.clock.value, entry.event.round), []).append(entry.event.level)
            assert entry.at > entry.event.rung_due_at
    assert climbed == {
        ("sign", 1): [1, 2, 3],
        ("check_in", 1): [0, 1, 2, 3],
        ("handling", 1): [0, 1, 2, 3],
        ("case", 1): [0, 1],
        ("order", 1): [1],
        ("order", 2): [1],
        ("order", 3): [1],
    }
    moments = [e.event.rung_due_at for e in case.entries if isinstance(e.event, Escalated)]
    assert moments == sorted(moments)
    assert fold(case.entries) == await case.state()


async def test_an_objection_that_the_dispatcher_leaves_is_referred_to_the_group(skipped: Cases) -> None:
    case = await called(skipped)
    await case.dispatch(ECOLOGY)
    await case.do(
        Object(
            by=OFFICERS[ECOLOGY],
            department=ECOLOGY,
            basis=Basis.CATALOGUE,
            reason="非我职责",
            proposed=HOUSING,
        )
    )
    clock = (await case.state()).clock(ClockKind.OBJECTION, ECOLOGY)
    assert clock is not None
    await until(skipped, clock.due_at)
    assert any(isinstance(entry.event, ObjectionReferred) for entry in case.entries)
    ruling = Adjudicate(by=DISPATCHER, department=ECOLOGY, uphold=True, reason="依清单")
    assert await case.refusal(ruling) == "role_may_not"
    await case.do(ruling.model_copy(update={"by": COORDINATOR}))
    assert (await case.state()).departments() == (HOUSING,)


async def test_an_extension_that_nobody_decides_lapses_at_red(skipped: Cases) -> None:
    case = await called(skipped)
    await case.dispatch(ECOLOGY)
    await case.each("sign", "check_in", "confirm", departments=(ECOLOGY,))
    await case.do(Extend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定"))
    clock = (await case.state()).clock(ClockKind.HANDLING, ECOLOGY)
    assert clock is not None
    await until(skipped, clock.due_at)
    lapsed = [entry.event for entry in case.entries if isinstance(entry.event, ExtensionDecided)]
    assert lapsed == [
        ExtensionDecided(number=1, department=ECOLOGY, office=None, approved=False, granted=False)
    ]


async def test_a_suspended_case_sleeps_until_its_date_and_resumes_by_itself(skipped: Cases) -> None:
    case = await called(skipped)
    await case.dispatch(ECOLOGY)
    await case.each("sign", "check_in", "confirm", departments=(ECOLOGY,))
    ends = await skipped.now() + timedelta(days=100)
    await case.do(Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定", until=ends))
    await case.do(DecideSuspension(by=COORDINATOR, approve=True))
    await skipped.environment.sleep(timedelta(days=99))
    assert case.kinds()[-1] == "suspension_decided"
    await until(skipped, ends)
    resumed = case.entries[-1].event
    assert isinstance(resumed, Resumed)
    assert resumed.by_date
    state = await case.state()
    assert state.stage is Stage.CHECKED_IN
    assert state.suspensions[0].ended_at == ends


async def with_follow_up(cases: Cases) -> Running:
    """A case that is closed while a follow-up is open."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    await case.each(*ON_SITE, departments=(ECOLOGY,))
    on = (await cases.now() + timedelta(days=10)).date()
    notice = TakeAction(
        by=OFFICERS[ECOLOGY],
        department=ECOLOGY,
        kind=ActionKind.DEMOLITION_NOTICE,
        description="限期拆除",
        result="已送达",
        follow_up_on=on,
    )
    await case.do(notice)
    await case.each("done", "rate", departments=(ECOLOGY,))
    return case


SETTLES = TakeAction(
    by=OFFICERS[ECOLOGY],
    department=ECOLOGY,
    kind=ActionKind.OTHER,
    description="复查",
    result="已自行拆除",
    settles=1,
)


async def test_the_workflow_runs_on_after_closure_while_a_follow_up_is_open_and_ends_with_it(
    skipped: Cases,
) -> None:
    case = await with_follow_up(skipped)
    assert (await case.state()).stage is Stage.CLOSED
    await skipped.environment.sleep(timedelta(days=16))
    assert (await case.handle.describe()).status is WorkflowExecutionStatus.RUNNING
    assert case.kinds()[-1] == "escalated"
    await case.do(SETTLES)
    for order in (await case.state()).orders:
        await case.do(AnswerOrder(by=HEADS[ECOLOGY], department=ECOLOGY, text="已核查", number=order.number))
    assert await case.handle.result() == Stage.CLOSED


async def test_an_unrated_case_closes_by_itself(skipped: Cases) -> None:
    case = await called(skipped)
    await case.dispatch(ECOLOGY, POLICE)
    await case.each(*ON_SITE, "done", departments=(ECOLOGY, POLICE))
    await case.each("rate", departments=(POLICE,))
    assert await case.handle.result() == Stage.CLOSED
    assert case.entries[-1].event == Closed(unrated=(ECOLOGY,))


async def adopted(cases: Cases) -> tuple[Running, AdoptTerms, datetime]:
    """A case that has taken on a calendar under which its handling is due later; the act, and the new due moment."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    await case.each("sign", "check_in", "confirm", departments=(ECOLOGY,))
    before = (await case.state()).clock(ClockKind.HANDLING, ECOLOGY)
    assert before is not None
    off = CALENDAR.model_copy(
        update={"version": "newer", "days_off": (*CALENDAR.days_off, before.due_at.date())}
    )
    newer = FULL_TERMS.model_copy(update={"calendar": off})
    adopt = AdoptTerms(by=ADMINISTRATOR, scope=AdoptionScope.CALENDAR, terms=newer, reason="调整放假")
    await case.do(adopt)
    moved = (await case.state()).clock(ClockKind.HANDLING, ECOLOGY)
    assert moved is not None
    assert moved.due_at > before.due_at
    return case, adopt, moved.due_at


async def test_newer_terms_hold_in_a_running_workflow(skipped: Cases) -> None:
    case, _, due = await adopted(skipped)
    await until(skipped, due)
    late = [e.event for e in case.entries if isinstance(e.event, Escalated) and e.event.level == 1]
    assert {e.due_at for e in late if e.clock is ClockKind.HANDLING} == {due}
    audit.check_chain(case.entries)


async def test_newer_terms_hold_after_a_worker_restart(cases: Cases) -> None:
    case, adopt, _ = await adopted(cases)
    await cases.stop_worker()
    await cases.start_worker()
    assert await case.refusal(adopt) == "nothing_new"
    await case.each("action", "done", "rate", departments=(ECOLOGY,))
    assert await case.handle.result() == Stage.CLOSED
    audit.check_chain(case.entries)


# --- after the end, on a real server -----------------------------------------------------------------------


async def ended(cases: Cases) -> Running:
    """A case whose workflow has ended."""
    case = await called(cases)
    await case.dispatch(ECOLOGY)
    await case.each(*ON_SITE, "done", departments=(ECOLOGY,))
    bad = {"by": TOWN_OFFICER, "department": ECOLOGY, "grade": Grade.DISSATISFIED, "solved": True}
    await case.do(Rate.model_validate(bad))
    assert await case.handle.result() == Stage.CLOSED
    return case


async def test_a_case_that_has_ended_is_reopened_in_a_run_of_its_own_and_its_chain_goes_on(
    cases: Cases,
) -> None:
    case = await ended(cases)
    whole = len(case.entries)
    case = await cases.take_up(case)
    await case.do(Reopen(by=TOWN_OFFICER, reason="违建复建"))
    await case.each("action", "done", "rate", departments=(ECOLOGY,))
    assert await case.handle.result() == Stage.CLOSED
    assert case.kinds()[whole] == "reopened"
    audit.check_chain(case.entries)
    state = fold(case.entries)
    assert (len(state.past_closures), state.assignments[0].round) == (1, 2)


async def test_an_appeal_after_the_end_is_decided_in_a_run_of_its_own(cases: Cases) -> None:
    case = await ended(cases)
    case = await cases.take_up(case)
    await case.do(FileAppeal(by=HEADS[ECOLOGY], department=ECOLOGY, about=AppealAbout.RATING, reason="不符"))
    for who in (SUPERVISOR, OTHER_SUPERVISOR):
        await case.do(
            DecideAppeal(by=who, department=ECOLOGY, uphold=True, grade=Grade.SATISFIED, reason="属实")
        )
    assert await case.handle.result() == Stage.CLOSED
    assert fold(case.entries).appeals[0].upheld
    audit.check_chain(case.entries)


async def test_a_run_that_was_opened_for_an_act_that_never_comes_ends_by_itself(skipped: Cases) -> None:
    case = await ended(skipped)
    entries = list(case.entries)
    case = await skipped.take_up(case)
    await skipped.environment.sleep(timedelta(minutes=11))
    assert await case.handle.result() == Stage.CLOSED
    assert case.entries == entries


@pytest.mark.parametrize(
    "command",
    [
        Reopen(by=TOWN_OFFICER, reason="x"),
        Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY),
        Dispatch(by=DISPATCHER, lead=ECOLOGY),
    ],
)
async def test_a_late_act_by_itself_never_opens_a_new_run(cases: Cases, command: Any) -> None:
    case = await ended(cases)
    before = await case.handle.describe()
    with pytest.raises(RPCError) as late:
        await case.do(command)
    assert late.value.status is RPCStatusCode.NOT_FOUND
    after = await case.handle.describe()
    assert (after.run_id, after.status) == (before.run_id, WorkflowExecutionStatus.COMPLETED)

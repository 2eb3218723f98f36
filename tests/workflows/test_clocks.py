"""Each clock and each rung under skipped time: what the workflow does when nobody acts."""

from datetime import timedelta

from domain import audit
from domain.case import Grade, Stage
from domain.commands import DisputeCheckIn, Rate, Sign
from domain.events import CheckInConfirmed, Closed, Escalated, SignDeemed, Signed
from domain.lifecycle import fold
from domain.policy import ClockKind, Urgency
from tests.sample import DEPARTMENTS, ECOLOGY, MARKET, OFFICERS, POLICE, TERMS, TOWN_OFFICER
from tests.workflows.cases import Cases, Running

A_MOMENT = timedelta(seconds=2)


def rungs(case: Running, kind: ClockKind, department: str | None) -> list[int]:
    """Return the levels that a clock has climbed, in order."""
    return [
        entry.event.level
        for entry in case.entries
        if isinstance(entry.event, Escalated)
        and (entry.event.clock, entry.event.department) == (kind, department)
    ]


async def until_due(skipped: Cases, case: Running) -> None:
    """Let time pass until just after the next thing that a clock does."""
    from domain.clocks import next_due

    due = next_due(await case.state(), TERMS)
    assert due is not None
    await skipped.environment.sleep(due - await skipped.now() + A_MOMENT)


async def test_an_unsigned_department_is_deemed_to_have_signed_at_its_deadline(skipped: Cases) -> None:
    case = await skipped.call()
    await case.dispatch()
    await case.each("sign", departments=(ECOLOGY, POLICE))
    await until_due(skipped, case)
    deemed = [entry for entry in case.entries if isinstance(entry.event, SignDeemed)]
    assert [entry.event.department for entry in deemed if isinstance(entry.event, SignDeemed)] == [MARKET]
    assert all(entry.by is None for entry in deemed)
    assert rungs(case, ClockKind.SIGN, MARKET) == [1]
    receipt = await case.do(Sign(by=OFFICERS[MARKET], department=MARKET))
    assert isinstance(case.entries[receipt.sequence - 1].event, Signed)
    assert (await case.state()).assignment(MARKET).sign_deemed_at is not None  # type: ignore[union-attr]


async def test_every_rung_of_every_clock_fires_exactly_once_when_nobody_acts(skipped: Cases) -> None:
    case = await skipped.call()
    await case.dispatch()
    await skipped.environment.sleep(timedelta(days=40))
    for kind in (ClockKind.SIGN, ClockKind.CHECK_IN, ClockKind.HANDLING):
        for department in DEPARTMENTS:
            assert rungs(case, kind, department) == [1, 2, 3]
    assert rungs(case, ClockKind.CASE, None) == [1]
    for entry in case.entries:
        if isinstance(entry.event, Escalated):
            late = entry.at - entry.event.rung_due_at
            assert timedelta(0) < late < timedelta(minutes=1)
    state = await case.state()
    assert state.stage is Stage.SIGNED
    assert state.escalation_level == 3
    audit.check_chain(case.entries)
    assert fold(case.entries) == state


async def test_a_call_that_nobody_dispatches_is_escalated(skipped: Cases) -> None:
    case = await skipped.call(urgency=Urgency.URGENT)
    await until_due(skipped, case)
    assert rungs(case, ClockKind.DISPATCH, None) == [1]
    await case.dispatch()
    assert (await case.state()).stage is Stage.DISPATCHED


async def test_silence_confirms_a_check_in(skipped: Cases) -> None:
    case = await skipped.call()
    await case.dispatch(ECOLOGY)
    await case.each("sign", "check_in", departments=(ECOLOGY,))
    await until_due(skipped, case)
    assert case.entries[-1].event == CheckInConfirmed(department=ECOLOGY, by_silence=True)


async def test_a_disputed_check_in_climbs_the_ladder_until_they_come(skipped: Cases) -> None:
    case = await skipped.call(urgency=Urgency.URGENT)
    await case.dispatch(ECOLOGY)
    await case.each("sign", "check_in", departments=(ECOLOGY,))
    await case.do(DisputeCheckIn(by=TOWN_OFFICER, department=ECOLOGY, reason="无人到场"))
    await skipped.environment.sleep(timedelta(hours=2) + A_MOMENT)
    assert rungs(case, ClockKind.CHECK_IN, ECOLOGY) == [1]
    await case.each("check_in", "confirm", departments=(ECOLOGY,))
    await skipped.environment.sleep(timedelta(hours=1))
    assert rungs(case, ClockKind.CHECK_IN, ECOLOGY) == [1]


async def test_an_unrated_case_closes_by_itself_and_says_who_was_not_rated(skipped: Cases) -> None:
    case = await skipped.call()
    await case.dispatch(ECOLOGY, POLICE)
    await case.each("sign", "check_in", "confirm", "action", "done", departments=(ECOLOGY, POLICE))
    await case.each("rate", departments=(POLICE,))
    assert await case.handle.result() == Stage.CLOSED
    assert case.entries[-1].event == Closed(unrated=(ECOLOGY,))


async def test_rework_has_a_handling_clock_of_its_own(skipped: Cases) -> None:
    case = await skipped.call()
    await case.dispatch(ECOLOGY)
    await case.each("sign", "check_in", "confirm", "action", "done", departments=(ECOLOGY,))
    await case.do(Rate(by=TOWN_OFFICER, department=ECOLOGY, grade=Grade.DISSATISFIED, solved=False))
    await skipped.environment.sleep(timedelta(days=20))
    second = [e.event.level for e in case.entries if isinstance(e.event, Escalated) and e.event.round == 2]
    assert second == [1, 2, 3]
    await case.each("action", "done", "rate", departments=(ECOLOGY,))
    assert await case.handle.result() == Stage.CLOSED


async def test_an_act_that_comes_between_the_deadline_and_the_look_at_the_clock_is_late(
    skipped: Cases,
) -> None:
    policy = TERMS.policy.model_copy(update={"wake_spread": timedelta(minutes=5)})
    terms = TERMS.model_copy(update={"policy": policy})
    case = await skipped.call(terms=terms, urgency=Urgency.URGENT)
    await case.dispatch(ECOLOGY)
    due = next(clock.due_at for clock in (await case.state()).running if clock.kind is ClockKind.SIGN)
    await skipped.environment.sleep(due - await skipped.now() + timedelta(milliseconds=20))
    await case.do(Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY))
    assert case.kinds()[-3:] == ["sign_deemed", "escalated", "signed"]
    signed = case.entries[-1].event
    assert isinstance(signed, Signed)
    assert signed.late


async def test_a_month_without_anybody_keeps_few_timers_and_no_cancelled_ones(skipped: Cases) -> None:
    case = await skipped.call()
    await case.dispatch()
    await case.each("sign", "check_in", "confirm")
    await skipped.environment.sleep(timedelta(days=40))
    kinds = await case.history_kinds()
    assert kinds["timer_canceled_event_attributes"] == 0
    assert kinds["timer_started_event_attributes"] <= 2 + len([e for e in case.entries if e.by is None])

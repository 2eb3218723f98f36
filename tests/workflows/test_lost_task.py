"""A worker dies after the ledger has committed and before Temporal has heard of it: what stands is taken on.

What such a task leaves is made here by the rules alone, and put into the ledger before the act is sent (again).
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from activities.record import RecordActivities
from adapters.histories import fetch_runs
from domain import audit, verify
from domain.case import Stage
from domain.commands import AnyCommand, Cancel, Reopen, Sign
from domain.district import Terms
from domain.errors import LedgerConflict
from domain.events import Entry
from domain.lifecycle import decide, fold, overdue
from domain.ports import Receipt, RecordRequest
from starter.replay import replay
from tests.fakes.ledger import FakeLedger
from tests.records import rows
from tests.sample import ECOLOGY, FULL_TERMS, OFFICERS, POLICE, TERMS, TOWN_OFFICER, Play, limit
from tests.workflows.cases import Cases, Running

SIGN = Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY, key="sign-1", body_digest="d")
POLICE_SIGN = Sign(by=OFFICERS[POLICE], department=POLICE, key="sign-2")
CANCEL = Cancel(by=TOWN_OFFICER, reason="已自行解决", key="cancel-1")
STRAIGHT = ("check_in", "confirm", "action", "done", "rate")


def decided(
    case: Running, command: AnyCommand, at: datetime | None = None, terms: Terms = TERMS
) -> list[Entry]:
    """Return what a lost task made of the act a moment ago, or then."""
    last = case.entries[-1]
    at = at or last.at + timedelta(milliseconds=1)
    events = decide(fold(case.entries), command, at, terms)
    return audit.chain(case.case_id, events, after=last, at=at, by=command.by, key=command.key)


async def prove(cases: Cases, case: Running, terms: Terms = TERMS) -> None:
    """See that the ledger is whole, what the workflow has, and what replaying its history derives."""
    audit.check_chain(case.entries)
    state = await case.state()
    assert fold(case.entries) == state
    assert await unrecorded(case) == 0
    replayed = await replay(await fetch_runs(cases.client, f"case/{case.case_id}"))
    derived = verify.derive(replayed)
    assert verify.compare_with_history(rows(case.entries), derived)[0] == []
    assert verify.check_clocks(case.entries, terms) == []


async def conflicts(case: Running) -> bool:
    """Whether operators see that something else stands in the ledger."""
    described = (await case.handle.describe()).raw_description
    return any("ledger_conflict" in pending.last_failure.message for pending in described.pending_activities)


async def unrecorded(case: Running) -> int:
    """Return how many entries the ledger lacks."""
    count: int = await case.ask("unrecorded", int)
    return count


async def until(what: Callable[[], object]) -> None:
    """Ask until it is so."""
    async with asyncio.timeout(30):
        while not await what():  # type: ignore[misc]
            await asyncio.sleep(0.05)


async def dispatched(cases: Cases, terms: Terms = TERMS) -> Running:
    case = await cases.call(terms=terms)
    return await case.dispatch(ECOLOGY, POLICE)


async def test_an_act_that_stands_from_a_lost_task_is_taken_on_and_the_case_goes_on(cases: Cases) -> None:
    case = await dispatched(cases)
    standing = decided(case, SIGN)
    case.entries.extend(standing)
    receipt = await case.do(SIGN, update_id=SIGN.key)
    assert (receipt.hash, receipt.sequence, receipt.recorded) == (standing[-1].hash, 3, True)
    assert case.kinds() == ["called", "dispatched", "signed"]
    again = await case.do(SIGN, update_id="another")
    assert again.hash == receipt.hash
    await prove(cases, case)
    await cases.stop_worker()
    await cases.start_worker()
    await case.each("sign", departments=(POLICE,))
    await case.each(*STRAIGHT, departments=(ECOLOGY, POLICE))
    assert await case.handle.result() == Stage.CLOSED
    await prove(cases, case)


async def test_what_was_decided_beside_it_is_decided_again_after_it(cases: Cases) -> None:
    case = await dispatched(cases)
    standing = decided(case, SIGN)
    await cases.stop_worker()
    acts = [asyncio.create_task(case.do(act, update_id=act.key)) for act in (POLICE_SIGN, SIGN)]
    await asyncio.sleep(0)
    case.entries.extend(standing)
    await cases.start_worker()
    police, ecology = await asyncio.gather(*acts)
    assert (ecology.sequence, ecology.hash) == (3, standing[-1].hash)
    assert (police.sequence, police.recorded) == (4, True)
    assert police.hash == case.entries[-1].hash
    await prove(cases, case)


async def test_an_act_that_what_stands_rules_out_is_refused_with_the_rules_own_words(cases: Cases) -> None:
    case = await dispatched(cases)
    standing = decided(case, CANCEL)
    await cases.stop_worker()
    first = asyncio.create_task(case.do(POLICE_SIGN, update_id=POLICE_SIGN.key))
    await until_admitted(case, first)
    second = asyncio.create_task(case.do(CANCEL, update_id=CANCEL.key))
    await until_admitted(case, second)
    case.entries.extend(standing)
    await cases.start_worker()
    with pytest.raises(WorkflowUpdateFailedError) as failed:
        await first
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.details[0] == "case_over"
    assert (await second).hash == standing[-1].hash
    assert await case.handle.result() == Stage.CANCELLED
    assert case.kinds() == ["called", "dispatched", "cancelled"]
    await prove(cases, case)


async def until_admitted(case: Running, act: "asyncio.Task[Receipt]") -> None:
    """Let the update reach the server: another call on the same connection has come back since."""
    for _ in range(3):
        await case.handle.describe()
    assert not act.done()


def sign_within_seconds() -> Terms:
    limits = TERMS.policy.limits
    soon = limits.model_copy(
        update={"sign": limits.sign.model_copy(update={"routine": limit(minutes=2.5 / 60)})}
    )
    return TERMS.model_copy(update={"policy": TERMS.policy.model_copy(update={"limits": soon})})


async def test_a_limit_that_passes_while_somebody_waits_for_a_worker_to_be_answered_is_kept_all_the_same(
    cases: Cases,
) -> None:
    terms = sign_within_seconds()
    case = await dispatched(cases, terms)
    await cases.stop_worker()
    asked = [asyncio.create_task(case.state()) for _ in range(3)]

    async def rang() -> bool:
        return (await case.history_kinds())["timer_fired_event_attributes"] == 1

    await until(rang)
    assert not any(each.done() for each in asked)
    await cases.start_worker()

    async def escalated() -> bool:
        return "sign_deemed" in case.kinds()

    await until(escalated)
    for each in asked:  # some are not answered: their task is given up
        each.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    assert (await case.history_kinds())["timer_fired_event_attributes"] == 1
    (replayed,) = await replay(await fetch_runs(cases.client, f"case/{case.case_id}"))
    assert replayed.failure == ""


async def test_what_the_clocks_did_in_a_lost_task_is_taken_on(cases: Cases) -> None:
    terms = sign_within_seconds()
    case = await dispatched(cases, terms)
    await cases.stop_worker()
    state = fold(case.entries)
    at = min(clock.due_at for clock in state.running) + timedelta(milliseconds=1)
    events = overdue(state, at, terms)
    assert events
    standing = audit.chain(case.case_id, events, after=case.entries[-1], at=at, by=None)

    async def past() -> bool:
        return datetime.now(UTC) > at

    await until(past)
    case.entries.extend(standing)
    await cases.start_worker()

    async def whole() -> bool:
        return (await case.state()).acted_at >= at and await unrecorded(case) == 0

    await until(whole)
    assert case.entries[: 2 + len(standing)][2:] == standing
    audit.check_chain(case.entries)
    assert fold(case.entries) == await case.state()
    (replayed,) = await replay(await fetch_runs(cases.client, f"case/{case.case_id}"))
    assert verify.compare_with_history(rows(case.entries), verify.derive([replayed]))[0] == []


FORGERIES: dict[str, Callable[[Running], list[Entry]]] = {
    "an act that nobody sent": lambda case: decided(case, SIGN.model_copy(update={"key": "forged"})),
    "an act under the same key by somebody else": lambda case: decided(
        case, CANCEL.model_copy(update={"key": SIGN.key})
    ),
    "the same act, in another department's name": lambda case: decided(
        case, SIGN.model_copy(update={"by": OFFICERS[POLICE], "department": POLICE})
    ),
    "the same act, backdated": lambda case: decided(case, SIGN, case.entries[-1].at - timedelta(seconds=1)),
    "the same act, in time to come": lambda case: decided(
        case, SIGN, case.entries[-1].at + timedelta(hours=1)
    ),
    "the same act, and one more": lambda case: [
        *decided(case, SIGN),
        *audit.chain(
            case.case_id,
            decide(fold([*case.entries, *decided(case, SIGN)]), POLICE_SIGN, case.entries[-1].at, TERMS),
            after=decided(case, SIGN)[-1],
            at=case.entries[-1].at + timedelta(milliseconds=1),
            by=POLICE_SIGN.by,
            key="forged",
        ),
    ],
    "what no clock has done yet": lambda case: audit.chain(
        case.case_id,
        overdue(fold(case.entries), case.entries[-1].at + timedelta(days=9), TERMS),
        after=case.entries[-1],
        at=case.entries[-1].at,
        by=None,
    ),
    "what clocks will do": lambda case: audit.chain(
        case.case_id,
        overdue(fold(case.entries), case.entries[-1].at + timedelta(days=9), TERMS),
        after=case.entries[-1],
        at=case.entries[-1].at + timedelta(days=9),
        by=None,
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_row_that_was_forged_never_enters_the_case_and_shows_as_a_conflict(
    cases: Cases, forgery: str
) -> None:
    case = await dispatched(cases)
    honest = len(case.entries)
    case.entries.extend(FORGERIES[forgery](case))
    held = list(case.entries)
    receipt = await case.do(SIGN, update_id=SIGN.key)
    assert not receipt.recorded
    await until(lambda: conflicts(case))
    await case.do(CANCEL, update_id=CANCEL.key)
    state = await case.state()
    assert (state.stage, await unrecorded(case)) == (Stage.CANCELLED, 2)
    assert case.entries == held
    calls = cases.ledger.calls
    assert calls < 12  # no hot loop: the server spaces out what fails
    replayed = await replay(await fetch_runs(cases.client, f"case/{case.case_id}"))
    findings, _ = verify.compare_with_history(rows(case.entries), verify.derive(replayed))
    assert {finding.code for finding in findings} >= {"differs_from_history"}
    assert {finding.row for finding in findings if finding.code == "differs_from_history"} >= {
        f"第{honest + 1}条"
    }


async def test_what_only_a_later_act_explains_is_taken_on_when_that_comes(cases: Cases) -> None:
    case = await dispatched(cases)
    standing = decided(case, SIGN)
    case.entries.extend(standing)
    police = await case.do(POLICE_SIGN, update_id=POLICE_SIGN.key)
    assert not police.recorded
    await until(lambda: conflicts(case))
    receipt = await case.do(SIGN, update_id=SIGN.key)
    assert (receipt.hash, receipt.recorded) == (standing[-1].hash, True)
    assert [entry.key for entry in case.entries[2:]] == [SIGN.key, POLICE_SIGN.key]
    assert not await conflicts(case)
    await prove(cases, case)
    await case.each(*STRAIGHT, departments=(ECOLOGY, POLICE))
    assert await case.handle.result() == Stage.CLOSED
    await prove(cases, case)


async def test_a_ledger_that_was_away_and_holds_a_lost_act_catches_up_on_top_of_it(cases: Cases) -> None:
    case = await dispatched(cases)
    standing = decided(case, SIGN)
    cases.ledger.away = True
    assert not (await case.do(POLICE_SIGN, update_id=POLICE_SIGN.key)).recorded
    assert not (await case.do(SIGN, update_id=SIGN.key)).recorded
    case.entries.extend(standing)
    cases.ledger.away = False

    async def caught_up() -> bool:
        return await unrecorded(case) == 0

    await until(caught_up)
    assert [entry.key for entry in case.entries[2:]] == [SIGN.key, POLICE_SIGN.key]
    assert case.entries[2] == standing[0]
    again = await case.do(POLICE_SIGN, update_id="another")
    assert again.hash == case.entries[3].hash
    await prove(cases, case)


async def test_an_act_that_was_answered_is_not_taken_back_by_what_stands(cases: Cases) -> None:
    case = await dispatched(cases)
    standing = decided(case, CANCEL)
    cases.ledger.away = True
    await case.do(POLICE_SIGN, update_id=POLICE_SIGN.key)
    await case.do(POLICE_SIGN, update_id="once more")
    case.entries.extend(standing)
    cases.ledger.away = False
    await until(lambda: conflicts(case))
    receipt = await case.do(CANCEL, update_id=CANCEL.key)
    assert not receipt.recorded
    assert [entry.key for entry in case.entries[2:]] == [CANCEL.key]
    assert await unrecorded(case) == 2


async def test_a_case_that_closed_and_was_reopened_while_the_ledger_was_away_goes_on(cases: Cases) -> None:
    limits = TERMS.policy.limits.model_copy(update={"reopen": FULL_TERMS.policy.limits.reopen})
    terms = TERMS.model_copy(update={"policy": TERMS.policy.model_copy(update={"limits": limits})})
    case = await cases.call(terms=terms)
    await case.dispatch(ECOLOGY)
    await case.each("sign", *STRAIGHT[:-1], departments=(ECOLOGY,))
    cases.ledger.away = True
    await case.each("rate", departments=(ECOLOGY,))
    await case.do(Reopen(by=TOWN_OFFICER, reason="违建复建", key="again"))
    cases.ledger.away = False

    async def caught_up() -> bool:
        return await unrecorded(case) == 0

    await until(caught_up)
    await case.each(*STRAIGHT[2:], departments=(ECOLOGY,))
    assert await case.handle.result() == Stage.CLOSED
    assert case.kinds().count("closed") == 2
    await prove(cases, case, terms)


async def test_a_case_under_older_code_that_does_not_ask_what_stands_is_told_of_a_conflict() -> None:
    ledger, play, other = FakeLedger(), Play().dispatch(), Play().dispatch(POLICE)
    activities = RecordActivities(ledger)
    await activities.record(RecordRequest(entries=tuple(play.entries)))
    asked = RecordRequest(entries=tuple(other.entries), disowned="")
    standing = (await activities.record(asked)).standing
    assert standing == tuple(play.entries[1:])
    for disowned in (None, standing[-1].hash):
        with pytest.raises(LedgerConflict, match="ledger_conflict"):
            await activities.record(asked.model_copy(update={"disowned": disowned}))

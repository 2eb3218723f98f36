"""The life of one case on a real Temporal server."""

import re
from datetime import timedelta

import pytest
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from domain import audit
from domain.case import Stage
from domain.commands import Cancel, Dispatch, Refuse, Sign
from domain.lifecycle import fold
from tests.sample import DISPATCHER, ECOLOGY, HEADS, MARKET, OFFICERS, POLICE, TOWN_OFFICER
from tests.workflows.cases import Cases
from workflows import names

STRAIGHT = ("sign", "check_in", "confirm", "action", "done", "rate")


async def test_a_call_goes_through_to_closure_and_the_ledger_holds_every_event_once(cases: Cases) -> None:
    case = await cases.call()
    await (await case.dispatch()).each(*STRAIGHT)
    assert await case.handle.result() == Stage.CLOSED
    assert [entry.sequence for entry in case.entries] == list(range(1, len(case.entries) + 1))
    audit.check_chain(case.entries)
    assert fold(case.entries) == await case.state()


async def test_the_three_department_straight_path_costs_at_most_eight_events_an_act(cases: Cases) -> None:
    case = await cases.call()
    await (await case.dispatch()).each(*STRAIGHT)
    await case.handle.result()
    kinds = await case.history_kinds()
    acts = kinds["workflow_execution_update_completed_event_attributes"] + 1
    assert acts == 1 + 1 + 3 * len(STRAIGHT)
    assert kinds.total() / acts <= 8, kinds
    description = await case.handle.describe()
    assert description.raw_description.workflow_execution_info.history_size_bytes < 100_000


async def test_a_refused_act_leaves_nothing_in_the_history(cases: Cases) -> None:
    case = await cases.call()
    await case.dispatch()
    before = await case.history_kinds()
    assert await case.refusal(Dispatch(by=DISPATCHER, lead=ECOLOGY)) == "wrong_stage"
    assert await case.refusal(Sign(by=OFFICERS[POLICE], department=ECOLOGY)) == "not_your_department"
    assert await case.refusal(Cancel(by=DISPATCHER, reason="x")) == "role_may_not"
    after = await case.history_kinds()
    assert after == before


async def test_a_second_signature_is_refused_and_the_first_stays(cases: Cases) -> None:
    case = await cases.call()
    await case.dispatch()
    await case.do(Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY))
    assert await case.refusal(Sign(by=HEADS[ECOLOGY], department=ECOLOGY)) == "already_signed"
    assert case.kinds().count("signed") == 1


async def test_the_same_request_again_has_no_second_effect_and_the_same_answer(cases: Cases) -> None:
    case = await cases.call()
    await case.dispatch()
    sign = Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY, key="k1", body_digest="d1")
    first = await case.do(sign, update_id="k1")
    assert await case.do(sign, update_id="k1") == first
    again_under_another_update_id = await case.do(sign, update_id="k2")
    assert again_under_another_update_id.sequence == first.sequence
    assert case.kinds().count("signed") == 1


async def test_acts_go_on_while_the_ledger_is_away_and_it_catches_up_in_order(cases: Cases) -> None:
    case = await cases.call()
    await case.dispatch()
    cases.ledger.away = True
    first = await case.do(Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY))
    second = await case.do(Sign(by=OFFICERS[POLICE], department=POLICE))
    assert (first.recorded, second.recorded) == (False, False)
    assert case.kinds() == ["called", "dispatched"]
    cases.ledger.away = False
    await case.each("sign", departments=(MARKET,))
    await case.each(*STRAIGHT[1:])
    assert await case.handle.result() == Stage.CLOSED
    audit.check_chain(case.entries)
    assert fold(case.entries).stage is Stage.CLOSED


async def test_a_case_does_not_end_before_the_ledger_holds_it_whole(cases: Cases) -> None:
    case = await cases.call()
    await case.dispatch()
    cases.ledger.away = True
    await case.do(Cancel(by=TOWN_OFFICER, reason="已自行解决"))
    description = await case.handle.describe()
    assert description.status is WorkflowExecutionStatus.RUNNING
    cases.ledger.away = False
    assert await case.handle.result() == Stage.CANCELLED
    assert case.kinds()[-1] == "cancelled"


async def test_a_late_act_never_opens_a_new_run(cases: Cases) -> None:
    case = await cases.call()
    await case.do(Refuse(by=DISPATCHER, reason="镇街自办事项"))
    assert await case.handle.result() == Stage.REFUSED
    before = await case.handle.describe()
    with pytest.raises(RPCError) as late:
        await case.dispatch()
    assert late.value.status is RPCStatusCode.NOT_FOUND
    after = await case.handle.describe()
    assert (after.run_id, after.status) == (before.run_id, WorkflowExecutionStatus.COMPLETED)


async def test_a_worker_that_starts_afresh_replays_the_case_and_goes_on(cases: Cases) -> None:
    case = await cases.call()
    await case.dispatch()
    for step in STRAIGHT:
        await cases.stop_worker()
        await cases.start_worker()
        await case.each(step)
    assert await case.handle.result() == Stage.CLOSED
    audit.check_chain(case.entries)


async def test_operators_find_the_case_by_its_search_attributes(cases: Cases) -> None:
    case = await cases.call()
    await case.dispatch()
    await case.each("sign")
    found = (await case.handle.describe()).typed_search_attributes
    assert found[names.DISTRICT] == "sample"
    assert found[names.TOWNSHIP] == "town"
    assert found[names.STAGE] == "signed"
    assert found[names.CASE_LABEL] == "示例镇·执法类事项·待报到"
    assert found[names.LEAD_DEPARTMENT] == ECOLOGY
    assert list(found[names.DEPARTMENTS]) == [ECOLOGY, POLICE, MARKET]
    assert found[names.OVERDUE] is False
    assert found[names.ESCALATION_LEVEL] == 0
    assert found[names.NEXT_DEADLINE] == min(clock.due_at for clock in (await case.state()).running)
    await case.do(Cancel(by=TOWN_OFFICER, reason="已自行解决"))
    await case.handle.result()
    found = (await case.handle.describe()).typed_search_attributes
    assert found[names.STAGE] == "cancelled"
    assert found.get(names.NEXT_DEADLINE) is None


async def test_operators_find_the_cases_that_a_department_has_still_to_sign_itself(cases: Cases) -> None:
    case = await cases.call()

    async def awaited() -> list[str]:
        found = (await case.handle.describe()).typed_search_attributes
        return list(found.get(names.AWAITING_SIGN) or ())

    assert await awaited() == []
    await case.dispatch()
    assert await awaited() == [ECOLOGY, POLICE, MARKET]
    await case.each("sign", departments=(POLICE,))
    assert await awaited() == [ECOLOGY, MARKET]
    await case.each("sign", departments=(MARKET, ECOLOGY))
    assert await awaited() == []


async def test_a_run_that_began_before_who_has_to_sign_was_shown_goes_on_without(cases: Cases) -> None:
    case = await cases.call(shows_awaiting_sign=False)
    await case.dispatch()
    await case.each("sign", departments=(POLICE,))
    found = (await case.handle.describe()).typed_search_attributes
    assert found[names.STAGE] == "dispatched"
    assert found.get(names.AWAITING_SIGN) is None


async def test_operators_read_the_case_in_chinese(cases: Cases) -> None:
    case = await cases.call()
    await case.dispatch()
    await case.each("sign", departments=(ECOLOGY,))
    metadata = await case.handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    page = metadata.current_details
    for expected in (
        "## 待签收",
        "生态环境分局",
        "牵头",
        "待报到",
        "绿(正常)",
        "最近动态",
        "生态环境分局签收",
    ):
        assert expected in page
    assert "19900000001" not in page
    history = await case.handle.fetch_history()
    summaries = [
        event.user_metadata.summary.data.decode()
        for event in history.events
        if event.HasField("user_metadata")
    ]
    assert any(re.match('"设定时的下一时限:.+(派单|签收).* 截止 .+', summary) for summary in summaries)
    assert any("台账3:生态环境分局签收" in summary for summary in summaries)


async def test_a_long_case_goes_on_in_a_new_run_with_its_clocks_its_chain_and_its_answers() -> None:
    from temporalio.contrib.pydantic import pydantic_data_converter

    from tests.conftest import BIN

    async with (
        await WorkflowEnvironment.start_local(
            data_converter=pydantic_data_converter,
            dev_server_existing_path=str(BIN / "temporal"),
            dev_server_log_level="error",
            dev_server_extra_args=["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=30"],
            search_attributes=names.SEARCH_ATTRIBUTES,
        ) as environment,
        Cases(environment) as cases,
    ):
        case = await cases.call()
        await case.dispatch()
        sign = Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY, key="k1")
        first = await case.do(sign, update_id="k1")
        await case.each("sign", departments=(POLICE, MARKET))
        await case.each("check_in", "confirm")
        again = await case.do(sign, update_id="k1")
        assert again.sequence == first.sequence
        await case.each("action", "done", "rate")
        assert await case.handle.result() == Stage.CLOSED
        assert case.kinds().count("signed") == 3
        audit.check_chain(case.entries)
        runs = [run async for run in environment.client.list_workflows(f"WorkflowId = 'case/{case.case_id}'")]
        assert len(runs) > 2
        assert fold(case.entries).called_at < fold(case.entries).acted_at + timedelta(0)

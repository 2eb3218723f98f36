"""What does not get on is told with its cause, and with what brings it back: that command is done, and it does."""

import asyncio
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio import workflow
from temporalio.api.deployment.v1 import WorkerDeploymentOptions
from temporalio.api.deployment.v1 import WorkerDeploymentVersion as Version
from temporalio.api.enums.v1 import WorkerVersioningMode
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueueVersioningInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueResponse
from temporalio.client import WorkflowFailureError
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion, WorkflowIDReusePolicy
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker, WorkerDeploymentConfig

from adapters.codec import PayloadUnreadable, missing_key
from adapters.histories import fetch_runs
from adapters.store import Store
from domain.case import CaseId
from domain.lifecycle import fold
from starter.replay import replay
from starter.routing import judged
from starter.versions import make_current
from tests.conftest import BIN
from tests.payloads import encrypted, fresh_key, key_id, used_for
from tests.sample import FULL_POLICY, district
from tests.starter.conftest import House, open_house
from tests.starter.test_ops import OPERATOR, broken_worker, kinds
from worker import create_worker
from workflows import names

Found = dict[str, Any]


async def told(house: House, case_id: str | None = None) -> list[Found]:
    """Return what `shaodao ops stuck` lists."""
    query = {"case_id": case_id} if case_id else {}
    items: list[Found] = (await house.get(OPERATOR, "/ops/stuck", **query)).json()["items"]
    return items


async def told_of(house: House, kind: str, case_id: str, *, listed: bool) -> Found:
    """Wait until this stands in the list, or in the answer about the case."""

    async def found() -> list[Found]:
        items = await told(house, None if listed else case_id)
        return [each for each in items if (each["kind"], each["case_id"]) == (kind, case_id)]

    (one,) = await house.until(found)
    return dict(one)


async def let_go_on(house: House, case_id: str, advice: str) -> None:
    """Do what the advice says, and see the case go on to its next act."""
    assert f"shaodao ops reset {case_id} --from-ledger --reason" in advice
    body = {"case_id": case_id, "from_ledger": True, "reason": "按提示恢复"}
    assert (await house.post(OPERATOR, "/ops/reset", body)).json()["mode"] == "ledger"
    await house.do("ecology-officer", case_id, "sign")
    assert await kinds(house.store, case_id) == ["called", "dispatched", "signed"]
    assert await told(house, case_id) == []


# --- a run that is gone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [True, False])
async def test_an_open_case_whose_run_was_terminated_is_told_with_who_did_it_and_the_advice_brings_it_back(
    house: House, *, listed: bool
) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    handle = house.doors.cases.client.get_workflow_handle(f"case/{case_id}")
    await handle.terminate(reason="误操作")
    found = await told_of(house, "run_gone", case_id, listed=listed)
    assert "已被终止" in found["cause"]
    assert "误操作" in found["error"]
    await let_go_on(house, case_id, found["advice"])

    async def listed_no_more() -> bool:
        return all(each["case_id"] != case_id for each in await told(house))

    await house.until(listed_no_more)


@workflow.defn(name=names.CASE, sandboxed=False)
class Broken:
    """A version of the workflow that fails a case at once."""

    @workflow.run
    async def run(self, start: dict[str, Any]) -> None:
        del start
        raise ApplicationError("演练:流程出错", non_retryable=True)


async def ended_otherwise(house: House, case_id: str, *, within: timedelta) -> None:
    """Put a run in the place of the case's own that fails, or that nobody takes up before its time is over."""
    client, queue = house.doors.cases.client, house.doors.cases.task_queue
    await client.get_workflow_handle(f"case/{case_id}").terminate()
    await house.stop_worker()
    run = await client.start_workflow(
        names.CASE,
        await house.store.start_of(CaseId(case_id)),
        id=f"case/{case_id}",
        task_queue=queue,
        id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
        execution_timeout=within,
    )
    if within > timedelta(seconds=1):
        async with Worker(client, task_queue=queue, workflows=[Broken]):
            with pytest.raises(WorkflowFailureError):
                await run.result()
    else:
        with pytest.raises(WorkflowFailureError):
            await run.result()
    await house.start_worker()


async def test_an_open_case_whose_run_failed_is_told_with_what_failed_and_the_advice_brings_it_back(
    house: House,
) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    await ended_otherwise(house, case_id, within=timedelta(minutes=5))
    found = await told_of(house, "run_gone", case_id, listed=True)
    assert "已失败" in found["cause"]
    assert "演练:流程出错" in found["error"]
    await let_go_on(house, case_id, found["advice"])


async def test_an_open_case_whose_run_timed_out_is_told_and_the_advice_brings_it_back(house: House) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    await ended_otherwise(house, case_id, within=timedelta(seconds=1))
    found = await told_of(house, "run_gone", case_id, listed=True)
    assert "已超时" in found["cause"]
    await let_go_on(house, case_id, found["advice"])


async def test_a_closed_case_of_which_something_still_runs_is_brought_back_as_well(
    real_server: WorkflowEnvironment, sqlite_store: Store
) -> None:
    full = district(policy=FULL_POLICY)
    async with open_house(real_server, sqlite_store, district=full) as house:
        await _brought_back_while_a_follow_up_runs(house)


async def _brought_back_while_a_follow_up_runs(house: House) -> None:
    case_id = CaseId(await house.call())
    await house.do("town-approver", case_id, "release")
    await house.dispatch(case_id, "ecology")
    about, officer = {"department": "ecology"}, "ecology-officer"
    await house.do(officer, case_id, "sign")
    await house.do(officer, case_id, "check-in", officers=[{"name": "王示例"}])
    await house.do("town-officer", case_id, "confirm-check-in", **about)
    later = f"{datetime.now(UTC) + timedelta(days=30):%Y-%m-%d}"
    act = {"kind": "demolition_notice", "description": "限期拆除", "result": "已送达", "follow_up_on": later}
    await house.do(officer, case_id, "action", **act)
    await house.do(officer, case_id, "done", result="完成")
    await house.rate(case_id, "ecology")
    assert fold(await house.store.entries(case_id)).is_over
    await house.doors.cases.client.get_workflow_handle(f"case/{case_id}").terminate()
    await told_of(house, "run_gone", case_id, listed=True)
    body: dict[str, Any] = {"case_id": case_id, "from_ledger": True, "reason": "恢复"}
    assert (await house.post(OPERATOR, "/ops/reset", body)).json()["mode"] == "ledger"
    assert await told(house, case_id) == []


# --- workflow tasks that fail ------------------------------------------------------------------------------


async def test_the_list_names_a_case_whose_workflow_tasks_fail_although_nobody_asked_about_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    async with broken_worker(house, monkeypatch):
        await house.doors.cases.client.get_workflow_handle(f"case/{case_id}").signal("wake")
        found = await told_of(house, "workflow_task", case_id, listed=True)
        assert "Nondeterminism" in found["error"]
        assert "回退部署" in found["advice"]
        monkeypatch.setattr("starter.operations._MOST_LOOKED_AT", 0)
        found = await told_of(house, "workflow_task", case_id, listed=True)
        assert found["error"] == "NonDeterministicError"


@workflow.defn(name=names.RECONCILE, sandboxed=False)
class BrokenReconcile:
    """A version of the comparison whose workflow tasks fail."""

    @workflow.run
    async def run(self, request: dict[str, Any]) -> None:
        del request
        raise ValueError("演练")


async def test_a_workflow_that_keeps_the_house_in_order_is_told_when_its_tasks_fail(house: House) -> None:
    client, queue = house.doors.cases.client, house.doors.cases.task_queue
    await house.stop_worker()
    workflow_id = f"reconcile-{uuid.uuid4()}"
    run = await client.start_workflow(names.RECONCILE, {}, id=workflow_id, task_queue=queue)
    async with Worker(client, task_queue=queue, workflows=[BrokenReconcile]):

        async def found() -> list[Found]:
            return [each for each in await told(house) if workflow_id in each["cause"]]

        (one,) = await house.until(found)
        assert (one["kind"], one["case_id"], one["error"]) == ("workflow_task", "", "演练")
        assert "工作进程日志" in one["advice"]
    await run.terminate()


# --- a key that is missing ---------------------------------------------------------------------------------


async def test_a_key_that_the_workers_lack_is_named_with_the_setting_that_takes_it_and_the_case_goes_on(
    real_server: WorkflowEnvironment, sqlite_store: Store
) -> None:
    first, second = fresh_key(), fresh_key()
    async with open_house(await encrypted(real_server, first), sqlite_store) as house:
        case_id = await house.call()
        await house.dispatch(case_id, "ecology")
        await house.stop_worker()
        await with_keys(house, real_server, second)
        await house.doors.cases.client.get_workflow_handle(f"case/{case_id}").signal("wake")
        for api_keys, listed in (((second, used_for(first, "old")), False), ((second,), True)):
            house.doors.cases.client = (await encrypted(real_server, *api_keys)).client
            found = await told_of(house, "payload_key_missing", case_id, listed=listed)
            assert found["cause"] == f"工作进程缺少载荷密钥 {key_id(first)}"
            for words in ("SHAODAO_PAYLOAD_KEYS_FILE", "SHAODAO_PAYLOAD_KEYS,", "用途 old", key_id(first)):
                assert words in found["advice"]
        house.doors.cases.client = (await encrypted(real_server, first)).client
        found = await told_of(house, "payload_key_missing", case_id, listed=False)
        assert f"由密钥 {key_id(second)} 加密,接口进程没有该密钥" in found["cause"]
        await house.stop_worker()
        await with_keys(house, real_server, second, used_for(first, "old"))
        house.doors.cases.client = (await encrypted(real_server, second, used_for(first, "old"))).client
        assert (await house.post("ecology-officer", f"/cases/{case_id}/sign", {})).status_code in {200, 202}

        async def signed() -> bool:
            return await kinds(house.store, case_id) == ["called", "dispatched", "signed"]

        await house.until(signed)


async def test_a_key_that_every_open_case_needs_is_told_as_lacking_while_the_cases_are_still_quiet(
    real_server: WorkflowEnvironment, sqlite_store: Store
) -> None:
    first, second = fresh_key(), fresh_key()
    async with open_house(await encrypted(real_server, first), sqlite_store) as house:
        case_id = await house.call()
        await house.dispatch(case_id, "ecology")
        await house.stop_worker()
        await with_keys(house, real_server, second)
        house.doors.cases.client = (await encrypted(real_server, second)).client
        (listed,) = [each for each in await told(house) if each["kind"] == "payload_key_missing"]
        assert listed["cause"] == f"接口进程缺少载荷密钥 {key_id(first)}(在办案件所用,例如 {case_id})"
        assert "用途 old" in listed["advice"]
        (asked,) = await told(house, case_id)
        assert (asked["kind"], asked["case_id"]) == ("payload_key_missing", case_id)
        house.doors.cases.client = (await encrypted(real_server, second, used_for(first, "old"))).client
        (of_worker,) = [each for each in await told(house) if each["kind"] == "payload_key_missing"]
        assert of_worker["cause"] == f"工作进程缺少载荷密钥 {key_id(first)}(在办案件所用,例如 {case_id})"
        await house.stop_worker()
        await with_keys(house, real_server, second, used_for(first, "old"))
        assert all(each["kind"] != "payload_key_missing" for each in await told(house))
        assert await told(house, case_id) == []


async def test_a_failure_that_a_lost_key_sealed_keeps_no_history_from_being_replayed(
    real_server: WorkflowEnvironment, sqlite_store: Store
) -> None:
    kept, lost = fresh_key(), fresh_key()
    async with open_house(await encrypted(real_server, kept), sqlite_store) as house:
        case_id = await house.call()
        await house.dispatch(case_id, "ecology")
        await house.stop_worker()
        await with_keys(house, real_server, lost)
        await house.doors.cases.client.get_workflow_handle(f"case/{case_id}").signal("wake")
        await told_of(house, "payload_key_missing", case_id, listed=False)
        await house.stop_worker()
        await with_keys(house, real_server, kept)
        assert (await house.post("ecology-officer", f"/cases/{case_id}/sign", {})).status_code in {200, 202}

        async def signed() -> bool:
            return await kinds(house.store, case_id) == ["called", "dispatched", "signed"]

        await house.until(signed)
        runs = await fetch_runs(house.doors.cases.client, f"case/{case_id}")
        for by_sdk in (False, True):
            (run,) = await replay(runs, by_sdk=by_sdk)
            assert run.failure == ""
            assert [entry.event.kind for entry in run.entries] == ["called", "dispatched", "signed"]
        with pytest.raises(PayloadUnreadable):  # what a replay needs has to be readable
            await fetch_runs((await encrypted(real_server, lost)).client, f"case/{case_id}")


async def with_keys(house: House, server: WorkflowEnvironment, *lines: str) -> None:
    """Start a worker that has these keys."""
    client, queue = (await encrypted(server, *lines)).client, house.doors.cases.task_queue
    house._worker_of = lambda: create_worker(client, house.store, house.store, task_queue=queue)
    await house.start_worker()


# --- tasks that reach nobody -------------------------------------------------------------------------------


class Versions:
    """Workers of several versions, or of none, one after the other on one queue."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.name = f"shaodao-{uuid.uuid4().hex[:8]}"

    async def replace(self, build: str | None) -> None:
        """Put workers of this version in the place of those that run."""
        house = self.house
        client, queue = house.doors.cases.client, house.doors.cases.task_queue
        config = build and WorkerDeploymentConfig(
            WorkerDeploymentVersion(self.name, build), True, VersioningBehavior.AUTO_UPGRADE
        )
        self.running = build
        await house.stop_worker()
        house._worker_of = lambda: create_worker(
            client, house.store, house.store, task_queue=queue, deployment=config or None
        )
        await house.start_worker()

    async def make_current(self, build: str) -> None:
        """Let new tasks go to this version."""
        await make_current(self.house.doors.cases.client, WorkerDeploymentVersion(self.name, build))

    async def idle(self, cause: str) -> Found:
        """Wait until the list says so; meanwhile workers come anew, for Temporal forgets those before them slowly."""

        async def found() -> list[Found]:
            await self.replace(self.running)
            items = await told(self.house)
            return [each for each in items if each["kind"] == "workers_idle" and cause in each["cause"]]

        (one,) = await self.house.until(found)
        return dict(one)

    async def none_is_idle(self) -> bool:
        """Whether tasks reach somebody, as far as the list knows."""
        await self.replace(self.running)
        return all(each["kind"] != "workers_idle" for each in await told(self.house))

    async def done(self, advice: str) -> None:
        """Run the command that the advice names, as it stands there."""
        command = advice[advice.index("temporal worker") :].rstrip("。").split()
        address = self.house.doors.cases.client.service_client.config.target_host
        done = await asyncio.to_thread(
            subprocess.run,
            [str(BIN / "temporal"), *command[1:], "--address", address, "--yes"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that was ended counts as gone after seconds, instead of after more than a minute."""
    monkeypatch.setattr("starter.routing._FRESH", timedelta(seconds=3))


@pytest.mark.usefixtures("forgets")
async def test_workers_without_versioning_are_told_as_idle_while_a_version_is_current(house: House) -> None:
    versions = Versions(house)
    await versions.replace("v1")
    await versions.make_current("v1")
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    assert await versions.none_is_idle()
    await versions.replace(None)
    found = await versions.idle("未启用版本管理")
    assert f"只派给版本 {versions.name}.v1" in found["cause"]
    assert "SHAODAO_WORKER_VERSIONING=on" in found["advice"]
    await versions.done(found["advice"])
    await house.until(versions.none_is_idle)
    await house.do("ecology-officer", case_id, "sign")


@pytest.mark.usefixtures("forgets")
async def test_workers_of_another_version_are_told_as_idle_until_theirs_is_current(house: House) -> None:
    versions = Versions(house)
    await versions.replace("v1")
    found = await versions.idle("尚未指定当前版本")
    await house.until(lambda: _registered(versions, found["advice"]))
    await house.until(versions.none_is_idle)
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    await versions.replace("v2")
    found = await versions.idle(f"在线的工作进程是 {versions.name}.v2")
    assert f"只派给版本 {versions.name}.v1" in found["cause"]
    await versions.done(found["advice"])
    await house.until(versions.none_is_idle)
    await house.do("ecology-officer", case_id, "sign")


async def _registered(versions: Versions, advice: str) -> bool:
    """Whether the command worked: a version may be made current as soon as Temporal has noticed its first worker."""
    try:
        await versions.done(advice)
    except AssertionError:
        return False
    return True


NOW = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


def asking(build: str = "", *, ago: timedelta = timedelta(0)) -> PollerInfo:
    """Return a worker of a version, or without one, that asked for tasks so long ago."""
    at = Timestamp()
    at.FromDatetime(NOW - ago)
    mode = (
        WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED
        if build
        else WorkerVersioningMode.WORKER_VERSIONING_MODE_UNVERSIONED
    )
    options = WorkerDeploymentOptions(deployment_name="d", build_id=build, worker_versioning_mode=mode)
    return PollerInfo(identity=f"1@{build}", last_access_time=at, deployment_options=options)


def handed_out(
    *pollers: PollerInfo, current: str = "", ramping: str = "", share: float = 0
) -> DescribeTaskQueueResponse:
    """Return what Temporal would say of a queue."""
    info = TaskQueueVersioningInfo(
        current_deployment_version=Version(deployment_name="d", build_id=current) if current else None,
        ramping_deployment_version=Version(deployment_name="d", build_id=ramping) if ramping else None,
        ramping_version_percentage=share,
    )
    return DescribeTaskQueueResponse(pollers=pollers, versioning_info=info)


def test_a_worker_that_asked_minutes_ago_is_gone() -> None:
    fresh, stale = asking(), asking(ago=timedelta(minutes=2))
    assert judged(handed_out(fresh), "流程任务", NOW).workers == ("1@",)
    assert judged(handed_out(stale), "流程任务", NOW).cause == "没有工作进程领取流程任务"
    assert judged(handed_out(asking("v1", ago=timedelta(minutes=2)), fresh, current="v1"), "", NOW).cause


def test_a_share_of_the_tasks_that_goes_to_a_version_without_workers_is_told() -> None:
    answer = handed_out(asking("v1"), current="v1", ramping="v2", share=5)
    assert "5% 的流程任务派给版本 d.v2" in judged(answer, "流程任务", NOW).cause
    both = handed_out(asking("v1"), asking("v2"), current="v1", ramping="v2", share=5)
    assert judged(both, "流程任务", NOW).cause == ""
    leaving = handed_out(asking("v1"), current="v1", share=5)
    assert "未启用版本管理" in judged(leaving, "流程任务", NOW).cause


def test_a_key_is_read_from_the_words_of_a_failure_and_from_nothing_else() -> None:
    said = "payload_key_missing: 缺少编号为“k1”的载荷密钥;请把该密钥加入"
    assert missing_key(said) == missing_key(f"PayloadUnreadable: {said}") == "k1"
    assert missing_key("Nondeterminism error") is None

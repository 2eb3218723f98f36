"""Whether tasks reach a worker: what Temporal hands out to which version, against who asks for tasks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.api.deployment.v1 import WorkerDeploymentVersion
from temporalio.api.enums.v1 import TaskQueueType, WorkerVersioningMode
from temporalio.api.taskqueue.v1 import PollerInfo, TaskQueue, TaskQueueVersioningInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeTaskQueueResponse
from temporalio.client import Client

from starter.versions import DEPLOYMENT

_RPC = timedelta(seconds=10)
_FRESH = timedelta(seconds=75)
"""A worker asks again after at most a minute; Temporal remembers those that are gone for five."""
_SET_CURRENT = "temporal worker deployment set-current-version --deployment-name"
_QUEUES = (
    (TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW, "流程任务"),
    (TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY, "活动任务"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """How tasks are handed out now.

    Attributes:
        cause: why tasks reach nobody, in Chinese; empty when they reach a worker.
        advice: what brings them back.
        version: `deployment.build` that gets the tasks; empty when workers without versioning do.
        workers: that take tasks, by their own names (`pid@host`).
    """

    cause: str = ""
    advice: str = ""
    version: str = ""
    workers: tuple[str, ...] = ()


async def routing(client: Client, queue: str) -> Routing:
    """Return where the tasks of a queue go; what is wrong with either kind of task comes first.

    Raises:
        RPCError, RuntimeError: Temporal is away.
    """
    found = []
    for kind, label in _QUEUES:
        request = DescribeTaskQueueRequest(
            namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
        )
        answer = await client.workflow_service.describe_task_queue(request, timeout=_RPC)
        found.append(judged(answer, label, datetime.now(UTC)))
    return next((each for each in found if each.cause), found[0])


def judged(answer: DescribeTaskQueueResponse, tasks: str, now: datetime) -> Routing:
    """Judge what Temporal says of a queue.

    Args:
        tasks: what the queue hands out, in Chinese.
    """
    asking = [each for each in answer.pollers if now - each.last_access_time.ToDatetime(UTC) < _FRESH]
    if not asking:
        return Routing(
            cause=f"没有工作进程领取{tasks}",
            advice="启动 shaodao worker;已启动的,查看其日志能否连上 Temporal。",
        )
    info = answer.versioning_info
    current = info.current_deployment_version
    taking = [each for each in asking if _gets(each, current)]
    if not taking:
        return _misdirected(current, asking, tasks)
    if info.ramping_version_percentage and not any(
        _gets(each, info.ramping_deployment_version) for each in asking
    ):
        return _ramped_to_nobody(info, tasks)
    return Routing(version=_named(current), workers=tuple(sorted({each.identity for each in taking})))


def _gets(poller: PollerInfo, version: WorkerDeploymentVersion) -> bool:
    """Whether tasks of this version go to the poller; no version stands for workers without versioning."""
    if not version.build_id:
        return not _is_versioned(poller)
    return _is_versioned(poller) and _version_of(poller) == (version.deployment_name, version.build_id)


def _is_versioned(poller: PollerInfo) -> bool:
    mode = poller.deployment_options.worker_versioning_mode
    return mode == WorkerVersioningMode.WORKER_VERSIONING_MODE_VERSIONED


def _version_of(poller: PollerInfo) -> tuple[str, str]:
    return poller.deployment_options.deployment_name, poller.deployment_options.build_id


def _misdirected(current: WorkerDeploymentVersion, asking: Sequence[PollerInfo], tasks: str) -> Routing:
    online = sorted({_version_of(each) for each in asking if _is_versioned(each)})
    named = "、".join(f"{deployment}.{build}" for deployment, build in online)
    goes_to = (
        f"{tasks}只派给版本 {_named(current)}" if current.build_id else f"尚未指定当前版本,{tasks}无人可派"
    )
    if online:
        deployment, build = online[-1]
        return Routing(
            cause=f"{goes_to},而在线的工作进程是 {named}:任务无人领取",
            advice=f"启动当前版本的工作进程;要改用在线的版本,执行 {_SET_CURRENT} {deployment} --build-id {build}。"
            if current.build_id
            else f"执行 {_SET_CURRENT} {deployment} --build-id {build}。",
            version=_named(current),
        )
    return Routing(
        cause=f"{goes_to},而在线的工作进程未启用版本管理:任务无人领取",
        advice=(
            "以 SHAODAO_WORKER_VERSIONING=on 启动该版本的工作进程;"
            f"要停用版本管理,执行 {_SET_CURRENT} {current.deployment_name} --unversioned。"
        ),
        version=_named(current),
    )


def _ramped_to_nobody(info: TaskQueueVersioningInfo, tasks: str) -> Routing:
    ramping = info.ramping_deployment_version
    deployment = ramping.deployment_name or info.current_deployment_version.deployment_name or DEPLOYMENT
    share = f"{info.ramping_version_percentage:.0f}%"
    return Routing(
        cause=f"{share} 的{tasks}派给版本 {_named(ramping) or '(未启用版本管理)'},而没有这样的工作进程在线",
        advice=(
            "启动该版本的工作进程,或执行 temporal worker deployment set-ramping-version "
            f"--deployment-name {deployment} --build-id {ramping.build_id or '版本'} --percentage 0。"
        ),
        version=_named(info.current_deployment_version),
    )


def _named(version: WorkerDeploymentVersion) -> str:
    return f"{version.deployment_name}.{version.build_id}" if version.build_id else ""

"""What `shaodao doctor` finds in Temporal: whether tasks reach workers, schedules run, and keys are all here."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from temporalio.client import Client, ScheduleActionExecutionStartWorkflow, ScheduleDescription
from temporalio.client import WorkflowExecutionStatus as Status
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError, RPCStatusCode

from adapters.keys import keys_of
from adapters.settings import Settings, SettingsInvalid
from adapters.store import Store
from adapters.temporal import LOCAL, connect, registered_search_attributes
from domain.words import local
from starter.case_client import CaseClient
from starter.executions import TemporalExecutions
from starter.keys_in_use import keys_in_use, sample
from starter.routing import routing
from starter.schedules import SCHEDULES
from workflows import names

_PATIENCE = 5.0
_RPC = timedelta(seconds=5)
_OVERDUE = timedelta(minutes=5)
_LONGEST = timedelta(hours=2)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        ok: None: it could not be looked at.
        detail: what was found, or what to do.
    """

    subject: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class TemporalFound:
    """What Temporal says.

    Attributes:
        retention: how long it keeps closed runs; None when it could not be asked.
    """

    findings: list[Finding]
    retention: timedelta | None = None


async def examine_temporal(settings: Settings, store: Store | None) -> TemporalFound:
    """Look at everything in Temporal; with the store also at what concerns its districts and open cases."""
    try:
        async with asyncio.timeout(_PATIENCE):
            client = await connect(lazy=False, converter=pydantic_data_converter)  # reads no payload
            await client.service_client.check_health()
    except (RPCError, RuntimeError, TimeoutError):
        return TemporalFound([_away(), *_unseen()])
    try:
        present = await registered_search_attributes(client)
        retention = await TemporalExecutions(CaseClient(client, within=_PATIENCE)).retention()
        findings = [
            Finding("Temporal", ok=True, detail=f"{_address()} 的命名空间 {client.namespace} 可用。"),
            _search_attributes(present),
            await _workers(client),
        ]
        districts = sorted(await store.district_codes()) if store else []
        findings += await _schedules(client, settings, districts)
        if store is not None:
            findings.append(await _keys_in_use(client, settings, store))
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            detail = f"没有命名空间 {client.namespace}:请检查 TEMPORAL_NAMESPACE。"
            return TemporalFound([Finding("Temporal", ok=False, detail=detail), *_unseen()])
        return TemporalFound([_away(), *_unseen()])
    return TemporalFound(findings, retention)


def _address() -> str:
    return str(ClientConfig.load_client_connect_config().get("target_host") or LOCAL)


def _away() -> Finding:
    detail = (
        f"无法连接 {_address()}:请检查 TEMPORAL_ADDRESS 和 Temporal 服务"
        "(内置服务的,用 --data 指明其数据目录)。"
    )
    return Finding("Temporal", ok=False, detail=detail)


def _unseen() -> list[Finding]:
    detail = "Temporal 连接不上,未能查看。"
    return [
        Finding(subject, ok=None, detail=detail) for subject in ("检索属性", "工作进程", "日程", "在用密钥")
    ]


def _search_attributes(present: set[str]) -> Finding:
    missing = [key.name for key in names.SEARCH_ATTRIBUTES if key.name not in present]
    lacking = f"缺少 {'、'.join(missing)}:启动工作进程即自动登记。"
    return Finding("检索属性", ok=not missing, detail=lacking if missing else "全部登记。")


async def _workers(client: Client) -> Finding:
    found = await routing(client, names.TASK_QUEUE)
    if found.cause:
        return Finding("工作进程", ok=False, detail=f"{found.cause}。{found.advice}")
    version = f",版本 {found.version}" if found.version else ""
    return Finding("工作进程", ok=True, detail=f"{len(found.workers)} 个正在领取任务{version}。")


# --- schedules ---------------------------------------------------------------------------------------------


async def _schedules(client: Client, settings: Settings, districts: Sequence[str]) -> list[Finding]:
    wanted = {
        schedule_id: (each.label, "启动工作进程即自动建立")
        for schedule_id, each in SCHEDULES.items()
        if settings.archive is not None or not each.needs_archive
    }
    wanted |= {names.anchor_id(code): ("每日锚定", "启动接口进程即自动建立") for code in districts}
    return [
        await _schedule(client, schedule_id, label, remedy) for schedule_id, (label, remedy) in wanted.items()
    ]


async def _schedule(client: Client, schedule_id: str, label: str, remedy: str) -> Finding:
    subject, now = f"日程 {schedule_id}", datetime.now(UTC)
    try:
        found = await client.get_schedule_handle(schedule_id).describe(rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return Finding(subject, ok=False, detail=f"不存在({label}):{remedy}。")
    last, ok = await _last_run(client, found, now)
    coming = found.info.next_action_times[:1]
    if found.schedule.state.paused:
        return Finding(subject, ok=False, detail=f"已暂停:请在 Temporal 界面的 Schedules 中恢复。{last}。")
    if coming and coming[0] < now - _OVERDUE:
        return Finding(
            subject, ok=False, detail=f"应于 {local(coming[0])} 启动而未启动:请检查 Temporal 服务。"
        )
    following = f";下次 {local(coming[0])}" if coming else ""
    return Finding(subject, ok=ok, detail=f"{last}{following}。")


async def _last_run(client: Client, found: ScheduleDescription, now: datetime) -> tuple[str, bool]:
    """Return how the newest run went, in Chinese, and whether that is in order."""
    if not found.info.recent_actions:
        return "尚未到时", True
    newest = found.info.recent_actions[-1]
    told, action = f"最近一次 {local(newest.started_at)}", newest.action
    if not isinstance(action, ScheduleActionExecutionStartWorkflow):
        return told, True
    try:
        run = await client.get_workflow_handle(
            action.workflow_id, run_id=action.first_execution_run_id
        ).describe(rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return f"{told}(记录已过保留期)", True
    if run.status is Status.RUNNING and run.raw_description.pending_workflow_task.attempt > 1:
        return f"{told},流程任务反复失败:请执行 shaodao ops stuck 查明原因", False
    if run.status is Status.RUNNING:
        if now - newest.started_at > _LONGEST:
            return f"{told},至今未完成:请在 Temporal 界面查看 {action.workflow_id} 的待办活动", False
        return f"{told},进行中", True
    if run.status in {Status.COMPLETED, Status.CONTINUED_AS_NEW}:
        return f"{told},已完成", True
    return f"{told},{_ENDED.get(run.status, '未完成')}:请在 Temporal 界面查看 {action.workflow_id}", False


_ENDED: dict[Status | None, str] = {
    Status.FAILED: "失败",
    Status.TERMINATED: "被终止",
    Status.CANCELED: "被取消",
    Status.TIMED_OUT: "超时",
}


# --- keys --------------------------------------------------------------------------------------------------


async def _keys_in_use(client: Client, settings: Settings, store: Store) -> Finding:
    """Look which keys the oldest and newest open cases of each district need, and whether they are here."""
    subject = "在用密钥"
    try:
        keys = keys_of(settings)
    except SettingsInvalid:
        return Finding(subject, ok=None, detail="密钥配置有误,未能查看。")
    looked_at = sample([(case.district, case.case_id) for case in await store.open_cases()])
    used = await keys_in_use(client, looked_at)
    missing = {
        key_id: case_id for key_id, case_id in used.items() if keys is None or keys.to_decrypt(key_id) is None
    }
    if missing:
        told = "、".join(f"{key_id}(例如案件 {case_id})" for key_id, case_id in missing.items())
        remedy = "请从备份中取出,以用途 old 加入 SHAODAO_PAYLOAD_KEYS_FILE 所指的文件(或 SHAODAO_PAYLOAD_KEYS)后重启。"
        return Finding(subject, ok=False, detail=f"缺少在办案件所用的密钥 {told}。{remedy}")
    if not used:
        detail = f"抽查在办案件 {len(looked_at)} 件,均未加密。" if looked_at else "没有在办案件。"
        return Finding(subject, ok=True, detail=detail)
    detail = f"抽查在办案件 {len(looked_at)} 件,所用密钥 {'、'.join(sorted(used))} 均已配置。"
    return Finding(subject, ok=True, detail=detail)

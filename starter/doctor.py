"""`shaodao doctor`: checks every setting and connection, and says what to do."""

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError

from adapters.archive import open_archive
from adapters.keys import OLD, keys_of
from adapters.migrate import current, head
from adapters.settings import Settings, SettingsInvalid
from adapters.store import Store, StoreUnavailable
from adapters.temporal import connect, registered_search_attributes
from domain.words import local
from starter.case_client import CaseClient
from starter.executions import TemporalExecutions
from starter.key_commands import others_may_read
from starter.schedules import ARCHIVE_EVERY
from starter.stack import StackError, temporal_binary
from workflows import names

_PATIENCE = 5.0
_MARGIN = 4
"""The archive is behind when a quarter of the retention has passed; four rounds of it must fit in."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        detail: what was found, or what to do.
    """

    subject: str
    ok: bool
    detail: str


async def examine() -> list[Finding]:
    """Look at everything; what depends on something broken is left out."""
    findings = [_python()]
    try:
        settings = Settings()
    except SettingsInvalid as error:
        return [*findings, Finding("设置", ok=False, detail=error.detail)]
    findings.append(Finding("设置", ok=True, detail="SHAODAO_* 设置齐全。"))
    findings.append(_encryption(settings))
    findings.append(_binary(settings))
    findings += await _store(settings)
    findings += await _temporal()
    findings += await _archive(settings)
    return findings


def _python() -> Finding:
    return Finding(
        "Python", ok=sys.version_info >= (3, 11), detail=f"{sys.version.split()[0]}(需要 3.11 以上)"
    )


def _encryption(settings: Settings) -> Finding:
    subject = "载荷加密"
    try:
        keys = keys_of(settings)
    except SettingsInvalid as error:
        return Finding(subject, ok=False, detail=error.detail)
    if settings.payload_encryption == "off" or keys is None:
        return Finding(
            subject, ok=False, detail="已明确关闭(SHAODAO_PAYLOAD_ENCRYPTION=off):案情以明文存入 Temporal。"
        )
    if settings.payload_keys_file and others_may_read(settings.payload_keys_file):
        return Finding(
            subject,
            ok=False,
            detail=f"其他用户可以读取密钥文件:请执行 chmod 600 {settings.payload_keys_file}。",
        )
    current = [
        f"{'、'.join(line.uses)}:{line.id}({line.algorithm})" for line in keys.lines if OLD not in line.uses
    ]
    return Finding(subject, ok=True, detail=f"已启用。现用密钥 {';'.join(current)}。")


def _binary(settings: Settings) -> Finding:
    try:
        path: Path = temporal_binary(settings.temporal_binary)
    except StackError as error:
        return Finding("Temporal 程序", ok=False, detail=str(error))
    return Finding("Temporal 程序", ok=True, detail=str(path))


async def _store(settings: Settings) -> list[Finding]:
    store = Store(settings.database_url)
    try:
        await store.ping()
        is_, should_be = await asyncio.to_thread(current, settings.database_url), head()
        migrated = is_ == should_be
        version = f"版本 {is_}" if migrated else f"版本 {is_},应为 {should_be}:请执行 shaodao migrate。"
        findings = [
            Finding("数据库", ok=True, detail="可以连接。"),
            Finding("数据库版本", ok=migrated, detail=version),
        ]
        if migrated:
            findings.append(await _districts(store))
    except StoreUnavailable:
        return [Finding("数据库", ok=False, detail="无法连接:请检查 SHAODAO_DATABASE_URL 和数据库服务。")]
    finally:
        await store.close()
    return findings


async def _districts(store: Store) -> Finding:
    loaded = [f"{district.name}(政策 {district.policy.version})" for district in await store.districts()]
    remedy = "尚未装载任何区(市):请执行 shaodao district load 目录。"
    return Finding("区(市)数据", ok=bool(loaded), detail="、".join(loaded) or remedy)


async def _temporal() -> list[Finding]:
    try:
        async with asyncio.timeout(_PATIENCE):
            client = await connect(lazy=False, converter=pydantic_data_converter)  # reads no payload
            await client.service_client.check_health()
            present = await registered_search_attributes(client)
            polled = await _is_polled(client)
    except (RPCError, RuntimeError, TimeoutError):
        return [Finding("Temporal", ok=False, detail="无法连接:请检查 TEMPORAL_ADDRESS 和 Temporal 服务。")]
    missing = [key.name for key in names.SEARCH_ATTRIBUTES if key.name not in present]
    lacking = f"缺少 {'、'.join(missing)}:启动工作进程即自动登记。"
    return [
        Finding("Temporal", ok=True, detail=f"命名空间 {client.namespace} 可用。"),
        Finding("检索属性", ok=not missing, detail=lacking if missing else "全部登记。"),
        Finding(
            "工作进程", ok=polled, detail="正在工作。" if polled else "没有工作进程:请启动 shaodao worker。"
        ),
    ]


async def _archive(settings: Settings) -> list[Finding]:
    """Look at the archive, if everything that it depends on answers."""
    if settings.archive is None:
        remedy = "未设置 SHAODAO_ARCHIVE:保留期满后,已结束案件的流程历史将丢失。"
        return [Finding("归档", ok=False, detail=remedy)]
    store = Store(settings.database_url)
    try:
        async with asyncio.timeout(_PATIENCE):
            count, oldest = await store.archive_lag()
            retention = await TemporalExecutions(CaseClient(await connect(), within=_PATIENCE)).retention()
    except (StoreUnavailable, SQLAlchemyError, RPCError, RuntimeError, TimeoutError):
        return []  # said above
    finally:
        await store.close()
    try:
        await open_archive(settings.archive).names("terms")
    except (OSError, ValueError) as error:
        return [Finding("归档", ok=False, detail=f"归档位置不可用:{error}")]
    return [archive_finding(count, oldest, retention, datetime.now(UTC))]


def archive_finding(count: int, oldest: datetime | None, retention: timedelta, now: datetime) -> Finding:
    """Judge the archive: it has to be well ahead of the end of retention.

    Args:
        count: closed cases that are not archived; `oldest`: when the first of them was closed.
        retention: how long Temporal keeps a closed run.
    """
    kept = f"Temporal 保留 {retention.total_seconds() / 3600:.0f} 小时"
    if retention < ARCHIVE_EVERY * _MARGIN:
        remedy = f"{kept},过短:请用 temporal operator namespace update --retention 调长。"
        return Finding("归档", ok=False, detail=remedy)
    if oldest is not None and now - oldest > retention / _MARGIN:
        remedy = (
            f"落后:待归档 {count} 件,最早办结于 {local(oldest)},{kept}。请执行 shaodao ops stuck 查明原因。"
        )
        return Finding("归档", ok=False, detail=remedy)
    return Finding("归档", ok=True, detail=f"待归档 {count} 件;{kept}。")


async def _is_polled(client: Client) -> bool:
    from temporalio.api.enums.v1 import TaskQueueType
    from temporalio.api.taskqueue.v1 import TaskQueue
    from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest

    answer = await client.workflow_service.describe_task_queue(
        DescribeTaskQueueRequest(
            namespace=client.namespace,
            task_queue=TaskQueue(name=names.TASK_QUEUE),
            task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        )
    )
    return bool(answer.pollers)

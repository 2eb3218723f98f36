"""`shaodao doctor`: checks every setting and connection, and says what to do."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from activities.archive import read_manifest
from adapters.archive import open_archive
from adapters.keys import OLD, keys_of
from adapters.migrate import current, head
from adapters.settings import Settings, SettingsInvalid
from adapters.signing import AuditKeyInvalid, SigningKey
from adapters.store import Store, StoreUnavailable, open_store
from adapters.upkeep import ArchivedVersion, LatestAnchor
from domain.calendar import SHANGHAI
from domain.errors import DomainError
from domain.words import local
from starter.doctor_temporal import Finding, TemporalFound, examine_temporal
from starter.identity import Directory
from starter.key_commands import others_may_read
from starter.schedules import ARCHIVE_EVERY
from starter.stack import StackError, temporal_binary

_MARGIN = 4
"""The archive is behind when a quarter of the retention has passed; four rounds of it must fit in."""
_ANCHORED_BY = timedelta(hours=2)
"""After midnight: a day's first anchor, which is always made, begins at ten past and gets time for its retries."""


def status_of(findings: Sequence[Finding]) -> int:
    """Return the exit status: 1 when something is wrong, 2 when something could not be looked at, else 0."""
    if any(each.ok is False for each in findings):
        return 1
    return 2 if any(each.ok is None for each in findings) else 0


async def examine() -> list[Finding]:
    """Look at everything; what depends on something broken says that it could not be looked at."""
    findings = [_python()]
    try:
        settings = Settings()
    except SettingsInvalid as error:
        return [*findings, Finding("设置", ok=False, detail=error.detail)]
    findings.append(Finding("设置", ok=True, detail="SHAODAO_* 设置齐全。"))
    findings += [_encryption(settings), _audit_key(settings), _binary(settings)]
    store = open_store(settings)
    try:
        in_order = await _store(settings, store)
        findings += in_order
        stored = store if all(each.ok for each in in_order) else None
        found = await examine_temporal(settings, stored)
        findings += found.findings
        if stored is not None:
            findings.append(await _anchors(settings, stored))
            findings.append(await _archive(settings, stored, found))
    finally:
        await store.close()
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


def _audit_key(settings: Settings) -> Finding:
    subject = "审计签名密钥"
    if settings.audit_key is None:
        remedy = "未设置 SHAODAO_AUDIT_KEY:不能锚定,也不能签发审计包。请执行 shaodao audit key --new 文件。"
        return Finding(subject, ok=False, detail=remedy)
    named = settings.audit_key.get_secret_value()
    try:
        key = SigningKey.load(named)
    except AuditKeyInvalid as error:
        return Finding(subject, ok=False, detail=error.detail)
    if "-----BEGIN" not in named and others_may_read(Path(named)):
        return Finding(subject, ok=False, detail=f"其他用户可以读取:请执行 chmod 600 {named}。")
    return Finding(subject, ok=True, detail=f"可用,公钥编号 {key.public.id}。")


async def _store(settings: Settings, store: Store) -> list[Finding]:
    try:
        await store.ping()
        is_, should_be = await asyncio.to_thread(current, settings.database_url), head()
        migrated = is_ == should_be
        version = f"版本 {is_}。" if migrated else f"版本 {is_},应为 {should_be}:请执行 shaodao migrate。"
        findings = [
            Finding("数据库", ok=True, detail="可以连接。"),
            Finding("数据库版本", ok=migrated, detail=version),
        ]
        if migrated:
            findings.append(await _districts(store))
    except StoreUnavailable:
        return [Finding("数据库", ok=False, detail="无法连接:请检查 SHAODAO_DATABASE_URL 和数据库服务。")]
    return findings


async def _districts(store: Store) -> Finding:
    """See that every district is what was last loaded: else its people have no rights, or those of before."""
    directory = Directory(store, tells=False)
    await directory.refresh()
    if refused := directory.refused():
        return Finding("区(市)数据", ok=False, detail="".join(refused.values()))
    for each in directory.districts():
        check = await store.check_load(each.code)
        if check is not None and (wrong := [found for found in check.findings if found.proven]):
            told = "、".join(f"{found.table} {found.row}" for found in wrong[:3])
            detail = f"{each.code}:与装载时不同({told}{'等' if wrong[3:] else ''});权限不受影响,通知可能误发。请核查后重新执行 shaodao district load 目录。"
            return Finding("区(市)数据", ok=False, detail=detail)
    loaded = [f"{each.name}(政策 {each.policy.version})" for each in directory.districts()]
    remedy = "尚未装载任何区(市):请执行 shaodao district load 目录。"
    return Finding("区(市)数据", ok=bool(loaded), detail="、".join(loaded) or remedy)


async def _anchors(settings: Settings, store: Store) -> Finding:
    key_id = None
    if settings.audit_key is not None:
        try:
            key_id = SigningKey.load(settings.audit_key.get_secret_value()).public.id
        except AuditKeyInvalid:
            key_id = None
    return anchor_finding(await store.latest_anchors(), key_id, datetime.now(UTC))


def anchor_finding(latest: Sequence[LatestAnchor], key_id: str | None, now: datetime) -> Finding:
    """Judge the anchors: each district has one of this night, or nothing yet to anchor.

    Args:
        key_id: of the signing key that is set; an anchor of another key is told, for it may be a mistake.
    """
    subject, local_now = "锚定", now.astimezone(SHANGHAI)
    midnight = local_now.replace(hour=0, minute=0, second=0, microsecond=0)
    due = local_now.date() if local_now - midnight >= _ANCHORED_BY else local_now.date() - timedelta(days=1)
    late = [
        f"{each.district} 最近一次为 {each.day}" if each.day else f"{each.district} 从未锚定"
        for each in latest
        if _is_late(each, due)
    ]
    if late:
        remedy = (
            "请查看 Temporal 中的 anchor/区(市)编号 和工作进程的 SHAODAO_AUDIT_KEY;"
            "可立即执行 shaodao audit anchor。"
        )
        return Finding(subject, ok=False, detail=f"{';'.join(late)}。{remedy}")
    told = "、".join(f"{each.district} {_newest(each)}" for each in latest)
    strange = sorted({each.key_id for each in latest if key_id and each.key_id and each.key_id != key_id})
    other = f";签名密钥与现设的不同:{'、'.join(strange)}" if strange else ""
    return Finding(subject, ok=True, detail=f"最近一次:{told or '尚无区(市)'}{other}。")


def _newest(latest: LatestAnchor) -> str:
    if latest.day is None:
        return "尚无(每日零时十分起)"
    return local(latest.at) if latest.at else str(latest.day)


def _is_late(latest: LatestAnchor, due: date) -> bool:
    """Whether the anchor of this day is lacking; of a district that has none, whether there was something to anchor."""
    if latest.day is not None:
        return latest.day < due
    return latest.first_call is not None and latest.first_call.astimezone(SHANGHAI).date() < due


async def _archive(settings: Settings, store: Store, temporal: TemporalFound) -> Finding:
    """Look at the archive: whether it can be read, and how far it has got."""
    subject = "归档"
    if settings.archive is None:
        remedy = "未设置 SHAODAO_ARCHIVE:保留期满后,已结束案件的流程历史将丢失。"
        return Finding(subject, ok=False, detail=remedy)
    newest = await store.newest_archived()
    try:
        archive = open_archive(settings.archive)
        await archive.names("terms")
        if newest is not None:
            await read_manifest(archive, newest.manifest)
    except (OSError, ValueError) as error:
        detail = f"归档位置不可用或文件缺失:{error}。请检查 SHAODAO_ARCHIVE 和存储。"
        return Finding(subject, ok=False, detail=detail)
    except DomainError as error:
        return Finding(subject, ok=False, detail=error.detail)
    if temporal.retention is None:
        return Finding(subject, ok=None, detail="位置可用;Temporal 连接不上,无法判断是否落后。")
    count, oldest = await store.archive_lag()
    return archive_finding(count, oldest, temporal.retention, datetime.now(UTC), newest=newest)


def archive_finding(
    count: int,
    oldest: datetime | None,
    retention: timedelta,
    now: datetime,
    *,
    newest: ArchivedVersion | None = None,
) -> Finding:
    """Judge the archive: it has to be well ahead of the end of retention.

    Args:
        count: closed cases that are not archived; `oldest`: when the first of them was closed.
        retention: how long Temporal keeps a closed run.
        newest: the version that was archived last.
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
    last = f"最近一次归档于 {local(newest.at)};" if newest else ""
    return Finding("归档", ok=True, detail=f"位置可用;{last}待归档 {count} 件;{kept}。")

"""What does not get on, as operators read it: the cause, and what brings it back."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from adapters.codec import missing_key
from adapters.upkeep import Stuck
from domain.case import CaseId
from domain.ports import Difference
from domain.words import ACTS
from starter.executions import Gone, Trouble
from starter.routing import Routing


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that does not get on, for people.

    Attributes:
        kind: stable code.
        case_id: empty for what concerns every case.
        cause, advice: Chinese.
        error: what the program itself said.
        id: of the notice, where it is one.
    """

    kind: str
    case_id: CaseId
    cause: str
    advice: str
    since: datetime | None
    attempts: int
    error: str
    id: int | None = None


_SERVICES = "用 shaodao doctor 检查 Temporal、工作进程和数据库;恢复后自动继续。"
_WAITING: dict[str, tuple[str, str]] = {
    "intake": ("呼叫已受理,办理流程未启动", _SERVICES),
    "act": ("操作已受理,等待补办:", _SERVICES),
    "notice": (
        "通知未送出:",
        "检查发送渠道和工作进程;恢复后自动重发,急需时执行 shaodao ops resend 通知编号。",
    ),
    "archive": (
        "归档失败",
        "检查归档位置能否写入、空间是否足够;下次归档自动重试。提示“未覆盖”的,请审计人员核对。",
    ),
}
_WAITING["archive_gone"] = (
    "案件已登记归档,而归档中缺少文件",
    (
        "检查归档位置是否挂载、是否为原来的位置;文件能找回的,放回原处。Temporal 仍有历史的,下次归档自动补齐"
        "(立即补齐:shaodao ops archive --now);同时缺失很多而归档位置无误的,另加 --renew-many。"
        "仍不能补齐的,请审计人员核对。"
    ),
)
_WAITING["act_unbound"] = (
    "暂存的操作没有有效的认证码,未予办理:",
    (
        "该操作不是由接口或工作进程存入的,或存入后被改动:有人直接写了数据库。请审计人员核对(shaodao audit verify 案件编号)"
        "并检查数据库权限;本人确曾办理的,请其重新办理。"
    ),
)
_WAITING["act_other_key"] = (
    "暂存的操作由另一密钥认证,未予办理:",
    (
        "请核对各接口与工作进程的 SHAODAO_SECRET 是否相同;换过的,恢复原值并重启接口后自动补办,不能恢复的请本人重新办理。"
    ),
)
_WAITING["act_before_codes"] = (
    "升级前暂存的操作没有认证码,不再补办:",
    "请本人重新办理。",
)
_ROLLED_BACK = "多为新版本与案件历史不符:请回退部署,或执行 shaodao ops reset 案件编号 --before-deploy 版本 --reason 原因。"
_FAILING = {"workflow_task": "流程任务反复失败", "activity": "活动反复失败"}
_NOT_A_CASE = "查看工作进程日志,修复或回退部署后自动继续;也可在 Temporal 界面终止该次运行,到时重新开始。"
_KEY = (
    "请把密钥 {key}(用途 old)加入{whose}的密钥文件(SHAODAO_PAYLOAD_KEYS_FILE 所指)"
    "或 SHAODAO_PAYLOAD_KEYS,再重启{whose}。"
)
_ENDED = {
    "TERMINATED": "已被终止",
    "FAILED": "已失败",
    "CANCELED": "已被取消",
    "TIMED_OUT": "已超时",
    "UNKNOWN": "不存在(Temporal 中没有)",
}
_DIFFERING: dict[str, tuple[str, str]] = {
    "missing": ("办理流程缺失,未自动恢复", "核对命名空间后执行 shaodao ops reconcile --now --restart-many。"),
    "ledger_rewritten": (
        "台账与锚定、归档或流程历史不符,案件未恢复",
        "请审计人员核对;查明后以现有台账为准的,执行 shaodao ops reset 案件编号 --from-ledger --despite-anchor --reason 原因。",
    ),
    "not_started": ("呼叫已受理,办理流程未启动", _SERVICES),
    "ended": ("办理流程已结束,而台账中案件未办结", "请审计人员核对台账与流程历史。"),
    "stray": (
        "有办理流程而没有在办案件",
        "核对数据库与命名空间是否配套;确认无误后在 Temporal 界面终止该流程。",
    ),
    "ledger_behind": ("台账落后于办理流程", "检查数据库;恢复后自动补记。"),
    "stage_differs": ("读模型与办理流程不符", "执行 shaodao ops rebuild 案件编号。"),
    "failed": ("核对时未得到答复", _SERVICES),
}


def waits(stuck: Stuck) -> Finding:
    """Say what waits in SQL."""
    cause, advice = _WAITING[stuck.subject]
    what = next((label for act, label in ACTS.items() if act == stuck.what), stuck.what)
    return Finding(
        kind=stuck.subject,
        case_id=stuck.case_id,
        cause=cause + what,
        advice=advice,
        since=stuck.since,
        attempts=stuck.attempts,
        error=stuck.error,
        id=stuck.id,
    )


def archive_gone(case_id: CaseId, missing: Sequence[str]) -> Finding:
    """Say what the archive lacks of a case that is marked as archived."""
    cause, advice = _WAITING["archive_gone"]
    return Finding(
        kind="archive_gone",
        case_id=case_id,
        cause=cause,
        advice=advice,
        since=None,
        attempts=0,
        error="、".join(missing),
    )


def archive_away(error: Exception) -> Finding:
    """Say that nobody can look whether the archive is whole."""
    _, advice = _WAITING["archive"]
    return Finding(
        kind="archive",
        case_id=CaseId(""),
        cause="归档暂不可用",
        advice=advice,
        since=None,
        attempts=0,
        error=str(error)[:300],
    )


def troubled(trouble: Trouble) -> Finding:
    """Say why a running workflow does not get on."""
    kind, cause, advice = _trouble(trouble)
    if not trouble.case_id:
        cause = f"{trouble.workflow_id}:{cause}"
    return Finding(
        kind=kind,
        case_id=trouble.case_id,
        cause=cause,
        advice=advice,
        since=trouble.since,
        attempts=trouble.attempts,
        error=trouble.error,
    )


def _trouble(trouble: Trouble) -> tuple[str, str, str]:
    key = missing_key(trouble.error)
    if key is not None and trouble.sealed:
        cause = f"流程受阻,失败说明由密钥 {key} 加密,接口进程没有该密钥"
        return "payload_key_missing", cause, _KEY.format(whose="接口进程", key=key)
    if key is not None:
        return (
            "payload_key_missing",
            f"工作进程缺少载荷密钥 {key}",
            _KEY.format(whose="工作进程", key=key) + "案件自动继续,不会丢失;不要重置案件。",
        )
    if "payload_altered" in trouble.error:
        return "payload_altered", "载荷与其校验值不符", "可能被篡改或移动过:请立即报告审计人员。"
    if not trouble.case_id:
        return trouble.kind, _FAILING[trouble.kind], _NOT_A_CASE
    if trouble.kind == "workflow_task":
        return "workflow_task", "流程任务反复失败", _ROLLED_BACK
    if "ledger_conflict" in trouble.error:
        advice = (
            "请审计人员核对;确认以台账为准后执行 shaodao ops reset 案件编号 --from-ledger --reason 原因。"
        )
        return "ledger_conflict", "台账此处已有不同的记录,未覆盖", advice
    return "activity", "台账补记未成功", "检查数据库;恢复后自动补记。"


def lacks_key(key_id: str, example: CaseId, *, of_worker: bool, case_id: CaseId | None) -> Finding:
    """Say that a key that open cases need is not held, though no case has come to need it yet.

    Args:
        example: a case that needs it.
        of_worker: whether a worker lacks it, else the API.
        case_id: of the one case that was asked about; None: it concerns every case of this key.
    """
    who, whose = ("工作进程", "工作进程") if of_worker else ("接口进程", "接口进程和工作进程")
    about = "" if case_id else f"(在办案件所用,例如 {example})"
    return Finding(
        kind="payload_key_missing",
        case_id=case_id or CaseId(""),
        cause=f"{who}缺少载荷密钥 {key_id}{about}",
        advice=_KEY.format(whose=whose, key=key_id) + "案件自动继续,不会丢失;不要重置案件。",
        since=None,
        attempts=0,
        error="",
    )


def gone(run: Gone) -> Finding:
    """Say how the run of an open case came to be gone."""
    ended = _ENDED.get(run.status, run.status)
    advice = (
        f"执行 shaodao ops reset {run.case_id} --from-ledger --reason 原因,立即按台账继续;"
        "否则由下次核对(每十分钟)自动恢复。"
    )
    return Finding(
        kind="run_gone",
        case_id=run.case_id,
        cause=f"案件在办,而办理流程{ended}",
        advice=advice,
        since=run.at,
        attempts=0,
        error=run.reason,
    )


def unbound(district: str, told: str) -> Finding:
    """Say that a district is not what was loaded, so that nobody has rights by what stands."""
    return Finding(
        kind="district_unbound",
        case_id=CaseId(""),
        cause=f"区(市) {district} 的资料不是最近一次装载的内容:未采用,人员权限以此前已知的为准,重启后暂停",
        advice=f"{told}并请审计人员核对(shaodao audit verify --journals)。",
        since=None,
        attempts=0,
        error="",
    )


def idle(routing: Routing) -> Finding:
    """Say that tasks reach nobody."""
    return Finding(
        kind="workers_idle",
        case_id=CaseId(""),
        cause=routing.cause,
        advice=routing.advice,
        since=None,
        attempts=0,
        error="",
    )


def differs(difference: Difference) -> Finding:
    """Say what the last comparison of SQL and Temporal found."""
    cause, advice = _DIFFERING[difference.kind]
    return Finding(
        kind=difference.kind,
        case_id=difference.case_id,
        cause=cause,
        advice=advice,
        since=None,
        attempts=0,
        error=difference.detail,
    )

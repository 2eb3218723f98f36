"""What operators do that the Temporal UI cannot: each with a name, a reason and two lines in the journal."""

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from activities.archive import ArchiveBatch
from activities.reconcile import ReconcileRequest, restart
from adapters.store import Store
from adapters.upkeep import Operation, Stuck
from domain import audit
from domain.case import CaseId
from domain.district import Person
from domain.errors import DomainError, Refused
from domain.lifecycle import fold
from domain.ports import Difference, Witnesses
from domain.restart import require_extends
from domain.words import ACTS
from starter.executions import TemporalExecutions, Trouble
from workflows import names

_WAITED = timedelta(minutes=1)
_MOST = 200
_RPC = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that does not get on, for people.

    Attributes:
        kind: stable code.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetOutcome:
    """How a case was set back.

    Attributes:
        mode: `history` (Temporal went back, what came after is done again) or `ledger` (the case goes on from what
            the ledger holds, for it may not be written anew).
        kept: entries from after the point that stand as they are.
        repeated: accepted acts that the ledger did not hold, handed to the relay.
    """

    mode: str
    kept: int
    repeated: int


class Operations:
    """Everything behind `shaodao ops`. Where a `district` is named, only its cases are seen and touched."""

    def __init__(
        self,
        store: Store,
        executions: TemporalExecutions,
        witnesses: Witnesses,
        client: Client,
        queue: str,
    ) -> None:
        self._store = store
        self._witnesses = witnesses
        self._executions = executions
        self._client = client
        self._queue = queue

    async def stuck(self, *, district: str | None, case_id: CaseId | None = None) -> list[Finding]:
        """Return what does not get on: as SQL knows it, as the server reports it, as the last comparison found it."""
        waiting = await self._store.stuck(_now() - _WAITED, district=district, limit=_MOST)
        found = [_waits(each) for each in waiting]
        report = await self._store.reconciliation()
        differing = [
            each
            for each in (report.differences if report else ())
            if not each.done and district in {None, each.district}
        ]
        suspects = {each.case_id for each in differing} | await self._reported(district)
        for suspect in sorted(suspects | ({case_id} if case_id else set())):
            troubles = await self._executions.trouble(suspect)
            found += [_troubled(each) for each in troubles]
            if not troubles:
                found += [_differs(each) for each in differing if each.case_id == suspect]
        return [each for each in found if case_id in {None, each.case_id}]

    async def _reported(self, district: str | None) -> set[CaseId]:
        reported = await self._executions.listed_with_problems()
        if district is None:
            return set(reported)
        return {each for each in reported if await self._store.district_of(each) == district}

    async def resend(self, *, district: str | None, notice: int | None, case_id: CaseId | None) -> int:
        """Let one notice, or every notice of a case, leave once more; return how many."""
        return await self._store.resend(_now(), district=district, notice=notice, case_id=case_id)

    async def rebuild(self, *, district: str | None, case_ids: Sequence[CaseId]) -> int:
        """Project the read models again from the ledger, of some cases or of all; return the number of entries."""
        return await self._store.rebuild(case_ids or await self._store.case_ids(district))

    async def reset(
        self,
        case_id: CaseId,
        *,
        before_deploy: str | None,
        to_event: int | None,
        reason: str,
        despite_anchor: bool = False,
    ) -> ResetOutcome:
        """Set a case back, and let it go on under the workers that are current.

        The ledger is append-only. Entries that came after the point would be made again with another moment, and
        the ledger would rightly refuse them; so where there are any, the case goes on from the ledger instead: with
        the state that the present rules fold from it. Acts that were accepted and are not in the ledger are done
        again either way.

        Args:
            before_deploy: to before the first workflow task of this build.
            to_event: to before the workflow task that completed at this event, or next after it; neither: from the
                ledger.
            despite_anchor: from a ledger that is not what anchors or archive hold: for somebody who has found out
                why, as after the database was restored from a backup.

        Raises:
            Refused: `case_over`, `no_reset_point`, or `never_started`.
            LedgerConflict: `ledger_rewritten`, `broken_chain`: nothing was done.
        """
        start, entries = await self._store.start_of(case_id), await self._store.entries(case_id)
        if start is None or not entries or not await self._store.is_started(case_id):
            raise Refused("never_started", "案件的办理流程尚未启动,无可重置;恢复后自动启动。")
        if fold(entries).is_over:
            raise Refused("case_over", "案件已经结束,不能重置。")
        kept = 0
        if before_deploy is not None or to_event is not None:
            point = await self._executions.reset_point(case_id, event_id=to_event, build_id=before_deploy)
            if point is None:
                raise Refused(
                    "no_reset_point",
                    "当前运行的历史中没有这样的流程任务。若新版本一个任务也未完成,回退部署即可,无需重置。",
                )
            kept = sum(entry.at >= point.at for entry in entries[1:])
            if kept == 0:
                await self._executions.reset(case_id, point, reason)
                return ResetOutcome(mode="history", kept=0, repeated=0)
        audit.check_chain(entries)  # before any harm is done
        known = [] if despite_anchor else (await self._witnesses.known_heads([case_id])).get(case_id, ())
        require_extends(start, entries, known)
        await self._executions.terminate(case_id, reason)
        repeated = await restart(self._store, self._executions, start, _now(), known=known)
        return ResetOutcome(mode="ledger", kept=kept, repeated=repeated)

    async def reconcile(self, *, restart_many: bool) -> None:
        """Begin a comparison now."""
        await self._begin(
            names.RECONCILE, ReconcileRequest(restart_many=restart_many), "核对在办案件与办理流程"
        )

    async def archive(self) -> None:
        """Begin to archive now."""
        await self._begin(names.ARCHIVE, ArchiveBatch(), "归档已结束的案件")

    async def _begin(self, workflow: str, argument: object, label: str) -> None:
        await self._client.start_workflow(
            workflow,
            argument,
            id=f"{workflow.lower()}/operator",
            task_queue=self._queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=label,
            rpc_timeout=_RPC,
        )


@asynccontextmanager
async def journaled(
    store: Store, person: Person, district: str, name: str, arguments: dict[str, Any]
) -> AsyncIterator[list[str]]:
    """Write that it begins, and how it ended; what is put into the list becomes the last line's detail."""
    operation, told = secrets.token_hex(16), list[str]()

    def line(outcome: str, detail: str = "") -> Operation:
        return Operation(
            operation=operation,
            at=_now(),
            person=person.id,
            person_name=person.name,
            district=district,
            name=name,
            arguments=arguments,
            outcome=outcome,
            detail=detail,
        )

    await store.journal(line("begun"))
    try:
        yield told
    except Exception as error:
        detail = error.code if isinstance(error, DomainError) else type(error).__name__
        await store.journal(line("failed", detail))
        raise
    await store.journal(line("done", ";".join(told)))


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
_ROLLED_BACK = "多为新版本与案件历史不符:请回退部署,或执行 shaodao ops reset 案件编号 --before-deploy 版本 --reason 原因。"
_DIFFERING: dict[str, tuple[str, str]] = {
    "missing": ("办理流程缺失,未自动恢复", "核对命名空间后执行 shaodao ops reconcile --now --restart-many。"),
    "ledger_rewritten": (
        "台账与锚定或归档不符,案件未恢复",
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


def _waits(stuck: Stuck) -> Finding:
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


def _troubled(trouble: Trouble) -> Finding:
    if trouble.kind == "workflow_task":
        kind, cause, advice = "workflow_task", "流程任务反复失败", _ROLLED_BACK
    elif "ledger_conflict" in trouble.error:
        kind, cause = "ledger_conflict", "台账此处已有不同的记录,未覆盖"
        advice = (
            "请审计人员核对;确认以台账为准后执行 shaodao ops reset 案件编号 --from-ledger --reason 原因。"
        )
    else:
        kind, cause, advice = "activity", "台账补记未成功", "检查数据库;恢复后自动补记。"
    return Finding(
        kind=kind,
        case_id=trouble.case_id,
        cause=cause,
        advice=advice,
        since=trouble.since,
        attempts=trouble.attempts,
        error=trouble.error,
    )


def _differs(difference: Difference) -> Finding:
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


def _now() -> datetime:
    return datetime.now(UTC)

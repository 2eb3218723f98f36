"""Comparing the open cases of SQL with the workflows that run."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TypeAlias

from temporalio import activity

from domain.case import CaseId, Value
from domain.errors import DomainError, LedgerConflict
from domain.ports import (
    CaseStart,
    Difference,
    Executions,
    KnownCase,
    KnownHead,
    Reconcilable,
    Reconciliation,
    Witnesses,
)
from domain.restart import from_ledger, require_extends

_AT_ONCE = 8
_FINISHING = timedelta(minutes=5)
_STARTING = timedelta(seconds=5)
_FEW = 10
_SHARE = 5
_GOES_ON = frozenset({"RUNNING", "PAUSED"})


class ReconcileRequest(Value):
    """How to reconcile.

    Attributes:
        restart_many: restart missing cases however many they are. Else many at once are only reported: rather than
            so many accidents it may be the wrong namespace, or a Temporal that was restored from a backup.
    """

    restart_many: bool = False


class Reconciled(Value):
    """What was found, in numbers; the whole report is in the store."""

    open_cases: int
    differences: int
    held: bool


class ReconcileActivities:
    """Finds cases that SQL says are open and nobody works on, and lets them go on. Tells of everything else."""

    def __init__(
        self,
        store: Reconcilable,
        executions: Executions,
        witnesses: Witnesses,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._executions = executions
        self._witnesses = witnesses
        self._now = now

    @activity.defn(name="reconcile")
    async def reconcile(self, request: ReconcileRequest) -> Reconciled:
        """Compare, restart what is missing and whose ledger nothing contradicts, keep the report.

        Each case is judged by what Temporal says of that very case; lists only tell where to look.
        """
        at = self._now()
        await self._executions.retention()  # a namespace that is away is no case that is missing
        open_ = await self._store.open_cases()
        found = await self._each([self._compare(case) for case in open_])
        missing = [each for each in found if each.kind in {"missing", "not_started"}]
        lost = [each for each in missing if each.kind == "missing"]
        held = len(lost) > max(_FEW, len(open_) // _SHARE) and not request.restart_many
        if not held:
            known = await self._known([each.case_id for each in lost])
            begun = await self._each([self._begin(each, known) for each in missing])
            found = [each for each in found if each not in missing] + begun
        found += await self._strays({case.case_id for case in open_})
        report = Reconciliation(
            at=at,
            ended_at=self._now(),
            open_cases=len(open_),
            differences=tuple(sorted(found, key=lambda each: (each.kind, each.case_id))),
            held=held,
        )
        await self._store.reconciled(report)
        return Reconciled(open_cases=len(open_), differences=len(found), held=held)

    async def _each(self, looks: Sequence["Look"]) -> list[Difference]:
        """Take a few looks at a time, and return the differences."""
        found: list[Difference] = []
        for first in range(0, len(looks), _AT_ONCE):
            activity.heartbeat(first)
            answers = await asyncio.gather(*looks[first : first + _AT_ONCE])
            found += [each for each in answers if each is not None]
        return found

    async def _compare(self, case: KnownCase) -> Difference | None:
        try:
            return await self._difference(case)
        except Exception as error:
            return _of(case, "failed", _told(error))

    async def _difference(self, case: KnownCase) -> Difference | None:
        execution = await self._executions.execution(case.case_id)
        if execution is not None and execution.status in _GOES_ON:
            if execution.stage == case.stage and not execution.record_pending:
                return None
            return await self._look_closer(case)
        known = await self._store.known_case(case.case_id)
        if known is None or known.closed_at is not None:
            return None  # it has ended meanwhile
        if execution is None and not await self._store.is_started(case.case_id):
            return _of(case, "not_started", "呼叫已受理,办理流程尚未启动。")
        if execution is not None and execution.status == "COMPLETED":
            return _of(case, "ended", "办理流程已正常结束,而台账中案件未办结。")
        if execution is None:
            lost = "Temporal 中已没有其最新一次运行(被删除或遗失),其执行历史无从核验"
            return _of(case, "missing", f"案件在办,而办理流程已不存在:{lost}。")
        status = _STATUSES.get(execution.status, execution.status)
        return _of(case, "missing", f"案件在办,而办理流程{status}。")

    async def _look_closer(self, case: KnownCase) -> Difference | None:
        """Ask the workflow itself; what it says is compared with what the store says by then."""
        answer = await self._executions.state(case.case_id)
        if answer is None:
            return _of(case, "failed", "办理流程未答复(没有工作进程,或流程任务失败)。")
        state, unrecorded = answer
        known = await self._store.known_case(case.case_id)
        if known is None or known.sequence > state.sequence:
            return None  # it has moved on since
        if known.sequence < state.sequence:
            lacking = state.sequence - known.sequence
            return _of(case, "ledger_behind", f"台账落后 {lacking} 条(待补记 {unrecorded} 条)。")
        if known.stage != state.stage.value:
            return _of(case, "stage_differs", f"读模型为 {known.stage},办理流程为 {state.stage.value}。")
        return None

    async def _known(self, lost: Sequence[CaseId]) -> "Known":
        """Ask anchors and archive about the cases that are to go on; what they do not answer is why none does."""
        if not lost:
            return {}
        try:
            return await self._witnesses.known_heads(lost)
        except Exception as error:
            return error

    async def _begin(self, missing: Difference, known: "Known") -> Difference:
        try:
            return missing.model_copy(update={"done": await self._started(missing, known)})
        except LedgerConflict as conflict:
            if conflict.code != "ledger_rewritten":
                return _not_begun(missing, conflict)
            await self._store.alarm(
                missing.case_id,
                district=missing.district,
                reason=conflict.code,
                title="台账与锚定、归档或流程历史不符,案件未恢复",
                text=f"{missing.detail}{conflict.detail}",
                at=self._now(),
            )
            return missing.model_copy(update={"kind": conflict.code, "detail": conflict.detail})
        except Exception as error:
            return _not_begun(missing, error)

    async def _started(self, missing: Difference, known: "Known") -> str:
        start = await self._store.start_of(missing.case_id)
        if start is None:
            detail = "受理记录或其政策与日历(terms)在数据库中缺失,无法启动;请先核验本案。"
            raise DomainError("intake_missing", detail)
        if missing.kind == "not_started":
            await self._executions.start(start)
            await self._store.started(missing.case_id, self._now())
            return "started"
        if isinstance(known, Exception):
            raise known
        heads = [
            *known.get(missing.case_id, ()),
            *await self._executions.acknowledged(missing.case_id),
        ]
        repeated = await restart(self._store, self._executions, start, self._now(), known=heads)
        return f"restarted, {repeated} acts to repeat" if repeated else "restarted"

    async def _strays(self, open_: set[str]) -> list[Difference]:
        listed = [case_id for case_id in await self._executions.listed_running() if case_id not in open_]
        return await self._each([self._stray(case_id) for case_id in listed])

    async def _stray(self, case_id: CaseId) -> Difference | None:
        """A workflow that runs for no open case; one that is just finishing is none."""
        execution = await self._executions.execution(case_id)
        if execution is None or execution.status not in _GOES_ON:
            return None
        case = await self._store.known_case(case_id)
        if case is None:
            return Difference(
                case_id=case_id,
                district=execution.district,
                kind="stray",
                detail="办理流程在运行,而没有该案件。",
            )
        if case.closed_at is None or case.closed_at > self._now() - _FINISHING:
            return None
        return _of(case, "stray", "案件已结束,而办理流程仍在运行。")


async def restart(
    store: Reconcilable,
    executions: Executions,
    start: CaseStart,
    now: datetime,
    *,
    known: Iterable[KnownHead],
) -> int:
    """Let a case whose run is gone go on from its ledger; return how many accepted acts are to be repeated.

    What the last run had accepted, and what never reached the ledger, is handed to the relay first: it asks the new
    run for it, or tells the person who did it. Whatever happens in between, doing all of this again is safe.

    Args:
        known: what anchors, archive and the last run's history hold of the case; its ledger must go on from each of them.

    Raises:
        LedgerConflict: `ledger_rewritten`, `broken_chain`: nothing may be built on this ledger; nothing was done.
    """
    case_id = start.opened.case_id
    entries = await store.entries(case_id)
    require_extends(start, entries, known)
    accepted = await executions.accepted(case_id)
    going_on = from_ledger(start, entries, {command.key: command.body_digest for command in accepted})
    recorded = {entry.key for entry in entries}
    lost = [command for command in accepted if command.key and command.key not in recorded]
    for command in lost:
        await store.defer_act(
            case_id,
            command.act.value,
            command.model_dump_json(),
            update_id=command.key,
            person=command.by.id,
            at=now,
            not_before=now + _STARTING,
        )
    await executions.start(going_on)
    return len(lost)


Look: TypeAlias = Coroutine[None, None, Difference | None]
Known: TypeAlias = Mapping[CaseId, Sequence[KnownHead]] | Exception
_STATUSES = {
    "TERMINATED": "已被终止",
    "FAILED": "已失败",
    "CANCELED": "已被取消",
    "TIMED_OUT": "已超时",
}


def _of(case: KnownCase, kind: str, detail: str) -> Difference:
    return Difference(case_id=case.case_id, district=case.district, kind=kind, detail=detail)


def _not_begun(missing: Difference, error: Exception) -> Difference:
    return missing.model_copy(update={"detail": f"{missing.detail}未能恢复:{_told(error)}"})


def _told(error: Exception) -> str:
    return error.detail if isinstance(error, DomainError) else f"{type(error).__name__}: {error}"[:300]

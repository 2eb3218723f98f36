"""Temporal's side of the cases: what runs, what has run, histories as they are; new runs and resets."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.enums.v1 import ResetReapplyType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import History, HistoryEvent
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, ResetWorkflowExecutionRequest
from temporalio.client import (
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
    WorkflowHandle,
    WorkflowHistoryEventFilterType,
    WorkflowQueryFailedError,
)
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import FailureError
from temporalio.service import RPCError, RPCStatusCode

from adapters.codec import PayloadUnreadable
from domain.case import CaseId, CaseState
from domain.commands import COMMANDS, Act, AnyCommand
from domain.ports import CaseStart, Execution, Executions, KnownHead, Recorded, RunHistory
from starter.case_client import CaseClient
from workflows import names

_RPC = timedelta(seconds=10)
_QUERY = timedelta(seconds=5)
_CASES = f"WorkflowType = '{names.CASE}'"
_EARLY = "ExecutionStatus IN ('ContinuedAsNew', 'Terminated', 'Failed', 'Canceled', 'TimedOut')"
_PROBLEMS = "ExecutionStatus = 'Running' AND TemporalReportedProblems IS NOT NULL"
_GONE = f"{_CASES} AND ExecutionStatus IN ('Terminated', 'Failed', 'Canceled', 'TimedOut')"
_REPORTED = SearchAttributeKey.for_keyword_list("TemporalReportedProblems")
_PREFIX = names.case_workflow_id(CaseId(""))
_CAUSE = "cause=WorkflowTaskFailedCause"
_MOST_LISTED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """A running workflow that does not get on: a case's, or one that keeps the house in order.

    Attributes:
        kind: `workflow_task` or `activity`.
        attempts: 0 where the server's list does not say.
        error: the newest failure, in the program's own words.
        sealed: those words are encrypted with a key that is not here, and `error` says which.
    """

    workflow_id: str
    kind: str
    attempts: int
    error: str
    since: datetime | None
    sealed: bool = False

    @property
    def case_id(self) -> CaseId:
        """The case; empty for another workflow than a case's."""
        return _case_of(self.workflow_id) if self.workflow_id.startswith(_PREFIX) else CaseId("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """How the newest run of a case ended before its case did.

    Attributes:
        status: `TERMINATED`, `FAILED`, `CANCELED`, `TIMED_OUT`; `UNKNOWN`: Temporal does not know the case.
        reason: who ended it and why, or what failed.
    """

    case_id: CaseId
    status: str
    at: datetime | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetPoint:
    """Where a run may go back to: before the workflow task that `event_id` completed.

    Attributes:
        at: when that task began; every entry from then on came later.
    """

    run_id: str
    event_id: int
    at: datetime


class TemporalExecutions(Executions):
    """Implements `domain.ports.Executions`, and what operators need beyond it."""

    def __init__(self, cases: CaseClient) -> None:
        self._cases = cases
        self._client = cases.client

    async def retention(self) -> timedelta:
        """Return how long the namespace keeps closed runs; raises when Temporal, or the namespace, is away."""
        request = DescribeNamespaceRequest(namespace=self._client.namespace)
        answer = await self._client.workflow_service.describe_namespace(request, timeout=_RPC)
        return answer.config.workflow_execution_retention_ttl.ToTimedelta()

    async def listed_running(self) -> list[CaseId]:
        """Return the cases that a list says run."""
        return [case_id for case_id, _ in await self._listed(f"{_CASES} AND ExecutionStatus = 'Running'")]

    async def listed_closed_early(self) -> list[tuple[CaseId, str]]:
        """Return (case, run) of the closed runs that did not complete."""
        return await self._listed(f"{_CASES} AND {_EARLY}")

    async def listed_with_problems(self, district: str | None) -> list[Trouble]:
        """Return the workflows of which the server itself reports that their tasks fail, in one query.

        Of a district: its own, and those that work for all districts.

        The server reports them after some failures in a row (its setting
        `system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute`), and no longer once a task has succeeded.
        """
        query = self._client.list_workflows(
            _PROBLEMS + _of_district(district, or_none=True), limit=_MOST_LISTED, rpc_timeout=_RPC
        )
        return [
            Trouble(
                workflow_id=each.id,
                kind="workflow_task",
                attempts=0,
                error="、".join(
                    problem.removeprefix(_CAUSE)
                    for problem in each.typed_search_attributes.get(_REPORTED, [])
                    if problem.startswith(_CAUSE)
                ),
                since=None,
            )
            async for each in query
        ]

    async def listed_gone(self, district: str | None) -> list[CaseId]:
        """Return cases of which some run was terminated, failed, was cancelled or timed out; another may go on."""
        query = self._client.list_workflows(
            _GONE + _of_district(district), limit=_MOST_LISTED, rpc_timeout=_RPC
        )
        return list(dict.fromkeys([_case_of(each.id) async for each in query]))

    async def gone(self, case_id: CaseId) -> Gone | None:
        """Return how the case's newest run ended; None when one goes on, or it came to its own end."""
        found = await self._describe(case_id)
        if found is None:
            return Gone(case_id=case_id, status="UNKNOWN", at=None, reason="")
        if found.close_time is None or found.status is WorkflowExecutionStatus.COMPLETED:
            return None
        closing = self._handle(case_id, found.run_id).fetch_history_events(
            event_filter_type=WorkflowHistoryEventFilterType.CLOSE_EVENT, rpc_timeout=_RPC
        )
        reasons = [await self._reason(event) async for event in closing]
        return Gone(
            case_id=case_id, status=_status(found), at=found.close_time, reason=reasons[-1] if reasons else ""
        )

    async def _reason(self, closing: HistoryEvent) -> str:
        if closing.HasField("workflow_execution_terminated_event_attributes"):
            ended = closing.workflow_execution_terminated_event_attributes
            return " ".join(filter(None, (ended.identity, ended.reason)))
        if closing.HasField("workflow_execution_failed_event_attributes"):
            told, _ = await self._told(closing.workflow_execution_failed_event_attributes.failure)
            return told
        return ""

    async def execution(self, case_id: CaseId) -> Execution | None:
        """Return what Temporal says of the case's newest run; None when it knows none."""
        found = await self._describe(case_id)
        if found is None:
            return None
        pending = found.raw_description.pending_activities
        return Execution(
            run_id=found.run_id,
            status=_status(found),
            district=found.typed_search_attributes.get(names.DISTRICT, ""),
            stage=found.typed_search_attributes.get(names.STAGE, ""),
            record_pending=any(each.activity_type.name == names.RECORD for each in pending),
        )

    async def state(self, case_id: CaseId) -> tuple[CaseState, int] | None:
        """Ask the running workflow; None when it does not answer."""
        handle = self._handle(case_id)
        try:
            state = await handle.query("state", result_type=CaseState, rpc_timeout=_QUERY)
            unrecorded = await handle.query("unrecorded", result_type=int, rpc_timeout=_QUERY)
        except (RPCError, WorkflowQueryFailedError):
            return None
        return state, unrecorded

    async def run_ids(self, case_id: CaseId) -> list[str]:
        """Return every run that Temporal still knows, oldest first: the newest run's chain, and what lists add."""
        found: dict[str, datetime] = {}
        query = f"{_CASES} AND WorkflowId = '{names.case_workflow_id(case_id)}'"
        async for each in self._client.list_workflows(query, rpc_timeout=_RPC):
            found[each.run_id] = each.start_time
        run_id: str | None = None
        while described := await self._describe(case_id, run_id):
            found[described.run_id] = described.start_time
            run_id = await self._continued_from(case_id, described.run_id)
            if not run_id:
                break
        return sorted(found, key=lambda each: found[each])

    async def history(self, case_id: CaseId, run_id: str) -> RunHistory | None:
        """Return a closed run, whole; None while it runs, or when Temporal has forgotten it."""
        described = await self._describe(case_id, run_id)
        if described is None or described.close_time is None:
            return None
        history = await self._handle(case_id, run_id).fetch_history(rpc_timeout=_RPC)
        return RunHistory(
            run_id=run_id,
            status=_status(described),
            started_at=described.start_time,
            closed_at=described.close_time,
            continued_from=_continued_from(history.events[0]),
            events=len(history.events),
            content=History(events=history.events).SerializeToString(deterministic=True),
        )

    async def start(self, start: CaseStart) -> None:
        """Start a case; with what it carries, although it has run before."""
        await self._cases.start(start)

    async def accepted(self, case_id: CaseId) -> list[AnyCommand]:
        """Return the acts that the case's newest run had accepted, as far as Temporal still knows it."""
        acts = set(Act)
        return [
            (await self._client.data_converter.decode(payloads, [COMMANDS[Act(name)]]))[0]
            for name, payloads in _updates(await self._newest_events(case_id))
            if name in acts
        ]

    async def acknowledged(self, case_id: CaseId) -> list[KnownHead]:
        """Return how far the ledger reached, as the case's newest run was told; nothing when Temporal knows none.

        What acts were answered with is no measure: they are answered while the ledger is away, too.
        """
        events, converter = await self._newest_events(case_id), self._client.data_converter
        if not events:
            return []
        handed = events[0].workflow_execution_started_event_attributes.input.payloads
        start: CaseStart = (await converter.decode(handed, [CaseStart]))[0]
        heads = [(start.carried.last.sequence, start.carried.last.hash)] if start.carried else []
        for payloads in _results(events):
            recorded: Recorded = (await converter.decode(payloads, [Recorded]))[0]
            heads.append((recorded.sequence, recorded.hash))
        return [
            KnownHead(source="办理流程的历史", sequence=sequence, hash=hash_)
            for sequence, hash_ in dict.fromkeys(heads)
        ]

    async def _newest_events(self, case_id: CaseId) -> Sequence[HistoryEvent]:
        try:
            return (await self._handle(case_id).fetch_history(rpc_timeout=_RPC)).events
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return []
            raise

    async def trouble(self, workflow_id: str) -> list[Trouble]:
        """Return what keeps a running workflow from getting on: nothing for a healthy one."""
        handle = self._client.get_workflow_handle(workflow_id)
        try:
            described = await handle.describe(rpc_timeout=_RPC)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return []
            raise
        if described.status is not WorkflowExecutionStatus.RUNNING:
            return []
        raw, found = described.raw_description, list[Trouble]()
        for each in raw.pending_activities:
            if not each.HasField("last_failure"):
                continue
            error_, sealed = await self._told(each.last_failure)
            found.append(
                Trouble(
                    workflow_id=workflow_id,
                    kind="activity",
                    attempts=each.attempt,
                    error=error_,
                    since=each.scheduled_time.ToDatetime(UTC),
                    sealed=sealed,
                )
            )
        if raw.pending_workflow_task.attempt > 1:
            error_, sealed = await self._task_failure(handle)
            found.append(
                Trouble(
                    workflow_id=workflow_id,
                    kind="workflow_task",
                    attempts=raw.pending_workflow_task.attempt,
                    error=error_,
                    since=raw.pending_workflow_task.original_scheduled_time.ToDatetime(UTC),
                    sealed=sealed,
                )
            )
        return found

    async def _task_failure(self, handle: WorkflowHandle[Any, Any]) -> tuple[str, bool]:
        history = await handle.fetch_history(rpc_timeout=_RPC)
        failed = [
            event.workflow_task_failed_event_attributes.failure
            for event in history.events
            if event.HasField("workflow_task_failed_event_attributes")
        ]
        return await self._told(failed[-1]) if failed else ("", False)

    async def _told(self, failure: Failure) -> tuple[str, bool]:
        """Return a failure's own words, decrypted, and whether the key for them is not here."""
        copied = Failure()
        copied.CopyFrom(failure)
        try:
            error = await self._client.data_converter.decode_failure(copied)
        except PayloadUnreadable as unreadable:
            return str(unreadable), True
        return error.message if isinstance(error, FailureError) else str(error), False

    async def reset_point(
        self, case_id: CaseId, *, event_id: int | None = None, build_id: str | None = None
    ) -> ResetPoint | None:
        """Return where the newest run goes back to: before an event, or before the first task of a build.

        None: there is no such task in the run.
        """
        history = await self._handle(case_id).fetch_history(rpc_timeout=_RPC)
        for event in history.events:
            if not event.HasField("workflow_task_completed_event_attributes"):
                continue
            completed = event.workflow_task_completed_event_attributes
            builds = {completed.deployment_version.build_id, completed.worker_version.build_id}
            reached = event.event_id >= event_id if event_id is not None else build_id in builds
            if reached:
                began = history.events[completed.started_event_id - 1]
                return ResetPoint(
                    run_id=history.run_id, event_id=event.event_id, at=began.event_time.ToDatetime(UTC)
                )
        return None

    async def reset(self, case_id: CaseId, point: ResetPoint, reason: str) -> str:
        """Go back to the point and do every update and signal after it again; return the new run's id."""
        request = ResetWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(
                workflow_id=names.case_workflow_id(case_id), run_id=point.run_id
            ),
            reason=reason,
            workflow_task_finish_event_id=point.event_id,
            request_id=str(uuid.uuid4()),
            reset_reapply_type=ResetReapplyType.RESET_REAPPLY_TYPE_ALL_ELIGIBLE,
        )
        answer = await self._client.workflow_service.reset_workflow_execution(request, timeout=_RPC)
        return answer.run_id

    async def terminate(self, case_id: CaseId, reason: str) -> None:
        """End the newest run; one that has ended is left alone."""
        try:
            await self._handle(case_id).terminate(reason=reason, rpc_timeout=_RPC)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise

    def _handle(self, case_id: CaseId, run_id: str | None = None) -> WorkflowHandle[object, object]:
        return self._client.get_workflow_handle(names.case_workflow_id(case_id), run_id=run_id)

    async def _describe(
        self, case_id: CaseId, run_id: str | None = None
    ) -> WorkflowExecutionDescription | None:
        try:
            return await self._handle(case_id, run_id).describe(rpc_timeout=_RPC)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return None
            raise

    async def _continued_from(self, case_id: CaseId, run_id: str) -> str:
        async for event in self._handle(case_id, run_id).fetch_history_events(page_size=1, rpc_timeout=_RPC):
            return _continued_from(event)
        return ""

    async def _listed(self, query: str) -> list[tuple[CaseId, str]]:
        return [
            (_case_of(each.id), each.run_id)
            async for each in self._client.list_workflows(query, rpc_timeout=_RPC)
            if each.id.startswith(_PREFIX)
        ]


def _case_of(workflow_id: str) -> CaseId:
    return CaseId(workflow_id.removeprefix(_PREFIX))


def _of_district(district: str | None, *, or_none: bool = False) -> str:
    """Return the condition that a list is of one district; codes are letters, digits, `_` and `-`."""
    if district is None:
        return ""
    name = names.DISTRICT.name
    return f" AND ({name} = '{district}' OR {name} IS NULL)" if or_none else f" AND {name} = '{district}'"


def _status(found: WorkflowExecutionDescription) -> str:
    return found.status.name if found.status is not None else "UNKNOWN"


def _continued_from(first: HistoryEvent) -> str:
    return first.workflow_execution_started_event_attributes.continued_execution_run_id


def _results(events: Iterable[HistoryEvent]) -> Iterable[Sequence[Payload]]:
    """Give what the ledger answered: a case calls no other activity, local or not."""
    for event in events:
        if event.HasField("activity_task_completed_event_attributes"):
            yield event.activity_task_completed_event_attributes.result.payloads
        elif event.HasField("marker_recorded_event_attributes"):
            details = event.marker_recorded_event_attributes.details
            if "result" in details and details["result"].payloads:
                yield details["result"].payloads


def _updates(events: Iterable[HistoryEvent]) -> Iterable[tuple[str, Sequence[Payload]]]:
    """Give name and arguments of every update that was let in; one that a reset brought along stands as admitted."""
    for event in events:
        if event.HasField("workflow_execution_update_accepted_event_attributes"):
            request = event.workflow_execution_update_accepted_event_attributes.accepted_request
        elif event.HasField("workflow_execution_update_admitted_event_attributes"):
            request = event.workflow_execution_update_admitted_event_attributes.request
        else:
            continue
        if request.input.name:
            yield request.input.name, request.input.args.payloads

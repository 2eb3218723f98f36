"""Our own workflow code over the events of a history, without the SDK's machinery between them.

The SDK's replayer hands every task through its core, two event loops and six walks over its messages: three quarters
of a verification. Here the same instance that a worker runs is given what the history says happened, task by task,
and what it wants done must be, command by command, what the history says was done. That is all that a replay proves.

It knows the events that a case's ordinary life has. Anything else, and anything that does not match to the letter, is
`Unrehearsable`: then the SDK's replayer decides, and only its word accuses anybody.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio import workflow
from temporalio.api.common.v1 import Payload, Payloads, SearchAttributes
from temporalio.api.history.v1 import HistoryEvent
from temporalio.bridge.proto.workflow_activation import WorkflowActivation, WorkflowActivationJob
from temporalio.bridge.proto.workflow_commands import WorkflowCommand
from temporalio.client import WorkflowHistory
from temporalio.common import Priority, TypedSearchAttributes
from temporalio.converter import DefaultFailureConverter, PayloadConverter
from temporalio.worker import (
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInstance,
    WorkflowInstanceDetails,
)

_NAMESPACE = "rehearsal"
_LOCAL_ACTIVITY_KNOWN = "__temporal_assert_local_activity_valid"
"""What an instance asks its worker before each local activity; there is no worker here."""


class Unrehearsable(Exception):
    """This history holds something else than a case's ordinary life; the SDK's replayer has to look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a workflow is rehearsed with.

    Attributes:
        workflow: the class, as a worker registers it.
        interceptor: sees what the workflow does.
        extern_functions: what the interceptor reaches by `workflow.extern_functions()`.
        converter: reads what stands in the history.
        worded: search attributes that are made for reading: another version may word them differently.
    """

    workflow: type
    interceptor: type[WorkflowInboundInterceptor]
    extern_functions: Mapping[str, Callable[..., Any]]
    converter: PayloadConverter
    worded: frozenset[str] = frozenset()


@dataclass(slots=True)
class _Task:
    """A workflow task: what had happened before it, and what the workflow wanted done in it."""

    started: HistoryEvent
    completed: HistoryEvent
    before: list[HistoryEvent]
    after: list[HistoryEvent] = field(default_factory=list)


def rehearse(stage: Stage, history: WorkflowHistory) -> None:
    """Run the workflow over its history, to the end of the last workflow task.

    Must be called where no event loop runs: the workflow is one itself.

    Raises:
        Unrehearsable: see there. What the interceptor was told until then is worth nothing.
    """
    try:
        _rehearse(stage, history)
    except (LookupError, ValueError, TypeError) as error:  # events that no server writes
        raise Unrehearsable(repr(error)) from error


def _rehearse(stage: Stage, history: WorkflowHistory) -> None:
    tasks = list(_tasks(history.events))
    if not tasks:
        raise Unrehearsable("no task")
    flags = _flags(history.events)
    instance = _instance(stage, history, tasks[0].started.event_time)
    try:
        for number, task in enumerate(tasks):
            first = history.events[0] if number == 0 else None
            _play(instance, task, first, history.workflow_id, flags, stage.worded)
    finally:
        evicted = WorkflowActivation(run_id=history.run_id)
        evicted.jobs.add().remove_from_cache.SetInParent()
        instance.activate(evicted)


# --- reading the history -----------------------------------------------------------------------------------

_WANTED = frozenset(
    {
        "timer_started_event_attributes",
        "timer_canceled_event_attributes",
        "marker_recorded_event_attributes",
        "upsert_workflow_search_attributes_event_attributes",
        "workflow_execution_update_accepted_event_attributes",
        "workflow_execution_update_completed_event_attributes",
        "workflow_execution_completed_event_attributes",
    }
)


def _tasks(events: Sequence[HistoryEvent]) -> Iterator[_Task]:
    task: _Task | None = None
    before: list[HistoryEvent] = []
    scheduled = started = None
    timers: dict[str, int] = {}
    if [event.event_id for event in events] != list(range(1, len(events) + 1)):
        raise Unrehearsable("event ids")
    for event in events[1:]:
        kind = event.WhichOneof("attributes")
        if kind in _WANTED and task is not None and not before and scheduled is None:
            _require(event, workflow_task_completed_event_id=task.completed.event_id)
            if kind == "timer_started_event_attributes":
                timers[event.timer_started_event_attributes.timer_id] = event.event_id
            elif kind == "timer_canceled_event_attributes":
                timer = event.timer_canceled_event_attributes.timer_id
                _require(event, started_event_id=timers.pop(timer))
            task.after.append(event)
        elif kind == "timer_fired_event_attributes" and scheduled is None:
            timer = event.timer_fired_event_attributes.timer_id
            _require(event, started_event_id=timers.pop(timer))
            before.append(event)
        elif kind == "workflow_task_scheduled_event_attributes" and scheduled is None:
            scheduled = event
        elif kind == "workflow_task_started_event_attributes" and scheduled is not None and started is None:
            _require(event, scheduled_event_id=scheduled.event_id)
            started = event
        elif (
            kind == "workflow_task_completed_event_attributes"
            and scheduled is not None
            and started is not None
        ):
            _require(event, scheduled_event_id=scheduled.event_id, started_event_id=started.event_id)
            if task is not None:
                yield task
            task, before = _Task(started, event, before), []
            scheduled = started = None
        else:
            raise Unrehearsable(kind)
    if before or scheduled is not None:
        raise Unrehearsable("a task that is under way")
    if task is not None:
        yield task


def _require(event: HistoryEvent, **references: int) -> None:
    """See that an event names the events that it belongs to."""
    attributes = getattr(event, event.WhichOneof("attributes") or "")
    if any(getattr(attributes, name, event_id) != event_id for name, event_id in references.items()):
        raise Unrehearsable("event references")


def _flags(events: Sequence[HistoryEvent]) -> list[int]:
    found: set[int] = set()
    for event in events:
        if event.HasField("workflow_task_completed_event_attributes"):
            found.update(event.workflow_task_completed_event_attributes.sdk_metadata.lang_used_flags)
    return sorted(found)


def _instance(stage: Stage, history: WorkflowHistory, began: Timestamp) -> WorkflowInstance:
    attributes = history.events[0].workflow_execution_started_event_attributes
    definition = workflow._Definition.must_from_class(stage.workflow)  # noqa: SLF001 - as the SDK's workers ask
    if attributes.workflow_type.name != definition.name:
        raise Unrehearsable(attributes.workflow_type.name)
    info = workflow.Info(
        attempt=attributes.attempt,
        continued_run_id=attributes.continued_execution_run_id or None,
        cron_schedule=None,
        execution_timeout=None,
        first_execution_run_id=attributes.first_execution_run_id,
        headers={},
        namespace=_NAMESPACE,
        original_execution_run_id=attributes.original_execution_run_id,
        parent=None,
        root=None,
        raw_memo={},
        retry_policy=None,
        run_id=attributes.original_execution_run_id,
        run_timeout=None,
        search_attributes={},
        start_time=began.ToDatetime(UTC),
        workflow_start_time=history.events[0].event_time.ToDatetime(UTC),
        task_queue=attributes.task_queue.name,
        task_timeout=attributes.workflow_task_timeout.ToTimedelta(),
        typed_search_attributes=TypedSearchAttributes([]),
        workflow_id=history.workflow_id,
        workflow_type=attributes.workflow_type.name,
        priority=Priority(),
    )
    details = WorkflowInstanceDetails(
        payload_converter_factory=lambda: stage.converter,
        failure_converter_class=DefaultFailureConverter,
        interceptor_classes=[stage.interceptor],
        defn=definition,
        info=info,
        randomness_seed=0,  # a case draws no lots
        extern_functions={_LOCAL_ACTIVITY_KNOWN: lambda _: None, **stage.extern_functions},
        disable_eager_activity_execution=True,
        worker_level_failure_exception_types=[],
        patch_activation_callback=None,
        last_completion_result=Payloads(),
        last_failure=None,
    )

    async def made() -> WorkflowInstance:  # an instance is made inside a loop and lives outside
        return UnsandboxedWorkflowRunner().create_instance(details)

    return asyncio.run(made())


# --- playing it --------------------------------------------------------------------------------------------


def _play(
    instance: WorkflowInstance,
    task: _Task,
    first: HistoryEvent | None,
    workflow_id: str,
    flags: Sequence[int],
    worded: frozenset[str],
) -> None:
    """Give a task to the workflow, and its local activities' results as they came; hold what it wants against it."""
    begun = task.started.workflow_task_started_event_attributes
    activation = WorkflowActivation(
        timestamp=task.started.event_time,
        is_replaying=True,
        history_length=task.started.event_id,
        history_size_bytes=begun.history_size_bytes,
        continue_as_new_suggested=begun.suggest_continue_as_new,
        available_internal_flags=flags,
    )
    if first is not None:
        _initialize(activation.jobs.add(), first, workflow_id)
    for event in task.after:
        if event.HasField("workflow_execution_update_accepted_event_attributes"):
            _update(activation.jobs.add(), event)
    for event in task.before:
        activation.jobs.add().fire_timer.seq = int(event.timer_fired_event_attributes.timer_id)
    wanted = _commands(instance, activation)
    results = _LocalResults(task.after)
    asked = {command.schedule_local_activity.seq for command in wanted if _is_local(command)}
    while asked:
        del activation.jobs[:]
        moment = results.hand_over(asked, activation)
        if moment.ToNanoseconds() > activation.timestamp.ToNanoseconds():
            activation.timestamp.CopyFrom(moment)
        more = _commands(instance, activation)
        asked |= {command.schedule_local_activity.seq for command in more if _is_local(command)}
        wanted += more
    if not results.are_all_handed_over:
        raise Unrehearsable("a result that nobody asked for")
    if list(_wishes(wanted, worded)) != list(_done(task.after, worded)):
        raise Unrehearsable("the commands differ")


def _commands(instance: WorkflowInstance, activation: WorkflowActivation) -> list[WorkflowCommand]:
    completion = instance.activate(activation)
    if completion.HasField("failed"):
        raise Unrehearsable(completion.failed.failure.message)
    return list(completion.successful.commands)


def _is_local(command: WorkflowCommand) -> bool:
    return command.HasField("schedule_local_activity")


def _initialize(job: WorkflowActivationJob, event: HistoryEvent, workflow_id: str) -> None:
    started = event.workflow_execution_started_event_attributes
    job.initialize_workflow.workflow_type = started.workflow_type.name
    job.initialize_workflow.workflow_id = workflow_id
    job.initialize_workflow.arguments.extend(started.input.payloads)
    job.initialize_workflow.start_time.CopyFrom(event.event_time)


def _update(job: WorkflowActivationJob, event: HistoryEvent) -> None:
    accepted = event.workflow_execution_update_accepted_event_attributes
    job.do_update.id = accepted.accepted_request.meta.update_id
    job.do_update.protocol_instance_id = accepted.protocol_instance_id
    job.do_update.name = accepted.accepted_request.input.name
    job.do_update.input.extend(accepted.accepted_request.input.args.payloads)


class _LocalResults:
    """The results of local activities that a task recorded, in the order in which the workflow was told of them."""

    def __init__(self, after: Sequence[HistoryEvent]) -> None:
        self._waiting: list[tuple[int, int, Timestamp, Payload]] = []
        for event in after:
            if not event.HasField("marker_recorded_event_attributes"):
                continue
            marker = event.marker_recorded_event_attributes
            if marker.marker_name != "core_local_activity" or marker.HasField("failure"):
                raise Unrehearsable(marker.marker_name)
            told = json.loads(marker.details["data"].payloads[0].data)
            (result,) = marker.details["result"].payloads
            moment = Timestamp(**told["complete_time"])
            self._waiting.append((told.get("activation_index", 0), told["seq"], moment, result))

    @property
    def are_all_handed_over(self) -> bool:
        return not self._waiting

    def hand_over(self, asked: set[int], activation: WorkflowActivation) -> Timestamp:
        """Tell the workflow of those that it was told of together, the next ones; return when that was."""
        if not self._waiting:
            raise Unrehearsable("a local activity that goes on in the next task")
        together = min(index for index, *_ in self._waiting)
        told = [each for each in self._waiting if each[0] == together]
        for _, seq, _, result in told:
            if seq not in asked:
                raise Unrehearsable("a result before its question")
            asked.discard(seq)
            resolved = activation.jobs.add().resolve_activity
            resolved.seq, resolved.is_local = seq, True
            resolved.result.completed.result.CopyFrom(result)
        self._waiting = [each for each in self._waiting if each[0] != together]
        return told[-1][2]


# --- comparing ---------------------------------------------------------------------------------------------


def _wishes(wanted: Sequence[WorkflowCommand], worded: frozenset[str]) -> Iterator[tuple[object, ...]]:
    """Yield what is left to be done: a timer that is called off in the task that sets it is never set."""
    called_off = {command.cancel_timer.seq for command in wanted if command.HasField("cancel_timer")}
    set_here = {command.start_timer.seq for command in wanted if command.HasField("start_timer")}
    for command in wanted:
        timer = command.start_timer.seq or command.cancel_timer.seq
        if not _is_local(command) and timer not in called_off & set_here:
            yield _wish(command, worded)


def _wish(command: WorkflowCommand, worded: frozenset[str]) -> tuple[object, ...]:
    """Return what a command asks for, as `_done` tells it."""
    kind = command.WhichOneof("variant")
    if kind == "update_response":
        answer = command.update_response
        return answer.WhichOneof("response"), answer.protocol_instance_id
    if kind == "start_timer":
        return kind, command.start_timer.seq, command.start_timer.start_to_fire_timeout.ToNanoseconds()
    if kind == "cancel_timer":
        return kind, command.cancel_timer.seq
    if kind == "upsert_workflow_search_attributes":
        return kind, _fields(command.upsert_workflow_search_attributes.search_attributes, worded)
    if kind == "complete_workflow_execution":
        return (kind,)
    raise Unrehearsable(str(kind))


def _done(after: Sequence[HistoryEvent], worded: frozenset[str]) -> Iterator[tuple[object, ...]]:
    accepted: dict[int, str] = {}
    for event in after:
        if event.HasField("workflow_execution_update_accepted_event_attributes"):
            instance = event.workflow_execution_update_accepted_event_attributes.protocol_instance_id
            accepted[event.event_id] = instance
            yield "accepted", instance
        elif event.HasField("workflow_execution_update_completed_event_attributes"):
            completed = event.workflow_execution_update_completed_event_attributes
            kind = "completed" if completed.outcome.HasField("success") else "rejected"
            yield kind, accepted.get(completed.accepted_event_id, "")
        elif event.HasField("timer_started_event_attributes"):
            timer = event.timer_started_event_attributes
            yield "start_timer", int(timer.timer_id), timer.start_to_fire_timeout.ToNanoseconds()
        elif event.HasField("timer_canceled_event_attributes"):
            yield "cancel_timer", int(event.timer_canceled_event_attributes.timer_id)
        elif event.HasField("upsert_workflow_search_attributes_event_attributes"):
            upsert = event.upsert_workflow_search_attributes_event_attributes
            yield "upsert_workflow_search_attributes", _fields(upsert.search_attributes, worded)
        elif event.HasField("workflow_execution_completed_event_attributes"):
            yield ("complete_workflow_execution",)


def _fields(attributes: SearchAttributes, worded: frozenset[str]) -> list[tuple[str, bytes]]:
    fields = attributes.indexed_fields
    return sorted((name, payload.data) for name, payload in fields.items() if name not in worded)

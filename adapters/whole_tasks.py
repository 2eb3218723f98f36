"""Workflows are told of nothing outside a workflow task: no clock is kept by a query.

The SDK (1.35) serves a query that waited for a worker with the history of that moment. If it ends with "timer fired",
before the task that takes it in has begun, the SDK hands the timer to the workflow all the same, with the time of the
task before, and sends what came of it with the next task. A clock would then start anew for as long as it had run
already, and no later replay would come to the same.

A query that was waiting and comes while a task waits for its local activity is as bad: once it is answered the SDK
takes the task for done, and tells nobody. Ten seconds later the server gives the task out anew, as begun at a later
moment than what the ledger has. Without the answer the SDK forgets the workflow, and the task that comes again finds in
the ledger what it had written (`domain.standing`).
"""

from collections.abc import Sequence
from typing import Any

from temporalio.bridge.proto.workflow_activation import WorkflowActivation, WorkflowActivationJob
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

_WAITED = "legacy_query"
"""The SDK's name for a query that waited for a worker; one that came with a task has its own, and harms nothing."""
_CLOCKS_APART = 1_000_000_000
"""By how much, in nanoseconds, a timer may seem to ring early: the clocks of the server's machines differ a little."""


class WholeTasks(WorkflowRunner):
    """Runs workflows as another runner does, and leaves out what the SDK tells them outside a task."""

    def __init__(self, runner: WorkflowRunner) -> None:
        self._runner = runner

    def prepare_workflow(self, defn: Any) -> None:
        """Let the runner prepare it; `Any`: the library's own type is private."""
        self._runner.prepare_workflow(defn)

    def set_worker_level_failure_exception_types(self, types: Sequence[type[BaseException]]) -> None:
        """Tell the runner."""
        self._runner.set_worker_level_failure_exception_types(types)

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Return the runner's instance, guarded."""
        return _Guarded(self._runner.create_instance(det))


class _Guarded(WorkflowInstance):
    """One cached workflow, and from when on its timers may ring."""

    def __init__(self, instance: WorkflowInstance) -> None:
        self._instance = instance
        self._may_ring_from: dict[int, int] = {}  # by the timer's number, in nanoseconds since 1970
        self._held: list[WorkflowActivationJob] = []
        self._local: set[int] = set()  # numbers of the local activities that the task waits for

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        """Pass it on, unless a timer rings before its time: then the query behind it fails, to be asked once more.

        So does one that comes while the task waits for a local activity.

        With the failure the SDK forgets the workflow, and reads it anew from its history when the task comes.
        """
        if any(job.HasField("remove_from_cache") for job in act.jobs):
            return self._instance.activate(act)
        if (self._held or self._local) and all(job.query_workflow.query_id == _WAITED for job in act.jobs):
            failed = WorkflowActivationCompletion(run_id=act.run_id)
            failed.failed.failure.message = "查询与一项尚未开始的工作流任务同时到达,请再查询一次。"
            return failed
        now = act.timestamp.ToNanoseconds()
        rings = [job.fire_timer.seq for job in act.jobs if job.HasField("fire_timer")]
        if any(now + _CLOCKS_APART < self._may_ring_from.pop(timer, 0) for timer in rings):
            self._held += act.jobs
            nothing = WorkflowActivationCompletion(run_id=act.run_id)
            nothing.successful.SetInParent()
            return nothing
        self._local -= {job.resolve_activity.seq for job in act.jobs if job.HasField("resolve_activity")}
        if self._held:  # it was a task after all
            act.jobs.extend(self._held)
            self._held = []
        completion = self._instance.activate(act)
        for command in completion.successful.commands:
            if command.HasField("start_timer"):
                lasts = command.start_timer.start_to_fire_timeout.ToNanoseconds()
                self._may_ring_from[command.start_timer.seq] = now + lasts
            elif command.HasField("cancel_timer"):
                self._may_ring_from.pop(command.cancel_timer.seq, None)
            elif command.HasField("schedule_local_activity"):
                self._local.add(command.schedule_local_activity.seq)
        return completion

    def get_serialization_context(self, command_info: Any) -> Any:
        """As the instance has it; `Any`: the library's own types are private."""
        return self._instance.get_serialization_context(command_info)

    def get_external_store_context(self, command_info: Any) -> Any:
        """As the instance has it."""
        return self._instance.get_external_store_context(command_info)

    def get_thread_id(self) -> int | None:
        """As the instance has it."""
        return self._instance.get_thread_id()

    def get_info(self) -> Any:
        """As the instance has it."""
        return self._instance.get_info()

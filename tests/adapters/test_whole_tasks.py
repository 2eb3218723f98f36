"""A timer that the SDK lets ring for a query, ahead of its task, never reaches a workflow."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from temporalio.bridge.proto.workflow_activation import WorkflowActivation
from temporalio.bridge.proto.workflow_completion import WorkflowActivationCompletion
from temporalio.worker import WorkflowInstance, WorkflowInstanceDetails, WorkflowRunner

from adapters.whole_tasks import WholeTasks

BEGAN = datetime(2026, 3, 4, 9, tzinfo=UTC)
LIMIT = timedelta(hours=8)


class SetsATimer(WorkflowInstance):
    """Answers its first activation with a timer, and an update with a local activity; keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[list[str]] = []

    def activate(self, act: WorkflowActivation) -> WorkflowActivationCompletion:
        self.told.append([str(job.WhichOneof("variant")) for job in act.jobs])
        completion = WorkflowActivationCompletion(run_id=act.run_id)
        completion.successful.SetInParent()
        if len(self.told) == 1:
            timer = completion.successful.commands.add().start_timer
            timer.seq = 1
            timer.start_to_fire_timeout.FromTimedelta(LIMIT)
        if any(job.HasField("do_update") for job in act.jobs):
            completion.successful.commands.add().schedule_local_activity.seq = 1
        return completion

    def get_serialization_context(self, command_info: Any) -> Any:
        return command_info

    def get_external_store_context(self, command_info: Any) -> Any:
        return command_info

    def get_info(self) -> Any:
        return None


class Runner(WorkflowRunner):
    """Gives out one instance."""

    def __init__(self, instance: WorkflowInstance) -> None:
        self.instance = instance

    def prepare_workflow(self, defn: Any) -> None:
        del defn

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        del det
        return self.instance


def guarded() -> tuple[SetsATimer, WorkflowInstance]:
    inner = SetsATimer()
    outer = WholeTasks(Runner(inner)).create_instance(cast("WorkflowInstanceDetails", None))
    outer.activate(activation(BEGAN, "initialize_workflow"))
    return inner, outer


def activation(at: datetime, *jobs: str, query: str = "legacy_query") -> WorkflowActivation:
    act = WorkflowActivation(run_id="run")
    act.timestamp.FromDatetime(at)
    for job in jobs:
        getattr(act.jobs.add(), job).SetInParent()
        if job == "fire_timer":
            act.jobs[-1].fire_timer.seq = 1
        if job == "resolve_activity":
            act.jobs[-1].resolve_activity.seq = 1
        if job == "query_workflow":
            act.jobs[-1].query_workflow.query_id = query
    return act


def test_a_timer_rings_when_its_time_has_come() -> None:
    inner, outer = guarded()
    assert outer.activate(activation(BEGAN + LIMIT, "fire_timer")).HasField("successful")
    assert inner.told[1:] == [["fire_timer"]]


def test_clocks_of_the_servers_machines_may_differ_a_little() -> None:
    inner, outer = guarded()
    outer.activate(activation(BEGAN + LIMIT - timedelta(milliseconds=300), "fire_timer"))
    assert inner.told[1:] == [["fire_timer"]]


def test_a_timer_ahead_of_its_task_is_kept_from_the_workflow_and_the_query_behind_it_fails() -> None:
    inner, outer = guarded()
    completion = outer.activate(activation(BEGAN, "fire_timer"))
    assert completion.HasField("successful")
    assert not completion.successful.commands
    asked = outer.activate(activation(BEGAN, "query_workflow"))
    assert asked.failed.failure.message == "查询与一项尚未开始的工作流任务同时到达,请再查询一次。"
    outer.activate(activation(BEGAN, "remove_from_cache"))
    assert inner.told[1:] == [["remove_from_cache"]]


def test_what_was_kept_back_is_told_with_the_next_task_if_no_query_was_behind_it() -> None:
    inner, outer = guarded()
    outer.activate(activation(BEGAN, "fire_timer"))
    outer.activate(activation(BEGAN + LIMIT, "do_update"))
    assert inner.told[1:] == [["do_update", "fire_timer"]]


def test_a_query_that_waited_fails_while_a_task_waits_for_its_local_activity_and_not_after() -> None:
    inner, outer = guarded()
    outer.activate(activation(BEGAN, "do_update"))
    assert outer.activate(activation(BEGAN, "query_workflow")).HasField("failed")
    outer.activate(activation(BEGAN, "resolve_activity"))
    assert outer.activate(activation(BEGAN, "query_workflow")).HasField("successful")
    assert inner.told[1:] == [["do_update"], ["resolve_activity"], ["query_workflow"]]


def test_a_query_that_came_with_the_task_is_answered() -> None:
    inner, outer = guarded()
    outer.activate(activation(BEGAN, "do_update"))
    assert outer.activate(activation(BEGAN, "query_workflow", query="1")).HasField("successful")
    assert inner.told[1:] == [["do_update"], ["query_workflow"]]

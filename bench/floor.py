"""The floor: a workflow with as many updates and local activities as a case has, and no logic at all.

Run as a program it is the floor's worker, a process of its own as the product's is: `ADDRESS sandboxed|bare|shown`.
`sandboxed` is the SDK's default, `bare` is without the SDK's sandbox, `shown` is bare and shows operators as much as a
case does: as many upserts of search attributes and as many summaries. What is between the last two is what Temporal asks for
being looked at; what is between the last and a case is our own.
"""

import asyncio
import signal
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.common import SearchAttributeKey
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

RUNNERS: dict[str, type[WorkflowRunner]] = {
    "sandboxed": SandboxedWorkflowRunner,
    "bare": UnsandboxedWorkflowRunner,
    "shown": UnsandboxedWorkflowRunner,
}
STAGE = SearchAttributeKey.for_keyword("Stage")
NEXT_DEADLINE = SearchAttributeKey.for_datetime("NextDeadline")
CASE_LABEL = SearchAttributeKey.for_keyword("CaseLabel")
UPSERTS, OF_ACTS = 9, 19
"""So many times a case of so many acts changes what operators' lists show."""


def queue(runner: str) -> str:
    """Return the task queue of the floor under this runner."""
    return f"bench-floor-{runner}"


@activity.defn
async def nothing(number: int) -> int:
    """Do nothing."""
    return number


@workflow.defn(name="Floor")
class Floor:
    """Takes a number of updates, each with one local activity, and ends."""

    def __init__(self) -> None:
        self._taken = 0
        self._shown = False

    @workflow.run
    async def run(self, updates: int, shown: bool) -> int:
        """Record the opening, as a case does, and wait for the updates."""
        self._shown = shown
        await self._local()
        await workflow.wait_condition(lambda: self._taken >= updates and workflow.all_handlers_finished())
        return self._taken

    @workflow.update
    async def act(self, number: int) -> int:
        """Take one update."""
        if self._shown and number * UPSERTS % OF_ACTS < UPSERTS:
            stage = f"stage-{number}"
            workflow.upsert_search_attributes(
                [
                    STAGE.value_set(stage),
                    NEXT_DEADLINE.value_set(workflow.now()),
                    CASE_LABEL.value_set(f"峨山镇·散乱污企业·{stage}"),
                ]
            )
        await self._local()
        self._taken += 1
        return number

    async def _local(self) -> None:
        await workflow.execute_local_activity(
            nothing,
            self._taken,
            schedule_to_close_timeout=timedelta(seconds=10),
            summary=f"台账{self._taken}:区综合行政执法局签收" if self._shown else None,
        )


async def main() -> None:
    """Work until SIGTERM."""
    address, runner = sys.argv[1:]
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with Worker(
        client,
        task_queue=queue(runner),
        workflows=[Floor],
        activities=[nothing],
        workflow_runner=RUNNERS[runner](),
        max_concurrent_workflow_tasks=40,
    ):
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(main())

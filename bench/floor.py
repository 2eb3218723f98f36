"""The floor: a workflow with as many updates and local activities as a case has, and no logic at all.

Run as a program it is the floor's worker, a process of its own as the product's is: `ADDRESS sandboxed|bare`.
`sandboxed` is the SDK's default, `bare` is without the SDK's sandbox.
"""

import asyncio
import signal
import sys
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

RUNNERS: dict[str, type[WorkflowRunner]] = {
    "sandboxed": SandboxedWorkflowRunner,
    "bare": UnsandboxedWorkflowRunner,
}


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

    @workflow.run
    async def run(self, updates: int) -> int:
        """Record the opening, as a case does, and wait for the updates."""
        await self._local()
        await workflow.wait_condition(lambda: self._taken >= updates and workflow.all_handlers_finished())
        return self._taken

    @workflow.update
    async def act(self, number: int) -> int:
        """Take one update."""
        await self._local()
        self._taken += 1
        return number

    async def _local(self) -> None:
        await workflow.execute_local_activity(
            nothing, self._taken, schedule_to_close_timeout=timedelta(seconds=10)
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

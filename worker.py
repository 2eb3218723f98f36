"""The worker: settings → adapters → activities → Worker. No rules in here."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
import uvloop
from temporalio.client import Client
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig, WorkflowRunner
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

from activities.anchor import AnchorActivities, NoKey
from activities.archive import ArchiveActivities
from activities.notices import NoticeActivities
from activities.reconcile import ReconcileActivities
from activities.record import RecordActivities
from adapters.anchors import AnchorKeeper
from adapters.archive import open_archive
from adapters.logs import configure_logging
from adapters.senders import LogSender
from adapters.settings import Settings
from adapters.signing import SigningKey
from adapters.store import Store, open_store
from adapters.temporal import connect, register_search_attributes
from adapters.whole_tasks import WholeTasks
from adapters.witnesses import LedgerWitnesses, witnesses_of
from domain.ports import Anchors, Ledger, Outbox, Witnesses
from starter import versions
from starter.case_client import CaseClient
from starter.executions import TemporalExecutions
from starter.schedules import ensure_schedules
from workflows import names
from workflows.anchor import Anchor
from workflows.case import Case
from workflows.notices import Notices
from workflows.upkeep import Archive, Reconcile

_UNDECLARED_IMPORTS = (
    SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
    | SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
)
_RECONNECT_PAUSE = 1.0
_MOST_WORKFLOW_TASKS = 40
"""A burst of starts above this trips the SDK's two-second deadlock detector."""
_GARBAGE_AFTER = 20_000
"""How many new objects bring a search for garbage: a worker makes many that live on, in cached cases."""


SANDBOX = SandboxedWorkflowRunner(
    restrictions=replace(SandboxRestrictions.default, import_notification_policy=_UNDECLARED_IMPORTS)
)
"""What tests run workflows in: impure calls and undeclared imports fail there. It costs a third of a worker's time."""


def create_worker(
    client: Client,
    ledger: Ledger,
    outbox: Outbox,
    *,
    anchors: Anchors | None = None,
    task_queue: str = names.TASK_QUEUE,
    workflow_runner: WorkflowRunner = SANDBOX,
    upkeep: Sequence[Callable[..., Any]] = (),
    deployment: WorkerDeploymentConfig | None = None,
) -> Worker:
    """Wire the worker; tests use this too, so that what they run is what runs.

    Args:
        workflow_runner: the sandbox by default, as every test wants it.
        upkeep: the activities behind the schedules, see `upkeep_activities`.
        deployment: which version of the code this is; None without versioning.
    """
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[Case, Notices, Archive, Reconcile, Anchor],
        activities=[
            RecordActivities(ledger).record,
            NoticeActivities(outbox, [LogSender()], lambda: datetime.now(UTC)).deliver_notices,
            AnchorActivities(anchors or NoKey(), lambda: datetime.now(UTC)).anchor,
            *upkeep,
        ],
        workflow_runner=WholeTasks(workflow_runner),
        max_concurrent_workflow_tasks=_MOST_WORKFLOW_TASKS,
        deployment_config=deployment,
    )


def upkeep_activities(
    store: Store, executions: TemporalExecutions, archive: str | None, witnesses: Witnesses | None = None
) -> list[Callable[..., Any]]:
    """Wire what the schedules call.

    Args:
        witnesses: what ledgers are held against before a case goes on from one; the database's anchors by default.
    """
    witnesses = witnesses or LedgerWitnesses(store)
    reconciling = ReconcileActivities(store, executions, witnesses, lambda: datetime.now(UTC))
    if archive is None:
        return [reconciling.reconcile]
    archiving = ArchiveActivities(open_archive(archive), store, executions, lambda: datetime.now(UTC))
    return [reconciling.reconcile, archiving.archive_early_runs, archiving.archive_cases]


async def main() -> None:
    """Run until SIGINT or SIGTERM, then let what is under way finish."""
    gc.freeze()  # what was imported stays: looking through it for garbage again and again costs a twentieth
    gc.set_threshold(_GARBAGE_AFTER)
    stop = asyncio.Event()  # first of all: as number 1 of a container, a signal that nobody handles is lost
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = Settings()
    configure_logging()
    store = open_store(settings)
    anchors = _anchors(settings, store)
    client = await _reach_temporal(stop)
    if client is not None:
        await _work(client, store, anchors, settings, stop)
    await store.close()


async def _work(
    client: Client, store: Store, anchors: Anchors | None, settings: Settings, stop: asyncio.Event
) -> None:
    executions = TemporalExecutions(CaseClient(client, within=settings.temporal_within))
    upkeep = upkeep_activities(store, executions, settings.archive, witnesses_of(settings, store))
    deployment = versions.deployment(settings)
    await ensure_schedules(client, settings)
    wanted = settings.worker_versioning == "current"
    async with (
        create_worker(
            client,
            store,
            store,
            anchors=anchors,
            workflow_runner=UnsandboxedWorkflowRunner(),
            upkeep=upkeep,
            deployment=deployment,
        ),
        versions.made_current(client, deployment, wanted=wanted),
    ):
        await stop.wait()


def _anchors(settings: Settings, store: Store) -> Anchors | None:
    if settings.audit_key is None:
        return None
    return AnchorKeeper(store, SigningKey.load(settings.audit_key.get_secret_value()), settings.anchor_dir)


async def _reach_temporal(stop: asyncio.Event) -> Client | None:
    """Wait for Temporal and its namespace rather than leave: they may come up after us. None when told to stop."""
    while not stop.is_set():
        try:
            client = await connect(lazy=False)
            await register_search_attributes(client, names.SEARCH_ATTRIBUTES)
        except (RuntimeError, RPCError) as error:
            structlog.get_logger().warning("temporal_not_reached", reason=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _RECONNECT_PAUSE)
        else:
            return client
    return None


if __name__ == "__main__":
    uvloop.run(main())

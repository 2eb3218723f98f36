"""The worker: settings → adapters → activities → Worker. No rules in here."""

import asyncio
import signal
from dataclasses import replace
from datetime import UTC, datetime

import structlog
from temporalio.client import Client
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions
from temporalio.workflow import SandboxImportNotificationPolicy

from activities.anchor import AnchorActivities, NoKey
from activities.notices import NoticeActivities
from activities.record import RecordActivities
from adapters.anchors import AnchorKeeper
from adapters.logs import configure_logging
from adapters.senders import LogSender
from adapters.settings import Settings
from adapters.signing import SigningKey
from adapters.store import Store
from adapters.temporal import connect, register_search_attributes
from domain.ports import Anchors, Ledger, Outbox
from workflows import names
from workflows.anchor import Anchor
from workflows.case import Case
from workflows.notices import Notices

_UNDECLARED_IMPORTS = (
    SandboxImportNotificationPolicy.WARN_ON_DYNAMIC_IMPORT
    | SandboxImportNotificationPolicy.RAISE_ON_UNINTENTIONAL_PASSTHROUGH
)
_RECONNECT_PAUSE = 1.0
_MOST_WORKFLOW_TASKS = 40
"""A burst of starts above this trips the SDK's two-second deadlock detector."""


def create_worker(
    client: Client,
    ledger: Ledger,
    outbox: Outbox,
    *,
    anchors: Anchors | None = None,
    task_queue: str = names.TASK_QUEUE,
) -> Worker:
    """Wire the worker; tests use this too, so that what they run is what runs."""
    restrictions = replace(SandboxRestrictions.default, import_notification_policy=_UNDECLARED_IMPORTS)
    return Worker(
        client,
        task_queue=task_queue,
        workflows=[Case, Notices, Anchor],
        activities=[
            RecordActivities(ledger).record,
            NoticeActivities(outbox, [LogSender()], lambda: datetime.now(UTC)).deliver_notices,
            AnchorActivities(anchors or NoKey(), lambda: datetime.now(UTC)).anchor,
        ],
        workflow_runner=SandboxedWorkflowRunner(restrictions=restrictions),
        max_concurrent_workflow_tasks=_MOST_WORKFLOW_TASKS,
    )


async def main() -> None:
    """Run until SIGINT or SIGTERM, then let what is under way finish."""
    settings = Settings()
    configure_logging()
    store = Store(settings.database_url)
    client = await _connect_patiently()
    await register_search_attributes(client, names.SEARCH_ATTRIBUTES)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with create_worker(client, store, store, anchors=_anchors(settings, store)):
        await stop.wait()
    await store.close()


def _anchors(settings: Settings, store: Store) -> Anchors | None:
    if settings.audit_key is None:
        return None
    return AnchorKeeper(store, SigningKey.load(settings.audit_key.get_secret_value()), settings.anchor_dir)


async def _connect_patiently() -> Client:
    """Wait for Temporal rather than leave: it may come up after us."""
    while True:
        try:
            return await connect(lazy=False)
        except RuntimeError:
            structlog.get_logger().warning("temporal_not_reached")
            await asyncio.sleep(_RECONNECT_PAUSE)


if __name__ == "__main__":
    asyncio.run(main())

"""Worker Deployment Versioning: which version of the code a worker is, and which one is current."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from importlib import metadata
from pathlib import Path

import structlog
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError
from temporalio.worker import WorkerDeploymentConfig

from adapters.settings import Settings

DEPLOYMENT = "shaodao"
_ROOT = Path(__file__).parent.parent
_RULES = ("domain", "workflows")
_PAUSE = 0.5
_RPC = timedelta(seconds=5)
_log = structlog.get_logger()


def build_id(settings: Settings) -> str:
    """Return the name of this version of the code: the one that is set, or else made from what replay depends on.

    Two installations of the same rules and workflows have the same; one changed line in them makes another.
    """
    if settings.build_id is not None:
        return settings.build_id
    content = hashlib.sha256()
    for package in _RULES:
        for file in sorted((_ROOT / package).glob("*.py")):
            content.update(file.name.encode())
            content.update(file.read_bytes())
    return f"{metadata.version('shaodao')}-{content.hexdigest()[:12]}"


def deployment(settings: Settings) -> WorkerDeploymentConfig | None:
    """Return how the worker tells Temporal its version; None when versioning is off.

    Running cases go on under the current version as soon as they have something to do: cases live for weeks, and
    changes are made so that old histories replay (docs/changing-workflows.md).
    """
    if settings.worker_versioning == "off":
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=DEPLOYMENT, build_id=build_id(settings)),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )


async def make_current(client: Client, version: WorkerDeploymentVersion) -> None:
    """Make a version the current one, as soon as Temporal has seen a worker of it."""
    request = SetWorkerDeploymentCurrentVersionRequest(
        namespace=client.namespace,
        deployment_name=version.deployment_name,
        build_id=version.build_id,
        identity=client.identity,
    )
    while True:
        try:
            await client.workflow_service.set_worker_deployment_current_version(request, timeout=_RPC)
        except RPCError as error:
            _log.info("version_not_current_yet", build_id=version.build_id, reason=error.status.name)
            await asyncio.sleep(_PAUSE)
        else:
            _log.info("version_current", build_id=version.build_id)
            return


@contextlib.asynccontextmanager
async def made_current(
    client: Client, config: WorkerDeploymentConfig | None, *, wanted: bool
) -> AsyncIterator[None]:
    """While the worker runs, see that its version becomes the current one, where that is wanted: on one machine."""
    if config is None or not wanted:
        yield
        return
    making = asyncio.create_task(make_current(client, config.version))
    try:
        yield
    finally:
        making.cancel()
        await asyncio.gather(making, return_exceptions=True)

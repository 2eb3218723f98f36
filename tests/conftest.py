"""What every tier shares: databases, and hypothesis that finds the same in CI every time."""

import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from adapters.migrate import upgrade
from adapters.sealing import Seal
from adapters.store import Store
from tests.postgres import PostgresServer, postgres_server
from workflows import names

BIN = Path(sys.executable).parent
SECRET = "what-binds-rows-in-tests-0123456789abcdef"
SEAL = Seal(SECRET)
FORGETS_SOON = [
    argument
    for queue in ("transfer", "visibility", "timer")
    for argument in ("--dynamic-config-value", f'history.{queue}ProcessorUpdateAckInterval="500ms"')
]
"""A run that is deleted is gone after seconds, instead of after half a minute."""

REPORTS_AT_ONCE = [
    "--dynamic-config-value",
    "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute=1",
]
"""A failing workflow task stands in lists after its first failure."""

settings.register_profile("ci", derandomize=True, deadline=None)
settings.register_profile("here", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One PostgreSQL server for this process of the run."""
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A fresh, migrated database of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'store.db'}"
        upgrade(url)
        yield url
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.database() as url:
        yield url


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    """A store on a fresh database of each kind."""
    store = Store(database_url, SEAL)
    yield store
    await store.close()


@pytest.fixture(scope="session")
async def real_server() -> AsyncIterator[WorkflowEnvironment]:
    """The embedded server of the product, in memory."""
    async with await WorkflowEnvironment.start_local(
        data_converter=pydantic_data_converter,
        dev_server_existing_path=str(BIN / "temporal"),
        dev_server_log_level="error",
        search_attributes=names.SEARCH_ATTRIBUTES,
        dev_server_extra_args=[*FORGETS_SOON, *REPORTS_AT_ONCE],
    ) as environment:
        yield environment


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[Store]:
    """A store on a fresh SQLite database, where the kind does not matter."""
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url)
    store = Store(url, SEAL)
    yield store
    await store.close()

"""One real Temporal server and one that skips time, for the whole run."""

from collections.abc import AsyncIterator

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from adapters.temporal import register_search_attributes
from tests.conftest import BIN
from tests.workflows.cases import Cases
from workflows import names


@pytest.fixture(scope="session")
async def skipping_server() -> AsyncIterator[WorkflowEnvironment]:
    """A server on which days pass in milliseconds."""
    async with await WorkflowEnvironment.start_time_skipping(
        data_converter=pydantic_data_converter,
        test_server_existing_path=str(BIN / "temporal-test-server"),
    ) as environment:
        await register_search_attributes(environment.client, names.SEARCH_ATTRIBUTES)
        yield environment


@pytest.fixture
async def cases(real_server: WorkflowEnvironment) -> AsyncIterator[Cases]:
    """Cases on the real server, with a worker of their own."""
    async with Cases(real_server) as running:
        yield running


@pytest.fixture
async def skipped(skipping_server: WorkflowEnvironment) -> AsyncIterator[Cases]:
    """Cases under skipped time, with a worker of their own."""
    async with Cases(skipping_server) as running:
        yield running

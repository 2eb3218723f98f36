"""The whole product behind real HTTP: a door, a worker, a real Temporal server and a real database."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
import uvicorn
from pydantic import SecretStr
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from adapters.settings import Settings
from adapters.store import Store
from domain.case import CaseId
from domain.district import District
from starter.api import Doors, create_api
from starter.case_client import CaseClient
from starter.identity import Directory, issue
from starter.relay import Relay
from tests.sample import DEPARTMENTS
from tests.sample import district as sample_district
from worker import create_worker
from workflows import names

SECRET = "a-secret-for-tests-that-is-long-enough-0123"
CALL: dict[str, Any] = {
    "district": "sample",
    "township": "town",
    "category": "enforcement",
    "title": "小造纸厂排污",
    "description": "多次下达关停通知,业主拒不执行。",
    "location": {"address": "示例镇示例路1号", "longitude": "117.5851", "latitude": "34.7721"},
    "contact": {"name": "张三丰", "phone": "19912340001"},
}


class House:
    """The product as its users meet it."""

    def __init__(self, doors: Doors, url: str, worker_of: Any) -> None:
        self.doors = doors
        self.store = doors.store
        self.url = url
        self.client = httpx2.AsyncClient(base_url=url, timeout=30)
        self._worker_of = worker_of
        self._worker: Worker | None = None

    async def start_worker(self) -> None:
        """Start a worker with an empty cache."""
        self._worker = self._worker_of()
        await self._worker.__aenter__()

    async def stop_worker(self) -> None:
        """Stop it."""
        if self._worker is not None:
            await self._worker.__aexit__(None, None, None)
            self._worker = None

    def headers(self, person: str, key: str | None = None) -> dict[str, str]:
        """Return the headers of somebody's request."""
        bearer = {"Authorization": f"Bearer {issue(person, secret=SECRET)}"}
        return bearer | ({"Idempotency-Key": key} if key else {})

    async def post(
        self, person: str, path: str, body: Any = None, *, key: str | None = None
    ) -> httpx2.Response:
        """Send one POST."""
        return await self.client.post(
            f"/api/v1{path}", json={} if body is None else body, headers=self.headers(person, key)
        )

    async def get(self, person: str, path: str, **query: Any) -> httpx2.Response:
        """Send one GET."""
        return await self.client.get(f"/api/v1{path}", params=query, headers=self.headers(person))

    async def call(self, **changes: Any) -> str:
        """Call as the township; return the case id."""
        response = await self.post("town-officer", "/cases", CALL | changes)
        assert response.status_code == 201, response.text
        return str(response.json()["case_id"])

    async def do(self, person: str, case_id: str, act: str, **body: Any) -> dict[str, Any]:
        """Do an act that must succeed; return the case."""
        response = await self.post(person, f"/cases/{case_id}/{act}", body)
        assert response.status_code == 200, (act, response.text)
        case: dict[str, Any] = response.json()
        return case

    async def dispatch(self, case_id: str, *departments: str) -> dict[str, Any]:
        """Dispatch; the first leads."""
        lead, *others = departments or DEPARTMENTS
        return await self.do("dispatcher", case_id, "dispatch", lead=lead, cooperating=others)

    async def until_done(self, case_id: str, *departments: str) -> dict[str, Any]:
        """Let all departments go through to done."""
        await self.dispatch(case_id, *departments)
        for department in departments or DEPARTMENTS:
            officer, about = f"{department}-officer", {"department": department}
            await self.do(officer, case_id, "sign", **about)
            await self.do(officer, case_id, "check-in", officers=[{"name": "王示例"}], **about)
            await self.do("town-officer", case_id, "confirm-check-in", **about)
            await self.do(
                officer, case_id, "action", kind="demolition", description="拆", result="已拆", **about
            )
            case = await self.do(officer, case_id, "done", result="完成", **about)
        return case

    async def rate(self, case_id: str, *departments: str, solved: bool = True) -> dict[str, Any]:
        """Rate all departments."""
        for department in departments or DEPARTMENTS:
            case = await self.do(
                "town-officer", case_id, "rate", department=department, grade="satisfied", solved=solved
            )
        return case

    async def history_length(self, case_id: str) -> int:
        """Return how many events the workflow's history has."""
        handle = self.doors.cases.client.get_workflow_handle(f"case/{case_id}")
        return len((await handle.fetch_history()).events)

    async def until_started(self, *case_ids: str) -> None:
        """Wait until Temporal has them: a call is answered before its workflow is started."""

        async def started() -> bool:
            return all([await self.store.is_started(CaseId(each)) for each in case_ids])

        await self.until(started)

    async def until(self, what: Any, *, within: float = 30) -> Any:
        """Ask again and again until the answer is true; return it."""
        async with asyncio.timeout(within):
            while not (answer := await what()):
                await asyncio.sleep(0.05)
        return answer


@contextlib.asynccontextmanager
async def open_house(
    server: WorkflowEnvironment,
    store: Store,
    *,
    queue: str | None = None,
    within: float = 8,
    district: District | None = None,
    **more: Any,
) -> AsyncIterator[House]:
    """Give the product with a task queue, and so a worker, of its own."""
    queue = queue or f"test-{uuid.uuid4()}"
    await store.load_district(district or sample_district(), datetime.now(UTC))
    settings = Settings(database_url="sqlite://", secret=SecretStr(SECRET), temporal_within=within, **more)
    cases, directory = CaseClient(server.client, within=within, task_queue=queue), Directory(store)
    doors = Doors(settings, store, cases, directory, Relay(store, cases, directory))
    with contextlib.suppress(Exception):  # one that another test left would wait for a worker that is gone
        await server.client.get_workflow_handle(names.notices_workflow_id("sample")).terminate()
    async with serve(doors) as url:
        house = House(doors, url, lambda: create_worker(server.client, store, store, task_queue=queue))
        await house.start_worker()
        try:
            yield house
        finally:
            await house.client.aclose()
            with contextlib.suppress(Exception):
                await server.client.get_workflow_handle(names.notices_workflow_id("sample")).terminate()
            await house.stop_worker()


@contextlib.asynccontextmanager
async def serve(doors: Doors) -> AsyncIterator[str]:
    """Serve the door on a free port."""
    config = uvicorn.Config(create_api(doors), host="127.0.0.1", port=0, log_config=None, lifespan="on")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def house(real_server: WorkflowEnvironment, sqlite_store: Store) -> AsyncIterator[House]:
    """The product on SQLite."""
    async with open_house(real_server, sqlite_store) as open_:
        yield open_


@pytest.fixture
async def either_house(real_server: WorkflowEnvironment, store: Store) -> AsyncIterator[House]:
    """The product on each kind of database."""
    async with open_house(real_server, store) as open_:
        yield open_

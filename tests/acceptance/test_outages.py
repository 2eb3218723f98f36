"""What is acknowledged survives: Temporal away, the database away, each process killed in the middle of a case."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from temporalio.client import Client, WorkflowUpdateRPCTimeoutOrCancelledError
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from adapters.histories import fetch_runs
from adapters.settings import Settings
from adapters.store import Store
from domain import audit
from domain.case import CaseId, Stage
from domain.commands import AnyCommand, Dispatch
from domain.events import Entry
from domain.lifecycle import fold
from domain.ports import CaseStart, Contact, Intake, Receipt
from starter.api import Doors
from starter.auditor import verify_cases
from starter.case_client import CaseClient
from starter.embedded import Child, Stack, StackOptions
from starter.identity import Directory, issue
from starter.relay import Relay
from starter.stack import TemporalServer, free_port, temporal_binary
from tests.conftest import BIN, SEAL
from tests.postgres import postgres_server
from tests.sample import DISPATCHER, ECOLOGY, POLICE, TERMS, district, opening
from tests.starter.conftest import CALL, SECRET, House, open_house, serve
from tests.workflows.cases import Running
from worker import create_worker
from workflows import names

ROOT = Path(__file__).parent.parent.parent
ATTRIBUTES = {
    key.name: {
        "KEYWORD": "Keyword",
        "KEYWORD_LIST": "KeywordList",
        "BOOL": "Bool",
        "DATETIME": "Datetime",
    }.get(key.indexed_value_type.name, "Int")
    for key in names.SEARCH_ATTRIBUTES
}


@pytest.fixture
async def temporal(tmp_path: Path) -> AsyncIterator[TemporalServer]:
    """A Temporal server of the test's own, with its data in a file."""
    server = TemporalServer(
        binary=temporal_binary(str(BIN / "temporal")),
        data=tmp_path / "temporal.db",
        port=free_port(),
        ui_port=None,
        log_path=tmp_path / "temporal.log",
        search_attributes=ATTRIBUTES,
    )
    await server.start()
    yield server
    await server.stop()


async def test_with_temporal_down_calls_and_acts_are_taken_and_happen_when_it_is_back(
    temporal: TemporalServer, sqlite_store: Store
) -> None:
    await sqlite_store.load_district(district(), datetime.now(UTC))
    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter, lazy=True)
    settings = Settings(database_url="sqlite://", secret=SecretStr(SECRET))
    cases, directory = CaseClient(client, within=2), Directory(sqlite_store)
    doors = Doors(settings, sqlite_store, cases, directory, Relay(sqlite_store, cases, directory))
    async with serve(doors) as url:
        working = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
        house = House(doors, url, lambda: create_worker(working, sqlite_store, sqlite_store))
        await house.start_worker()
        running = await house.call()
        await house.dispatch(running, "ecology")
        await house.stop_worker()
        await temporal.stop()

        ready = await house.client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"store": True, "temporal": False})
        fresh = await house.call(title="停机期间的呼叫")
        listed = (await house.get("leader", "/cases")).json()["items"]
        assert {line["case_id"] for line in listed} == {running, fresh}
        signed = await house.post("ecology-officer", f"/cases/{running}/sign", {}, key="sign-1")
        assert signed.status_code == 202
        assert [each["act"] for each in signed.json()["pending_acts"]] == ["sign"]
        again = await house.post("ecology-officer", f"/cases/{running}/sign", {}, key="sign-1")
        assert again.status_code == 202
        assert len(again.json()["pending_acts"]) == 1
        refused = await house.post("ecology-officer", f"/cases/{running}/done", {"result": "x"})
        assert (refused.status_code, refused.json()["code"]) == (409, "not_checked_in")
        second = await house.post("ecology-head", f"/cases/{running}/sign", {})
        assert second.status_code == 202

        await temporal.start()
        await house.start_worker()

        async def caught_up() -> bool:
            case = (await house.get("town-officer", f"/cases/{running}")).json()
            return (
                case["stage"] == "signed"
                and not case["pending_acts"]
                and await sqlite_store.is_started(CaseId(fresh))
            )

        await house.until(caught_up, within=60)
        timeline = (await house.get("town-officer", f"/cases/{running}/timeline")).json()["items"]
        assert [line["kind"] for line in timeline] == ["called", "dispatched", "signed"]
        told = (await house.get("ecology-head", "/inbox")).json()["items"]
        assert told[0]["title"] == "您的操作未被受理"
        assert "已签收" in told[0]["text"]
        await house.do("dispatcher", fresh, "dispatch", lead="police")
        await house.client.aclose()
        await house.stop_worker()


async def test_with_the_database_down_acts_on_running_cases_work_and_the_ledger_catches_up(
    real_server: WorkflowEnvironment,
) -> None:
    with postgres_server() as postgres, postgres.database() as url:
        store = Store(url, SEAL)
        async with open_house(real_server, store) as house:
            case_id = await house.call()
            await house.dispatch(case_id, "ecology", "police")
            postgres.stop()

            ready = await house.client.get("/readyz")
            assert (ready.status_code, ready.json()) == (503, {"store": False, "temporal": True})
            response = await house.post("town-officer", "/cases", CALL)
            assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
            case = await house.do("ecology-officer", case_id, "sign")
            assert case["stage"] == "dispatched"
            first = await house.post("police-officer", f"/cases/{case_id}/sign", {}, key="k")
            assert (first.status_code, first.json()["stage"]) == (200, "signed")
            again = await house.post("police-officer", f"/cases/{case_id}/sign", {}, key="k")
            assert (again.status_code, again.json()["sequence"]) == (200, first.json()["sequence"])
            refused = await house.post("police-officer", f"/cases/{case_id}/sign", {})
            assert (refused.status_code, refused.json()["code"]) == (409, "already_signed")

            postgres.start()

            async def caught_up() -> bool:
                return len(await store.entries(CaseId(case_id))) == 4

            await house.until(_answering(caught_up), within=60)
            entries = await store.entries(CaseId(case_id))
            audit.check_chain(entries)
            assert [entry.event.kind for entry in entries] == ["called", "dispatched", "signed", "signed"]
            assert await store.case(CaseId(case_id)) == fold(entries)
        await store.close()


def _answering(ask: Any) -> Any:
    """Take an outage for 'not yet'."""
    from adapters.store import StoreUnavailable

    async def asking() -> bool:
        try:
            return bool(await ask())
        except StoreUnavailable:
            return False

    return asking


class Users:
    """People who try again with the same key until they are answered, as a browser or a colleague would."""

    def __init__(self, stack: Stack) -> None:
        self.client = httpx2.AsyncClient(base_url=stack.url, timeout=20)
        self._secret = stack.secret
        self._count = 0

    async def post(self, person: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send until it is answered."""
        self._count += 1
        headers = {
            "Authorization": f"Bearer {issue(person, secret=self._secret)}",
            "Idempotency-Key": f"request-{self._count}",
        }
        async with asyncio.timeout(90):
            while True:
                try:
                    response = await self.client.post(f"/api/v1{path}", json=body, headers=headers)
                except httpx2.HTTPError:
                    await asyncio.sleep(0.1)
                    continue
                if response.status_code in {202, 503}:
                    await asyncio.sleep(0.2)
                    continue
                assert response.is_success, (path, response.text)
                answer: dict[str, Any] = response.json()
                return answer


def kill(child: Child) -> None:
    """End a process as a power cut would."""
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)


@pytest.mark.timeout(300)
async def test_each_process_is_killed_in_the_middle_of_a_case_and_the_case_goes_on_and_closes(
    tmp_path: Path,
) -> None:
    options = StackOptions(
        data=tmp_path,
        districts=ROOT / "districts",
        port=free_port(),
        temporal_port=free_port(),
        ui_port=None,
    )
    async with Stack(options) as stack:
        users = Users(stack)
        body = {**CALL, "district": "yicheng", "township": "eshan"}
        case_id = (await users.post("eshan-officer", "/cases", body))["case_id"]
        path = f"/cases/{case_id}"
        departments = ("ecology", "enforcement", "police")
        kill(stack.api)
        await users.post("eshan-approver", f"{path}/release", {})
        await users.post(
            "dispatcher", f"{path}/dispatch", {"lead": "ecology", "cooperating": departments[1:]}
        )
        for number, step in enumerate(("sign", "check-in", "confirm-check-in", "action", "done", "rate")):
            for department in departments:
                if department == "enforcement":
                    if number % 3 == 0:
                        kill(stack.worker)
                    elif number % 3 == 1:
                        kill(stack.api)
                    else:
                        assert stack.temporal.pid is not None
                        os.kill(stack.temporal.pid, signal.SIGKILL)
                person = "eshan-officer" if step in {"confirm-check-in", "rate"} else f"{department}-officer"
                case = await users.post(person, f"{path}/{step}", _body(step, department))
        assert case["stage"] == "closed"
        store = Store(stack.database_url)
        entries = await store.entries(CaseId(case_id))
        assert [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
        audit.check_chain(entries)
        kinds = [entry.event.kind for entry in entries if entry.by is not None]
        assert len(kinds) == 3 + 3 * 6 + 1
        assert fold(entries) == await store.case(CaseId(case_id))
        await store.close()
        await users.client.aclose()


def _body(step: str, department: str) -> dict[str, Any]:
    more: dict[str, dict[str, Any]] = {
        "check-in": {"officers": [{"name": "王示例"}]},
        "action": {"kind": "demolition", "description": "拆除", "result": "已拆除"},
        "done": {"result": "完成"},
        "rate": {"grade": "satisfied", "solved": True},
    }
    return {"department": department} | more.get(step, {})


CASES = 8
WRITES = (12, 20, 9, 30)
"""After how many writes of a ledger each worker dies, one after the other; the last of all lives."""


@pytest.mark.timeout(300)
async def test_workers_killed_between_ledger_and_temporal_leave_every_case_whole_and_every_act_once(
    temporal: TemporalServer, sqlite_store: Store, tmp_path: Path
) -> None:
    await sqlite_store.load_district(district(), datetime.now(UTC))
    client = await Client.connect(temporal.address, data_converter=pydantic_data_converter)
    opened = [opening(datetime.now(UTC), case_id=f"sample-20260304-{n:06}") for n in range(CASES)]
    async with dying_workers(temporal, f"sqlite:///{tmp_path / 'store.db'}"):
        await asyncio.gather(*(played(client, sqlite_store, each) for each in opened))
    histories = [await fetch_runs(client, f"case/{each.case_id}") for each in opened]
    taken_on = sum(
        b'"standing":[{' in event.SerializeToString()
        for runs in histories
        for run in runs
        for event in run.history.events
    )
    assert taken_on > 0
    for each in opened:
        entries = await sqlite_store.entries(each.case_id)
        audit.check_chain(entries)
        assert {entry.key for entry in entries if entry.key} == {command.key for command in acts()}
        done = [(entry.key, entry.event.kind) for entry in entries if entry.by]
        assert len(done) == len(set(done))
        assert fold(entries) == await sqlite_store.case(each.case_id)
        assert fold(entries).stage is Stage.CLOSED
    judged = await verify_cases(sqlite_store, client, [each.case_id for each in opened])
    assert [finding for _, verdicts in judged for verdict in verdicts for finding in verdict.findings] == []


def acts() -> list[AnyCommand]:
    """Return what is done in a case, in order."""
    done: list[AnyCommand] = [Dispatch(by=DISPATCHER, lead=ECOLOGY, cooperating=(POLICE,), key="dispatch")]
    for step in ("sign", "check_in", "confirm", "action", "done", "rate"):
        for department in (ECOLOGY, POLICE):
            command = Running._command(step, department)
            done.append(command.model_copy(update={"key": f"{step}-{department}"}))
    return done


async def played(client: Client, store: Store, opened: Entry) -> None:
    """Play a case to its end, sending each act under its key until it is answered."""
    start = CaseStart(opened=opened, terms=TERMS)
    await store.take_call(
        Intake(start=start, contact=Contact(), key="", body_digest=""), person="p", status=201, body="{}"
    )
    handle = await client.start_workflow(
        names.CASE,
        start,
        id=names.case_workflow_id(opened.case_id),
        task_queue=names.TASK_QUEUE,
        result_type=str,
    )
    for command in acts():
        while True:
            try:
                await handle.execute_update(
                    command.act.value, command, id=command.key, result_type=Receipt, rpc_timeout=LONG
                )
            except (WorkflowUpdateRPCTimeoutOrCancelledError, RPCError):
                continue
            break
    await handle.result()


LONG = timedelta(seconds=20)


@contextlib.asynccontextmanager
async def dying_workers(temporal: TemporalServer, url: str) -> AsyncIterator[None]:
    """Keep one worker at work: when it has died, the next is started."""
    process: asyncio.subprocess.Process | None = None

    async def one_after_the_other() -> None:
        nonlocal process
        for writes in (*WRITES, 0):
            arguments = ("-m", "tests.acceptance.dying_worker", temporal.address, url, str(writes))
            process = await asyncio.create_subprocess_exec(sys.executable, *arguments, cwd=ROOT)
            assert await process.wait() == -signal.SIGKILL

    working = asyncio.create_task(one_after_the_other())
    try:
        yield
    finally:
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

"""The embedded Temporal server as a child process."""

import asyncio
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from temporalio.client import Client

from adapters.sealing import Seal
from adapters.settings import Settings
from adapters.store import Store
from adapters.temporal import registered_search_attributes
from starter.embedded import Stack, StackOptions
from starter.stack import FolderLock, StackError, TemporalServer, free_port, is_free, temporal_binary
from starter.versions import build_id, deployment
from tests.conftest import BIN

ROOT = Path(__file__).parent.parent.parent


def server(folder: Path, port: int) -> TemporalServer:
    """Return a server with its data in a file."""
    return TemporalServer(
        binary=temporal_binary(str(BIN / "temporal")),
        data=folder / "temporal.db",
        port=port,
        ui_port=None,
        log_path=folder / "temporal.log",
        search_attributes={"Stage": "Keyword"},
    )


def open_to_others(folder: Path) -> list[Path]:
    """Return the folder if others may look into it, and each database and object in it that they could read."""
    inside = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "logs"]
    return [path for path in (folder, *inside) if path.stat().st_mode & 0o077]


async def test_its_data_survives_a_stop_and_its_search_attributes_are_there(tmp_path: Path) -> None:
    temporal = server(tmp_path, free_port())
    async with temporal:
        client = await Client.connect(temporal.address)
        assert "Stage" in await registered_search_attributes(client)
        await client.start_workflow("Anything", id="kept", task_queue="nobody")
    assert temporal.pid is None
    async with temporal:
        client = await Client.connect(temporal.address)
        assert (await client.get_workflow_handle("kept").describe()).id == "kept"


async def test_a_taken_port_is_refused_with_the_reason(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(StackError, match=f"端口 {port} 已被占用"):
            await server(tmp_path, port).start()
        options = StackOptions(data=tmp_path / "stack", districts=ROOT / "districts", port=port)
        with pytest.raises(StackError, match=f"端口 {port} 已被占用"):
            await Stack(options).__aenter__()


def test_a_program_that_is_not_there_is_told_with_a_remedy() -> None:
    with pytest.raises(StackError, match="SHAODAO_TEMPORAL_BINARY"):
        temporal_binary("/no/such/program")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
async def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    port = free_port()
    program = (
        "import asyncio; from pathlib import Path; from tests.starter.test_stack import server\n"
        f"async def main():\n await server(Path({str(tmp_path)!r}), {port}).start(); print('up', flush=True)\n"
        " await asyncio.sleep(60)\nasyncio.run(main())"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert await asyncio.to_thread(parent.stdout.readline) == b"up\n"
    assert not is_free(port)
    os.kill(parent.pid, signal.SIGKILL)
    await asyncio.to_thread(parent.wait)
    parent.stdout.close()
    async with asyncio.timeout(20):
        while not is_free(port):
            await asyncio.sleep(0.05)


async def test_with_versioning_the_stack_makes_its_own_version_the_current_one_and_cases_run_under_it(
    tmp_path: Path,
) -> None:
    options = StackOptions(
        data=tmp_path,
        districts=ROOT / "districts",
        port=free_port(),
        temporal_port=free_port(),
        ui_port=None,
        environment={"SHAODAO_WORKER_VERSIONING": "current", "SHAODAO_BUILD_ID": "tried-1"},
    )
    (tmp_path / "shaodao.db").touch(0o644)
    tmp_path.chmod(0o755)
    async with Stack(options) as stack:
        client = await Client.connect(stack.temporal.address, data_converter=stack.converter)
        await client.start_workflow(
            "Reconcile",
            {},
            id="under-a-version",
            task_queue="shaodao",
            execution_timeout=timedelta(seconds=60),
        )
        await client.get_workflow_handle("under-a-version").result()
        history = await client.get_workflow_handle("under-a-version").fetch_history()
        builds = {
            event.workflow_task_completed_event_attributes.deployment_version.build_id
            for event in history.events
            if event.HasField("workflow_task_completed_event_attributes")
        }
        assert builds == {"tried-1"}
        schedules = {each.id async for each in await client.list_schedules()}
        assert schedules >= {"archive", "reconcile"}
        addresses = json.loads((tmp_path / "addresses.json").read_text("utf-8"))
        assert addresses["temporal_address"] == stack.temporal.address
        assert open_to_others(tmp_path) == []
        assert {"shaodao.db", "temporal.db"} <= {path.name for path in tmp_path.iterdir()}
        another = dataclasses.replace(options, port=free_port(), temporal_port=free_port())
        for _ in range(2):
            with pytest.raises(StackError, match=f"该数据目录已在使用\\(进程 {os.getpid()}\\)"):
                await Stack(another).__aenter__()
        assert json.loads((tmp_path / "addresses.json").read_text("utf-8")) == addresses
        up = [sys.executable, "-m", "starter.cli", "up", "--data", str(tmp_path)]
        ports = [f"--{name}={free_port()}" for name in ("port", "temporal-port", "temporal-ui-port")]
        second = await asyncio.to_thread(
            subprocess.run, [*up, *ports], cwd=ROOT, capture_output=True, timeout=60, check=False
        )
        assert second.returncode == 1
        assert f"该数据目录已在使用(进程 {os.getpid()})" in second.stderr.decode()
        assert json.loads((tmp_path / "addresses.json").read_text("utf-8")) == addresses
    assert not (tmp_path / "addresses.json").exists()


def test_a_folder_that_one_stack_holds_is_given_to_the_next_after_it_has_let_go(tmp_path: Path) -> None:
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    first.take()
    with pytest.raises(StackError, match=f"进程 {os.getpid()}"):
        second.take()
    first.release()
    second.take()
    with pytest.raises(StackError, match="已在使用"):
        first.take()
    second.release()


def test_a_version_is_named_by_what_replay_depends_on() -> None:
    settings = Settings(database_url="sqlite://", secret=SecretStr("x" * 40))
    assert deployment(settings) is None
    on = settings.model_copy(update={"worker_versioning": "on"})
    named = deployment(on.model_copy(update={"build_id": "2026.11"}))
    assert named is not None
    assert named.version.to_canonical_string() == "shaodao.2026.11"
    assert build_id(on) == build_id(settings)
    assert re.fullmatch(r"\d+\.\d+\.\d+-[0-9a-f]{12}", build_id(on))


async def test_who_starts_everything_is_told_of_a_district_that_is_not_what_was_loaded(
    tmp_path: Path,
) -> None:
    stack = Stack(StackOptions(data=tmp_path / "stack", districts=ROOT / "districts"))
    await stack.prepare()
    assert stack.refused == {}
    store = Store(stack.database_url, Seal(stack.secret))
    async with store._database.write() as connection:
        await connection.execute(
            text("UPDATE districts SET document = replace(document, 'citizen', 'leader')")
        )
    await store.close()
    await stack.prepare()
    assert "shaodao district load" in stack.refused["yicheng"]

"""The deployment files, done as they say: installed from their lock alone, run as processes with their settings.

Only addresses, folders and secrets are put to what they are here. Three deployments take turns over one database and
one Temporal, as when an installation moves: Compose, then units with a newer version, then pods with another.
"""

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import make_url
from temporalio.client import Client

from adapters.keys import AES_256_GCM, DEFAULT, new_line
from adapters.migrate import head
from adapters.signing import SigningKey
from starter.demo import Player, Story, stories
from starter.stack import TemporalServer, die_with_parent, free_port, temporal_binary
from tests import deployment
from tests.deployment import Part
from tests.postgres import PostgresServer
from tests.s3 import Bucket, s3_server

pytestmark = [pytest.mark.xdist_group("deployed"), pytest.mark.timeout(300)]

SECRET = "a-secret-for-tests-that-is-long-enough-0123"
READY_WITHIN = 60


@dataclass(kw_only=True)
class Installation:
    """One installed copy, and what is deployed of it."""

    folder: Path
    programs: Path
    temporal: str
    parts: dict[str, Mapping[str, Part]]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, part: Part) -> dict[str, str]:
        """Return the part's own environment and nothing of ours."""
        path = f"{self.programs}:/usr/bin:/bin"
        return {"PATH": path, "HOME": str(self.folder), "COLUMNS": "160", **part.environment}

    def run(self, part: Part, *command: str) -> str:
        """Run the part's command, or another one beside it, to its end; return what it said."""
        done = subprocess.run(
            command or part.command,
            cwd=self.folder / "opt",
            env=self.environment(part),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, way: str, name: str) -> Part:
        """Start a part, and leave it running."""
        part = self.parts[way][name]
        with (self.folder / f"{way}-{name}.log").open("ab") as log:
            self.running[f"{way}-{name}"] = subprocess.Popen(
                part.command,
                cwd=self.folder / "opt",
                env=self.environment(part),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one call to the kernel, no lock
            )
        return part

    def stop(self, way: str, name: str) -> None:
        """Ask a part to end as its supervisor would; it has to end by itself, and well, within its grace period."""
        process = self.running.pop(f"{way}-{name}")
        assert process.poll() is None, self.log(way, name)
        process.send_signal(signal.SIGTERM)
        status = process.wait(timeout=self.parts[way][name].grace)
        assert status == 0, self.log(way, name)

    def log(self, way: str, name: str) -> str:
        """Return what a part has logged."""
        return (self.folder / f"{way}-{name}.log").read_text("utf-8")


def player(client: httpx2.AsyncClient) -> Player:
    return Player(client, "yicheng", SECRET)


def story() -> Story:
    """Return the shortest of the three: urgent, one department."""
    return stories(datetime.now(UTC))[1]


@pytest.fixture(scope="module")
async def temporal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TemporalServer]:
    """A server that knows neither our namespace nor our search attributes."""
    folder = tmp_path_factory.mktemp("temporal")
    server = TemporalServer(
        binary=temporal_binary(),
        data=None,
        port=free_port(),
        ui_port=None,
        log_path=folder / "temporal.log",
        search_attributes={},
    )
    async with server:
        yield server


@pytest.fixture(scope="module")
def bucket() -> Iterator[Bucket]:
    with s3_server() as made:
        yield made


@pytest.fixture(scope="module")
async def installation(
    tmp_path_factory: pytest.TempPathFactory,
    postgres: PostgresServer,
    temporal: TemporalServer,
    bucket: Bucket,
) -> AsyncIterator[Installation]:
    """Installed once; the namespace, the database and the district are made by the commands that are deployed."""
    folder = tmp_path_factory.mktemp("deployed")
    programs = deployment.install(folder / "opt")
    with postgres.empty_database() as url:
        made = Installation(
            folder=folder,
            programs=programs,
            temporal=temporal.address,
            parts=_parts(folder, url, temporal.address, bucket),
        )
        try:
            compose = made.parts["compose"]
            made.run(compose["temporal-namespace"])
            made.run(compose["migrate"])
            made.run(compose["api"], "shaodao", "district", "load", "districts/yicheng")
            yield made
        finally:
            for process in made.running.values():
                process.kill()
                process.wait()


def _parts(folder: Path, url: str, address: str, bucket: Bucket) -> dict[str, Mapping[str, Part]]:
    """Return every part of the three ways, with addresses, folders and secrets as they are here."""
    settings = folder / "etc"
    settings.mkdir()
    keys = new_line(AES_256_GCM, DEFAULT, datetime.now(UTC).date())
    (settings / "payload-keys").write_text(keys + "\n")
    (settings / "payload-keys").chmod(0o640)
    SigningKey.new().write_new(settings / "audit.key")
    audit_key = (settings / "audit.key").read_text()
    secrets = {"SHAODAO_SECRET": SECRET, "SHAODAO_PAYLOAD_KEYS": keys, "SHAODAO_AUDIT_KEY": audit_key}
    places = {
        deployment.HOME: str(folder / "opt"),
        "/etc/shaodao": str(settings),
        "/var/lib/shaodao": str(folder / "var"),
        "0.0.0.0": "127.0.0.1",  # noqa: S104 - put to something narrower
    }
    (folder / "var").mkdir()
    here = {"SHAODAO_DATABASE_URL": url, "TEMPORAL_ADDRESS": address}

    def put(parts: Mapping[str, Part], **more: str) -> dict[str, Part]:
        port = free_port()
        where = {**places, ":8030": f":{port}"}
        listening = {**here, **more, "SHAODAO_PORT": str(port)}
        return {
            name: part.moved(where, **(listening if "SHAODAO_DATABASE_URL" in part.environment else here))
            for name, part in parts.items()
        }

    in_bucket = {
        "SHAODAO_ARCHIVE": bucket.url,
        "AWS_ACCESS_KEY_ID": bucket.key_id,
        "AWS_SECRET_ACCESS_KEY": bucket.secret,
    }
    filled_in = {"POSTGRES_PASSWORD": "x", **secrets}
    return {
        "compose": put(deployment.compose(filled_in, folder)),
        "units": put(deployment.units(), SHAODAO_SECRET=SECRET),
        "pods": put(deployment.pods(), **secrets, **in_bucket),
    }


@contextlib.asynccontextmanager
async def door(installation: Installation, way: str) -> AsyncIterator[httpx2.AsyncClient]:
    """Serve the API of one way; give a client once everything behind it answers."""
    part = installation.start(way, "api")
    url = f"http://127.0.0.1:{part.environment['SHAODAO_PORT']}"
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        async with asyncio.timeout(READY_WITHIN):
            while not await _is_ready(client):
                await asyncio.sleep(0.1)
        yield client
    installation.stop(way, "api")


async def _is_ready(client: httpx2.AsyncClient) -> bool:
    with contextlib.suppress(httpx2.HTTPError):
        return (await client.get("/readyz")).status_code == httpx2.codes.OK
    return False


def temporal_cli(installation: Installation, *arguments: str) -> str:
    """Run Temporal's command line as the operators' page has it."""
    environment = {"TEMPORAL_ADDRESS": installation.temporal, "TEMPORAL_NAMESPACE": "shaodao"}
    part = Part(command=("temporal", *arguments), environment=environment, grace=0)
    return installation.run(part)


async def answers(installation: Installation, words: str, *arguments: str) -> None:
    """Ask Temporal's command line again and again, until it succeeds and says these words."""
    async with asyncio.timeout(READY_WITHIN):
        while True:
            with contextlib.suppress(AssertionError):
                if words in temporal_cli(installation, *arguments):
                    return
            await asyncio.sleep(0.1)


async def is_current(installation: Installation, build_id: str) -> None:
    """Return once this version of the workers is the current one."""
    current = f'"currentVersionBuildID": "{build_id}"'
    await answers(
        installation, current, "worker", "deployment", "describe", "--name", "shaodao", "-o", "json"
    )


def build_id(installation: Installation, part: Part) -> str:
    """Return what this part's installation calls its version."""
    ask = "from starter.versions import build_id; from adapters.settings import Settings; print(build_id(Settings()))"
    return installation.run(part, "python", "-c", ask).strip()


async def act(client: httpx2.AsyncClient, person: str, case_id: str, name: str, **body: Any) -> None:
    """Do one act; it has to reach a worker, and is not only kept."""
    answer = await client.post(
        f"/api/v1/cases/{case_id}/{name}", json=body, headers=player(client)._headers(person)
    )
    assert answer.status_code == httpx2.codes.OK, answer.text


def alone(settings: Mapping[str, str], *command: str) -> Part:
    """Return a part that runs under the least settings."""
    keys = new_line(AES_256_GCM, DEFAULT, datetime.now(UTC).date())
    least = {"SHAODAO_DATABASE_URL": "sqlite://", "SHAODAO_SECRET": SECRET, "SHAODAO_PAYLOAD_KEYS": keys}
    return Part(command=("shaodao", *command), environment={**least, **settings}, grace=60)


async def is_logged(installation: Installation, way: str, name: str, words: str) -> None:
    """Return once a part has logged these words."""
    async with asyncio.timeout(READY_WITHIN):
        while words not in installation.log(way, name):
            await asyncio.sleep(0.1)


async def test_a_worker_that_waits_for_temporal_ends_when_it_is_told_to(installation: Installation) -> None:
    away = {"TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}"}
    installation.parts["early"] = {"worker": alone(away, "worker")}
    installation.start("early", "worker")
    await is_logged(installation, "early", "worker", "temporal_not_reached")
    installation.stop("early", "worker")


async def test_a_worker_waits_for_a_namespace_that_is_made_after_it_has_started(
    installation: Installation, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    settings = {
        "TEMPORAL_ADDRESS": installation.temporal,
        "TEMPORAL_NAMESPACE": "later",
        "SHAODAO_DATABASE_URL": url,
    }
    installation.run(alone(settings, "migrate"))
    installation.parts["later"] = {"worker": alone(settings, "worker")}
    installation.start("later", "worker")
    await is_logged(installation, "later", "worker", "temporal_not_reached")
    temporal_cli(installation, "operator", "namespace", "create", "-n", "later", "--retention", "720h")
    await answers(installation, "reconcile", "schedule", "list", "-n", "later")
    installation.stop("later", "worker")


async def test_migrations_wait_for_a_database_that_is_not_there_yet_only_as_long_as_they_are_told(
    installation: Installation, postgres: PostgresServer
) -> None:
    attempts = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Turn the first away, and pass on what comes after it."""
        attempts.append(True)
        if len(attempts) == 1:
            writer.close()
            return
        there = make_url(postgres.url)
        further, back = await asyncio.open_connection(there.host, there.port)
        await asyncio.gather(passed_on(reader, back), passed_on(further, writer))

    with postgres.empty_database() as url:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        through = make_url(url).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        part = alone({"SHAODAO_DATABASE_URL": through}, "migrate", "--wait", "60")
        async with server:
            said = await asyncio.to_thread(installation.run, part)
    assert f"数据库版本:{head()}" in said
    assert len(attempts) > 1
    away = alone({"SHAODAO_DATABASE_URL": "postgresql://shaodao:a-password@127.0.0.1:1/x"}, "migrate")
    with pytest.raises(AssertionError) as refused:
        installation.run(away)
    assert "无法连接数据库" in str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert "a-password" not in str(refused.value)


async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy everything from here to there."""
    with contextlib.suppress(ConnectionError):
        while content := await reader.read(65536):
            writer.write(content)
            await writer.drain()
    writer.close()


async def test_a_case_goes_its_whole_way_over_what_compose_runs(installation: Installation) -> None:
    before = files(installation.folder / "opt")
    worker = installation.start("compose", "worker")
    async with door(installation, "compose") as client:
        await is_current(installation, build_id(installation, worker))
        api = installation.parts["compose"]["api"]
        installation.run(api, *api.check)
        case_id = await player(client).play(story())
        case = await player(client).get("longshanlu-officer", f"/cases/{case_id}")
        assert (case["stage"], case["pending_acts"]) == ("closed", [])
        installation.run(api, "shaodao", "audit", "anchor", "--district", "yicheng")
        assert list((installation.folder / "var" / "anchors").glob("anchor-yicheng-*.json"))
        said = installation.run(api, "shaodao", "doctor")
        assert "命名空间 shaodao" in said
        said = installation.run(api, "shaodao", "audit", "verify", case_id)
        assert "✓ 台账由执行历史得出" in said, said
    installation.stop("compose", "worker")
    assert files(installation.folder / "opt") == before


def files(folder: Path) -> set[Path]:
    """Return every file below: an image's folder can be read only, and so can a unit's."""
    return {path for path in folder.rglob("*") if path.is_file()}


async def test_a_case_under_way_moves_to_a_newer_version_under_units_and_on_to_pods(
    installation: Installation,
) -> None:
    older = build_id(installation, installation.start("compose", "worker"))
    async with door(installation, "compose") as client:
        await is_current(installation, older)
        case_id = await player(client).play(story(), until="check-in")
    installation.stop("compose", "worker")
    assert await version_of(installation, case_id) == older

    with (installation.folder / "opt" / "domain" / "words.py").open("a") as rules:
        rules.write("# A newer version of the rules.\n")
    units = installation.parts["units"]
    newer = build_id(installation, units["worker"])
    assert newer != older
    installation.run(units["migrate"])
    installation.start("units", "worker")
    async with door(installation, "units") as client:
        await is_current(installation, newer)
        officer = {"person": "enforcement-officer", "case_id": case_id}
        called = await player(client).get("enforcement-officer", f"/cases/{case_id}")
        await act(client, **officer, name="plan", text=story().plan)
        assert await version_of(installation, case_id) == newer
        for action in story().works[0].actions:
            await act(client, **officer, name="action", **action)
        installation.run(units["api"], "shaodao", "doctor")

    pods = installation.parts["pods"]
    build = pods["worker"].environment["SHAODAO_BUILD_ID"]
    installation.start("pods", "worker")
    async with door(installation, "pods") as client:
        for path in pods["api"].probes:
            (await client.get(path)).raise_for_status()
        switch = ("worker", "deployment", "set-current-version", "--yes", "--deployment-name", "shaodao")
        await answers(installation, "Success", *switch, "--build-id", build)
        installation.stop("units", "worker")
        shown = [
            {"name": name, "sha256": "0" * 64, "size": 1, "evidence": name}
            for name in called["responsibility"]["evidence"]
        ]
        await act(client, **officer, name="done", result="拆除完毕", attachments=shown)
        assert await version_of(installation, case_id) == build
        rating = {"grade": "satisfied", "solved": True, "department": "enforcement"}
        await act(client, "longshanlu-officer", case_id, "rate", **rating)
        case = await player(client).get("longshanlu-officer", f"/cases/{case_id}")
        assert case["stage"] == "closed"
        installation.run(pods["api"], "shaodao", "doctor")
        said = installation.run(pods["api"], "shaodao", "audit", "verify", case_id)
        assert "✓ 台账由执行历史得出" in said, said
    installation.stop("pods", "worker")


async def version_of(installation: Installation, case_id: str) -> str:
    """Return the version of the workers that took the case's newest task."""
    client = await Client.connect(installation.temporal, namespace="shaodao")
    described = await client.get_workflow_handle(f"case/{case_id}").describe()
    info = described.raw_description.workflow_execution_info.versioning_info
    return info.deployment_version.build_id

"""What `shaodao doctor` looks at beyond connections: that anchors, archive and schedules keep up, and keys are all here."""

import os
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode
from temporalio.testing import WorkflowEnvironment

from adapters.sealing import Seal
from adapters.settings import Settings
from adapters.signing import SigningKey
from adapters.store import Store
from adapters.upkeep import LatestAnchor
from domain.case import CaseId
from starter.doctor import anchor_finding, examine, status_of
from starter.doctor_temporal import Finding, TemporalFound, examine_temporal
from starter.local import leave_addresses, remove_addresses, use_data
from starter.schedules import SCHEDULES, ensure_schedules
from tests.payloads import encrypted, fresh_key, key_id
from tests.starter.conftest import SECRET, open_house
from tests.starter.keeping import Keeping

KEY = fresh_key()
EARLY = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)  # 09:00 in Shanghai


@pytest.fixture
async def client(real_server: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Client]:
    """The server as the settings name it, with no schedules but those that a test makes."""
    monkeypatch.setenv("TEMPORAL_ADDRESS", real_server.client.service_client.config.target_host)
    await _without_schedules(real_server.client)
    yield real_server.client
    await _without_schedules(real_server.client)


async def _without_schedules(client: Client) -> None:
    for schedule_id in SCHEDULES:
        try:
            await client.get_schedule_handle(schedule_id).delete()
        except RPCError as error:
            assert error.status is RPCStatusCode.NOT_FOUND


def settings(folder: Path, **more: object) -> Settings:
    """Return settings with an archive and one payload key."""
    values: dict[str, object] = {
        "database_url": "sqlite://",
        "secret": SecretStr(SECRET),
        "archive": (folder / "archive").as_uri(),
        "payload_keys": SecretStr(KEY),
    }
    return Settings(**(values | more))


def of(found: TemporalFound, subject: str) -> Finding:
    """Return the one line about it."""
    (line,) = [each for each in found.findings if each.subject == subject]
    return line


# --- schedules ---------------------------------------------------------------------------------------------


async def test_a_schedule_that_is_missing_paused_or_fails_is_told_and_one_that_runs_says_when(
    client: Client, sqlite_store: Store, tmp_path: Path
) -> None:
    set_ = settings(tmp_path)
    async with open_house(WorkflowEnvironment.from_client(client), sqlite_store) as house:
        keeping = Keeping(house, tmp_path / "archive")
        await keeping.start()
        found = await examine_temporal(set_, None)
        assert of(found, "日程 archive").ok is False
        assert "启动工作进程" in of(found, "日程 archive").detail

        await ensure_schedules(client, set_, task_queue=house.doors.cases.task_queue)
        assert "尚未到时;下次" in of(await examine_temporal(set_, None), "日程 archive").detail
        handle = client.get_schedule_handle("archive")
        await handle.trigger()

        async def says(words: str, *, ok: bool) -> bool:
            line = of(await examine_temporal(set_, None), "日程 archive")
            return words in line.detail and line.ok is ok

        await house.until(lambda: says("已完成;下次", ok=True))
        await handle.pause()
        assert await says("已暂停", ok=False)
        await handle.unpause()
        await house.stop_worker()
        await handle.trigger()

        async def ended() -> bool:
            recent = (await handle.describe()).info.recent_actions
            if len(recent) < 2:
                return False
            run = recent[-1].action
            await client.get_workflow_handle(run.workflow_id).terminate()  # type: ignore[attr-defined]
            return True

        await house.until(ended)
        await house.until(lambda: says("被终止", ok=False))


async def test_without_a_worker_doctor_says_so_and_ends_with_status_one(
    client: Client, sqlite_store: Store, tmp_path: Path
) -> None:
    assert client.namespace == "default"
    found = await examine_temporal(settings(tmp_path), sqlite_store)
    workers = of(found, "工作进程")
    assert workers.ok is False
    assert "shaodao worker" in workers.detail
    assert status_of(found.findings) == 1


async def test_what_cannot_be_looked_at_is_no_good_news_and_accuses_nobody(
    sqlite_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    found = await examine_temporal(settings(tmp_path), sqlite_store)
    assert "127.0.0.1:1" in of(found, "Temporal").detail
    assert {each.subject for each in found.findings if each.ok is None} >= {"日程", "在用密钥", "工作进程"}
    assert status_of([each for each in found.findings if each.ok is not False]) == 2


# --- keys --------------------------------------------------------------------------------------------------


async def test_a_key_that_open_cases_need_and_that_is_not_here_is_named(
    client: Client, sqlite_store: Store, tmp_path: Path
) -> None:
    environment = WorkflowEnvironment.from_client(client)
    async with open_house(await encrypted(environment, KEY), sqlite_store) as house:
        case_id = await house.call()
        await house.dispatch(case_id, "ecology")
        line = of(await examine_temporal(settings(tmp_path), sqlite_store), "在用密钥")
        assert line.ok
        assert key_id(KEY) in line.detail
        other = settings(tmp_path, payload_keys=SecretStr(fresh_key()))
        line = of(await examine_temporal(other, sqlite_store), "在用密钥")
        assert line.ok is False
        for words in (key_id(KEY), case_id, "SHAODAO_PAYLOAD_KEYS_FILE", "old"):
            assert words in line.detail


# --- anchors, archive --------------------------------------------------------------------------------------


def latest(day: str | None, *, first: datetime | None = None, key: str | None = "k") -> LatestAnchor:
    """Return how far a district's anchors have come."""
    return LatestAnchor(
        district="sample",
        day=date.fromisoformat(day) if day else None,
        at=datetime.fromisoformat(f"{day}T00:10:00+08:00") if day else None,
        key_id=key,
        first_call=first,
    )


def test_an_anchor_is_late_once_the_night_of_its_day_has_passed() -> None:
    today = anchor_finding([latest("2026-11-24")], "k", EARLY)
    assert today.ok
    assert "sample 11月24日 00:10" in today.detail
    behind = anchor_finding([latest("2026-11-23")], "k", EARLY)
    assert not behind.ok
    assert "最近一次为 2026-11-23" in behind.detail
    assert "SHAODAO_AUDIT_KEY" in behind.detail
    at_night = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # 01:00 on the 24th: the night's may still be made
    assert anchor_finding([latest("2026-11-23")], "k", at_night).ok


def test_a_district_without_anchors_is_late_only_when_there_was_a_call_before_the_night() -> None:
    assert anchor_finding([latest(None)], "k", EARLY).ok
    assert anchor_finding([latest(None, first=EARLY - timedelta(hours=1))], "k", EARLY).ok
    never = anchor_finding([latest(None, first=EARLY - timedelta(days=1))], "k", EARLY)
    assert not never.ok
    assert "从未锚定" in never.detail


def test_an_anchor_that_another_key_signed_is_told() -> None:
    assert "与现设的不同" in anchor_finding([latest("2026-11-24", key="other")], "k", EARLY).detail


async def test_the_newest_anchor_of_each_district_is_found(store: Store) -> None:
    from tests.sample import district

    for code in ("sample", "other"):
        await store.load_district(district(code, f"{code}-"), datetime.now(UTC))
    key = SigningKey.new()
    for day in (1, 2):
        await store.add_anchor("sample", datetime(2026, 11, day, 4, tzinfo=UTC), key)
    found = {each.district: each for each in await store.latest_anchors()}
    assert found["sample"].day == date(2026, 11, 2)
    assert found["sample"].at == datetime(2026, 11, 2, 4, tzinfo=UTC)
    assert found["sample"].key_id == key.public.id
    assert (found["other"].day, found["other"].first_call) == (None, None)


async def test_doctor_looks_at_signing_key_anchors_and_archive_and_at_what_stands_in_it(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters.migrate import upgrade

    url = f"sqlite:///{tmp_path / 'doctor.db'}"
    upgrade(url)
    for name, value in {
        "SHAODAO_DATABASE_URL": url,
        "SHAODAO_SECRET": SECRET,
        "SHAODAO_PAYLOAD_KEYS": KEY,
        "SHAODAO_ARCHIVE": (tmp_path / "archive").as_uri(),
        "SHAODAO_AUDIT_KEY": str(tmp_path / "audit.key"),
    }.items():
        monkeypatch.setenv(name, value)
    store = Store(url, Seal(SECRET))
    async with open_house(await encrypted(WorkflowEnvironment.from_client(client), KEY), store) as house:
        keeping = Keeping(house, tmp_path / "archive")
        await keeping.start()
        case_id = await keeping.closed("ecology")
        await keeping.run_archive()

        async def lines() -> dict[str, Finding]:
            return {each.subject: each for each in await examine()}

        found = await lines()
        assert found["审计签名密钥"].ok is False
        assert found["锚定"].ok
        assert found["归档"].ok
        assert "最近一次归档于" in found["归档"].detail
        key = SigningKey.new()
        key.write_new(tmp_path / "audit.key")
        assert key.public.id in (await lines())["审计签名密钥"].detail
        (version,) = await store.archived(CaseId(case_id))
        manifest = tmp_path / "archive" / version.manifest.name
        content = manifest.read_bytes()
        manifest.chmod(0o600)
        manifest.write_bytes(content.replace(b"CLOSED", b"OPENED") + b" ")
        assert "与登记的摘要不符" in (await lines())["归档"].detail
        manifest.unlink()
        assert "文件缺失" in (await lines())["归档"].detail
    await store.close()


# --- addresses ---------------------------------------------------------------------------------------------


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that names nothing, and is put back afterwards."""
    for name in [*os.environ, "SHAODAO_URL", "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"]:
        if name.startswith(("SHAODAO_", "TEMPORAL_")):
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
    return monkeypatch


def test_commands_find_a_stack_by_the_addresses_in_its_folder_and_the_environment_wins(
    tmp_path: Path, clean: pytest.MonkeyPatch
) -> None:
    leave_addresses(tmp_path, url="http://h:1", temporal="h:2", namespace="n", ui_url=None)
    use_data(tmp_path)
    assert (os.environ["TEMPORAL_ADDRESS"], os.environ["TEMPORAL_NAMESPACE"]) == ("h:2", "n")
    assert os.environ["SHAODAO_URL"] == "http://h:1"

    clean.setenv("TEMPORAL_ADDRESS", "other:7233")
    clean.delenv("TEMPORAL_NAMESPACE")
    use_data(tmp_path)
    assert os.environ["TEMPORAL_ADDRESS"] == "other:7233"
    assert "TEMPORAL_NAMESPACE" not in os.environ


def test_addresses_are_left_alone_by_another_installation_and_after_a_stop(
    tmp_path: Path, clean: pytest.MonkeyPatch
) -> None:
    leave_addresses(tmp_path, url="http://h:1", temporal="h:2", namespace="n", ui_url=None)
    clean.setenv("SHAODAO_DATABASE_URL", "postgresql://elsewhere/shaodao")
    use_data(tmp_path)
    assert "TEMPORAL_ADDRESS" not in os.environ
    clean.delenv("SHAODAO_DATABASE_URL")
    remove_addresses(tmp_path)
    use_data(tmp_path)
    assert "TEMPORAL_ADDRESS" not in os.environ
    (tmp_path / "addresses.json").write_text("{", "utf-8")
    use_data(tmp_path)
    assert "TEMPORAL_ADDRESS" not in os.environ

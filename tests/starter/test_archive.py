"""Closed cases go into the archive before Temporal forgets them, and can be read from there afterwards."""

import gzip
import hashlib
import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, text, update
from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from activities.archive import read_history, read_ledger, read_manifest, verify
from adapters.database import Database
from adapters.store import Store
from adapters.tables import ArchivedRow, CaseRow
from adapters.temporal import register_search_attributes
from adapters.upkeep import Stuck
from domain.case import CaseId
from domain.errors import ArchiveConflict
from starter.doctor import archive_finding
from starter.schedules import SCHEDULES, ensure_schedules
from starter.stack import TemporalServer, free_port, temporal_binary
from tests.conftest import BIN, FORGETS_SOON
from tests.payloads import encrypted, fresh_key
from tests.starter.conftest import House, open_house
from tests.starter.keeping import Keeping
from tests.starter.test_api import problem
from tests.starter.test_ops import shaodao
from workflows import names
from workflows.case import Case


@pytest.fixture
async def keeping(house: House, tmp_path: Path) -> Keeping:
    """Give a house on SQLite that also archives."""
    keeping = Keeping(house, tmp_path / "archive")
    await keeping.start()
    return keeping


async def replay(history: WorkflowHistory) -> None:
    """Replay with the code as it is."""
    await Replayer(workflows=[Case], data_converter=pydantic_data_converter).replay_workflow(history)


async def test_an_archived_case_is_whole_after_temporal_has_forgotten_it(
    either_house: House, tmp_path: Path
) -> None:
    keeping = Keeping(either_house, tmp_path / "archive")
    await keeping.start()
    store = either_house.store
    case_id, open_ = await keeping.closed("ecology"), await either_house.call()
    handle = keeping.client.get_workflow_handle(f"case/{case_id}")
    before = await handle.fetch_history()
    done = await keeping.run_archive()
    assert (done.archived, done.failed, done.waiting) == (1, 0, 0)
    assert (await keeping.run_archive()).archived == 0

    await keeping.forget(case_id, [before.run_id])
    (version,) = await store.archived(case_id)
    assert (version.runs, version.complete) == (1, True)
    manifest = await verify(keeping.archive, version.manifest)
    assert await read_ledger(keeping.archive, manifest) == await store.raw_entries(case_id)
    history = await read_history(keeping.archive, manifest.runs[0])
    assert list(history.events) == list(before.events)
    await replay(WorkflowHistory(f"case/{case_id}", list(history.events)))
    assert await store.archived(CaseId(open_)) == []


async def test_a_run_that_ended_before_its_case_is_put_away_while_the_case_goes_on(
    sqlite_store: Store, tmp_path: Path
) -> None:
    async with short_runs(tmp_path) as client:
        environment = WorkflowEnvironment.from_client(client)
        async with open_house(environment, sqlite_store) as house:
            keeping = Keeping(house, tmp_path / "archive")
            await keeping.start()
            case_id = CaseId(await house.call())
            await house.until_done(case_id, "ecology", "police")

            async def has_continued() -> bool:
                return len(await keeping.executions.run_ids(case_id)) > 1

            await house.until(has_continued)
            early = (await keeping.executions.run_ids(case_id))[:-1]
            assert (await keeping.run_archive()).runs == len(early)
            await keeping.forget(case_id, early)
            await house.rate(case_id, "ecology", "police")
            await client.get_workflow_handle(f"case/{case_id}").result()
            assert (await keeping.run_archive()).archived == 1
            (version,) = await sqlite_store.archived(case_id)
            manifest = await verify(keeping.archive, version.manifest)
            assert manifest.complete
            assert {run.run_id for run in manifest.runs} >= set(early)
            assert [run.status for run in manifest.runs][-1] == "COMPLETED"
            for run in manifest.runs:
                events = (await read_history(keeping.archive, run)).events
                await replay(WorkflowHistory(f"case/{case_id}", list(events)))


class short_runs:  # noqa: N801 - reads as a function
    """A Temporal server that asks for a new run every few dozen events."""

    def __init__(self, folder: Path) -> None:
        self._server = TemporalServer(
            binary=temporal_binary(str(BIN / "temporal")),
            data=None,
            port=free_port(),
            ui_port=None,
            log_path=folder / "temporal.log",
            search_attributes={},
            extra_arguments=(
                *FORGETS_SOON,
                "--dynamic-config-value",
                "limit.historyCount.suggestContinueAsNew=25",
            ),
        )

    async def __aenter__(self) -> Client:
        await self._server.start()
        client = await Client.connect(self._server.address, data_converter=pydantic_data_converter)
        await register_search_attributes(client, names.SEARCH_ATTRIBUTES)
        return client

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()


async def test_what_goes_wrong_with_one_case_holds_up_no_other_and_is_told_to_operators(
    keeping: Keeping,
) -> None:
    cases = sorted([await keeping.closed("ecology") for _ in range(3)])
    run_id = (await keeping.executions.run_ids(cases[0]))[0]
    name = f"cases/{cases[0]}/runs/{run_id}.pb.gz"
    await keeping.archive.put(name, b"somebody else's")
    done = await keeping.run_archive()
    assert (done.archived, done.failed) == (2, 1)
    store = keeping.house.store
    assert await store.archived(cases[0]) == []
    (stuck,) = await failures(store)
    assert (stuck.case_id, stuck.attempts) == (cases[0], 1)
    assert "未覆盖" in stuck.error
    (Path(keeping.url.removeprefix("file://")) / name).unlink()
    assert (await keeping.run_archive()).archived == 1
    assert await failures(store) == []


async def failures(store: Store) -> list[Stuck]:
    """Return what operators see of the archive."""
    stuck = await store.stuck(datetime.now(UTC), district="sample", limit=10)
    return [each for each in stuck if each.subject == "archive"]


async def test_a_case_that_temporal_has_forgotten_too_early_is_archived_and_marked_as_not_whole(
    keeping: Keeping,
) -> None:
    case_id = await keeping.closed("ecology")
    await keeping.forget(case_id, await keeping.executions.run_ids(case_id))
    assert (await keeping.run_archive()).archived == 1
    (version,) = await keeping.house.store.archived(case_id)
    assert (version.runs, version.complete) == (0, False)
    manifest = await verify(keeping.archive, version.manifest)
    assert len(await read_ledger(keeping.archive, manifest)) == version.entries


async def test_a_change_in_the_archive_is_noticed(keeping: Keeping) -> None:
    case_id = await keeping.closed("ecology")
    await keeping.run_archive()
    (version,) = await keeping.house.store.archived(case_id)
    manifest = await read_manifest(keeping.archive, version.manifest)
    for kept in (manifest.ledger, manifest.terms[0], manifest.runs[0].kept, version.manifest):
        file = Path(kept.location.removeprefix("file://"))
        content = file.read_bytes()
        file.chmod(0o640)
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ArchiveConflict, match="archive_damaged"):
            await verify(keeping.archive, version.manifest)
        file.write_bytes(content)
    assert await verify(keeping.archive, version.manifest) == manifest


@pytest.mark.parametrize(
    "forged", [{"document": "{}"}, {"digest": "0" * 64}, {"location": "file:///elsewhere"}]
)
async def test_a_forged_row_of_the_register_is_one_finding_and_hides_no_other_case(
    keeping: Keeping, forged: dict[str, str]
) -> None:
    sound, wrong = await keeping.closed("ecology"), await keeping.closed("ecology")
    await keeping.run_archive()
    house, store = keeping.house, keeping.house.store
    house.doors.settings = house.doors.settings.model_copy(update={"archive": keeping.url})
    async with store._database.write() as connection:
        row = update(ArchivedRow).where(ArchivedRow.case_id == wrong)
        assert (await connection.execute(row.values(**forged))).rowcount == 1
    listed = (await house.get("auditor", "/archive")).json()["items"]
    assert {each["case_id"] for each in listed} == {sound, wrong}
    checked = {
        case_id: (await house.get("auditor", f"/cases/{case_id}/archive", check=True)).json()["problem"]
        for case_id in (sound, wrong)
    }
    assert checked[sound] is None
    assert "与登记的摘要不符" in checked[wrong]
    shown = (await house.get("auditor", f"/cases/{wrong}/archive")).json()
    assert shown["code"] == "archive_damaged"


async def test_a_manifest_that_the_register_names_and_that_is_none_is_damage(keeping: Keeping) -> None:
    kept = await keeping.archive.put("cases/x/manifest.json", b"{}")
    with pytest.raises(ArchiveConflict, match="archive_damaged"):
        await verify(keeping.archive, kept)


async def test_a_case_whose_ledger_has_grown_since_is_archived_again_beside_the_older_version(
    keeping: Keeping,
) -> None:
    case_id, store = await keeping.closed("ecology"), keeping.house.store
    await keeping.run_archive()
    later = datetime.now(UTC) + timedelta(hours=1)
    assert await store.closed_unarchived(later, "", 10) == []
    assert await store.archive_lag() == (0, None)
    await grow(store._database, case_id)
    assert await store.closed_unarchived(later, "", 10) == [case_id]
    count, oldest = await store.archive_lag()
    assert count == 1
    assert oldest is not None


async def grow(database: Database, case_id: CaseId) -> None:
    """Let the read model say that there is one more entry."""
    async with database.write() as connection:
        row = update(CaseRow).where(CaseRow.case_id == case_id)
        await connection.execute(row.values(sequence=CaseRow.sequence + 1))


async def test_histories_are_kept_as_temporal_has_them_and_small(keeping: Keeping) -> None:
    case_id = await keeping.closed()
    run_id = (await keeping.executions.run_ids(case_id))[0]
    history = await keeping.executions.history(case_id, run_id)
    assert history is not None
    await keeping.run_archive()
    (version,) = await keeping.house.store.archived(case_id)
    manifest = await read_manifest(keeping.archive, version.manifest)
    raw = await keeping.archive.get(manifest.runs[0].kept.name)
    assert gzip.decompress(raw) == history.content
    assert len(raw) < len(history.content) * 0.3


async def test_a_case_whose_workflow_still_runs_waits(keeping: Keeping) -> None:
    case_id = CaseId(await keeping.house.call())
    async with keeping.house.store._database.write() as connection:
        row = update(CaseRow).where(CaseRow.case_id == case_id)
        await connection.execute(row.values(settled_at=datetime.now(UTC) - timedelta(days=1)))
    done = await keeping.run_archive()
    assert (done.archived, done.waiting) == (0, 1)


def test_doctor_warns_when_the_archive_lags_or_retention_is_too_short() -> None:
    now, day, hour = datetime(2026, 3, 4, tzinfo=UTC), timedelta(days=1), timedelta(hours=1)
    assert archive_finding(0, None, day, now).ok
    assert archive_finding(3, now - 5 * hour, day, now).ok
    behind = archive_finding(3, now - 7 * hour, day, now)
    assert not behind.ok
    assert "落后" in behind.detail
    short = archive_finding(0, None, 3 * hour, now)
    assert not short.ok
    assert "--retention" in short.detail


async def test_a_row_that_says_a_case_is_archived_which_is_not_is_named_when_the_archive_is_verified(
    keeping: Keeping,
) -> None:
    house = keeping.house
    house.doors.settings = house.doors.settings.model_copy(update={"archive": keeping.url})
    archived, other, third = await keeping.closed("ecology"), await house.call(), await house.call()
    await keeping.run_archive()
    copied = "entries, district, at, location, digest, head, runs, complete, {document} FROM archived"
    elsewhere = f"replace(document, '{archived}', '{third}')"
    async with house.store._database.write() as connection:
        unknown = "sample-20260304-aaaaaa"
        for case_id, document in ((other, "document"), (third, elsewhere), (unknown, "document")):
            row = f"SELECT '{case_id}', {copied.format(document=document)} WHERE case_id = '{archived}'"
            await connection.execute(text(f"INSERT INTO archived {row}"))
    status, said = await shaodao(house, "auditor", "archive", "verify", "--all")
    assert (status, "已校验 4 件,有问题 3 件" in said) == (1, True), said
    assert f"✗ {unknown}:登记为已归档,而未能读取" in said
    assert f"✗ {other}:登记的归档文件不属于本案" in said
    assert f"✗ {third}:登记或清单所载的归档文件缺失" in said


# --- runs of cases that are open ---------------------------------------------------------------------------


async def test_the_schedule_puts_an_early_run_away_and_it_is_listed_shown_and_verified_while_the_case_is_open(
    real_server: WorkflowEnvironment, sqlite_store: Store, tmp_path: Path
) -> None:
    key, other = fresh_key(), fresh_key()
    async with open_house(await encrypted(real_server, key), sqlite_store) as house:
        keeping = Keeping(house, tmp_path / "archive")
        house.doors.settings = house.doors.settings.model_copy(update={"archive": keeping.url})
        await keeping.start()
        case_id = CaseId(await house.call())
        await house.dispatch(case_id, "ecology")
        (early,) = await keeping.executions.run_ids(case_id)
        body = {"case_id": case_id, "from_ledger": True, "reason": "演练"}
        await house.post("administrator", "/ops/reset", body)
        await house.do("ecology-officer", case_id, "sign")
        assert (await house.get("auditor", f"/cases/{case_id}/archive")).status_code == 404

        queue = house.doors.cases.task_queue
        await ensure_schedules(keeping.client, house.doors.settings, schedules=ONLY_ARCHIVE, task_queue=queue)
        schedule = keeping.client.get_schedule_handle("archive-once")
        query = "WorkflowType = 'Archive' AND TemporalScheduledById = 'archive-once'"
        for number in (1, 2):  # the second is handed the result of the first, encrypted under another id
            await schedule.trigger()

            async def completed(number: int = number) -> bool:
                runs = [each.status async for each in keeping.client.list_workflows(query)]
                return runs == [WorkflowExecutionStatus.COMPLETED] * number

            await house.until(completed)
        assert [run.run_id for run in await sqlite_store.archived_runs(case_id)] == [early]
        await schedule.delete()

        assert (await house.get("auditor", "/archive")).json()["items"] == []
        (listed,) = (await house.get("auditor", "/archive/runs")).json()["items"]
        assert (listed["case_id"], listed["run_id"], listed["status"]) == (case_id, early, "TERMINATED")
        stored = tmp_path / "archive" / f"cases/{case_id}/runs/{early}.pb.gz"
        assert listed["size"] == stored.stat().st_size
        assert listed["sha256"] == hashlib.sha256(stored.read_bytes()).hexdigest()
        assert problem(await house.get("town-officer", "/archive/runs"), 403) == "role_may_not"

        run = f"/cases/{case_id}/archive/runs/{early}"
        assert len((await house.get("auditor", run)).json()["events"]) == listed["events"]
        lines = (await house.get("auditor", f"{run}/timeline")).json()["items"]
        assert [(line["who"], line["text"]) for line in lines[:2]] == [
            ("", "开始运行"),
            ("dispatcher", "派单"),
        ]
        assert "运行被终止" in lines[-1]["text"]
        keyless = (await encrypted(real_server, other)).client
        house.doors.cases.client = keyless
        lines = (await house.get("auditor", f"{run}/timeline")).json()["items"]
        assert (lines[1]["who"], lines[1]["text"]) == ("(缺少密钥,未能解密)", "派单")

        status, said = await shaodao(house, "auditor", "archive", "runs", columns=80)
        assert (status, case_id in said, early in said) == (0, True, True), said
        assert listed["sha256"] in said
        status, said = await shaodao(house, "auditor", "archive", "show", case_id, "--run", early)
        assert (status, "运行被终止" in said) == (0, True), said
        status, said = await shaodao(house, "auditor", "archive", "show", case_id, "--run", early, "--json")
        assert (status, len(json.loads(said)["events"])) == (0, listed["events"])
        status, said = await shaodao(house, "auditor", "archive", "show", case_id)
        assert (status, "尚未归档" in said, early in said) == (0, True, True), said
        status, said = await shaodao(house, "auditor", "archive", "verify", "--all")
        assert (status, "已校验 1 件,有问题 0 件" in said) == (0, True), said
        stored.chmod(0o600)
        stored.write_bytes(stored.read_bytes() + b"x")
        status, said = await shaodao(house, "auditor", "archive", "verify", case_id)
        assert (status, "不符" in said) == (1, True), said


ONLY_ARCHIVE = {"archive-once": SCHEDULES["archive"]}
"""Under a name of its own: the server is shared with other tests."""


# --- what is marked as archived and no longer there ---------------------------------------------------------


async def stuck_of(keeping: Keeping, case_id: str | None = None) -> list[tuple[str, str]]:
    """Return kind and case of what operators are told, without what Temporal says of cases that are not this house's:
    other tests share the server and the district, never the database.
    """
    query = {"case_id": case_id} if case_id else {}
    answer = await keeping.house.get("administrator", "/ops/stuck", **query)
    told = [(each["kind"], each["case_id"]) for each in answer.json()["items"]]
    store = keeping.house.store
    return [
        each
        for each in told
        if each[0] != "workflow_task" or await store.district_of(CaseId(each[1])) is not None
    ]


def with_archive(keeping: Keeping) -> None:
    """Let the API know of the archive as well."""
    house = keeping.house
    house.doors.settings = house.doors.settings.model_copy(update={"archive": keeping.url})


def folder_of(keeping: Keeping, case_id: str) -> Path:
    """Return where a case stands."""
    return Path(keeping.url.removeprefix("file://")) / "cases" / case_id


async def test_a_case_whose_archive_folder_is_gone_is_told_and_put_away_again_as_it_was(
    either_house: House, tmp_path: Path
) -> None:
    keeping = Keeping(either_house, tmp_path / "archive")
    await keeping.start()
    with_archive(keeping)
    case_id, other = await keeping.closed("ecology"), await keeping.closed("ecology")
    await keeping.run_archive()
    assert await stuck_of(keeping) == []
    before = await either_house.store.archived(case_id)
    shutil.rmtree(folder_of(keeping, case_id))
    assert await stuck_of(keeping) == [("archive_gone", case_id)]
    assert await stuck_of(keeping, case_id) == [("archive_gone", case_id)]
    assert await stuck_of(keeping, other) == []
    done = await keeping.run_archive()
    assert (done.renewed, done.failed, done.archived) == (1, 0, 0)
    assert await stuck_of(keeping) == []
    assert await either_house.store.archived(case_id) == before
    await verify(keeping.archive, before[0].manifest)
    assert (await keeping.run_archive()).renewed == 0


@pytest.mark.parametrize("name", ["*/manifest.json", "*/ledger.jsonl.gz", "runs/*.pb.gz"])
async def test_a_single_file_that_is_gone_is_put_back_and_everything_is_as_it_was(
    keeping: Keeping, name: str
) -> None:
    case_id = await keeping.closed("ecology")
    await keeping.run_archive()
    (before,) = await keeping.house.store.archived(case_id)
    (file,) = folder_of(keeping, case_id).glob(name)
    file.unlink()
    assert (await keeping.run_archive()).renewed == 1
    assert await keeping.house.store.archived(case_id) == [before]
    await verify(keeping.archive, before.manifest)


async def test_what_temporal_has_forgotten_is_not_archived_anew_but_told_until_the_files_are_back(
    keeping: Keeping, tmp_path: Path
) -> None:
    with_archive(keeping)
    case_id = await keeping.closed("ecology")
    await keeping.run_archive()
    await keeping.forget(case_id, await keeping.executions.run_ids(case_id))
    folder, aside = folder_of(keeping, case_id), tmp_path / "aside"
    folder.rename(aside)
    done = await keeping.run_archive()
    assert (done.renewed, done.failed) == (0, 1)
    assert not list(folder.glob("*/manifest.json"))
    stuck = await keeping.house.store.stuck(datetime.now(UTC), district="sample", limit=100)
    (reported,) = (each for each in stuck if each.subject != "notice")  # which may still be on their way
    assert reported.subject == "archive_gone"
    assert "Temporal 已没有" in reported.error
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    assert (await keeping.run_archive()).failed == 0
    assert await stuck_of(keeping) == []


async def test_when_much_is_gone_at_once_it_is_told_and_only_put_away_again_when_somebody_says_so(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.archive._FEW", 1)
    cases = sorted([await keeping.closed("ecology") for _ in range(2)])
    await keeping.run_archive()
    for case_id in cases:
        shutil.rmtree(folder_of(keeping, case_id))
    assert [await keeping.run_archive(), *(await keeping.house.store.told_as_gone())][1:] == cases
    assert not folder_of(keeping, cases[0]).exists()
    keeping.batch = keeping.batch.model_copy(update={"renew_many": True})
    assert (await keeping.run_archive()).renewed == len(cases)
    assert await keeping.house.store.told_as_gone() == []


async def test_a_manifest_that_an_interrupted_attempt_left_behind_holds_nothing_up(keeping: Keeping) -> None:
    case_id = await keeping.closed("ecology")
    await keeping.run_archive()
    async with keeping.house.store._database.write() as connection:  # as if it had died before the mark
        await connection.execute(delete(ArchivedRow).where(ArchivedRow.case_id == case_id))
    done = await keeping.run_archive()
    assert (done.archived, done.failed) == (1, 0)

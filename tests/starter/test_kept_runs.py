"""Verdicts on cases of which Temporal has forgotten something: the archive has it, and is held against its digests."""

import gzip
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import delete
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from adapters.bundle import open_bundle
from adapters.store import Store, StoreUnavailable
from adapters.tables import ArchivedRunRow
from domain.case import CaseId
from domain.verify import Check, Verdict, status_of
from starter.auditor import gather, judge_bundle, verify_cases
from tests.sample import FULL_POLICY, district
from tests.starter.conftest import House, open_house
from tests.starter.keeping import Keeping
from tests.starter.test_archive import short_runs
from tests.starter.test_auditor import KEY, PEM, Turned, bundle, found, gone, tamper


@pytest.fixture
async def keeping(house: House, tmp_path: Path) -> Keeping:
    """Give a house on SQLite that also archives."""
    keeping = Keeping(house, tmp_path / "archive")
    await keeping.start()
    return keeping


async def judged(keeping: Keeping, case_id: CaseId, *, archive: bool = True) -> list[Verdict]:
    """Judge a case, with the archive at hand or without."""
    ((_, verdicts),) = await verify_cases(
        keeping.house.store, keeping.client, [case_id], keeping.archive if archive else None
    )
    return verdicts


def history(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the line about the history."""
    return next(each for each in verdicts if each.check is Check.HISTORY)


def run_files(keeping: Keeping) -> list[Path]:
    """Return the archive's files of runs."""
    return sorted(Path(keeping.url.removeprefix("file://")).rglob("*.pb.gz"))


def spoil(file: Path) -> None:
    """Change the last byte of a file that is written once."""
    content = file.read_bytes()
    file.chmod(0o640)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


# --- runs that continue one another ------------------------------------------------------------------------


async def test_an_open_case_whose_earlier_runs_are_forgotten_is_proven_from_the_archive(
    sqlite_store: Store, tmp_path: Path
) -> None:
    async with (
        short_runs(tmp_path) as client,
        open_house(WorkflowEnvironment.from_client(client), sqlite_store) as house,
    ):
        keeping = Keeping(house, tmp_path / "archive")
        await keeping.start()
        case_id = CaseId(await house.call())
        await house.until_done(case_id, "ecology", "police")

        async def has_continued() -> bool:
            return len(await keeping.executions.run_ids(case_id)) > 1

        await house.until(has_continued)
        early = (await keeping.executions.run_ids(case_id))[:-1]
        await keeping.run_archive()
        assert "归档" not in history(await judged(keeping, case_id)).note
        await keeping.forget(case_id, early)
        verdicts = await judged(keeping, case_id)
        assert status_of(verdicts) == 0, found(verdicts)
        numbers = "、".join(str(number) for number in range(1, len(early) + 1))
        assert f"第{numbers}次运行的历史取自归档,摘要相符" in history(verdicts).note
        without = await judged(keeping, case_id, archive=False)
        assert [each.status for each in without] == [0, 2, 0, 0]
        assert "未设置归档" in history(without).findings[0].detail

        for file in run_files(keeping):
            file.unlink()
        nowhere = await judged(keeping, case_id)
        assert [each.status for each in nowhere] == [0, 1, 0, 0]
        promised = [each.row for each in history(nowhere).findings if each.code == "archive_damaged"]
        assert promised == sorted(f"cases/{case_id}/runs/{run_id}.pb.gz" for run_id in early)
        (unknown,) = (each for each in history(nowhere).findings if not each.proven)
        assert "Temporal 与归档中均没有" in unknown.detail


# --- everything forgotten ----------------------------------------------------------------------------------


async def forgotten(keeping: Keeping) -> CaseId:
    """Return a closed case that only the ledger and the archive have."""
    case_id = await keeping.closed("ecology")
    run_ids = await keeping.executions.run_ids(case_id)
    assert (await keeping.run_archive()).archived == 1
    await keeping.forget(case_id, run_ids)
    return case_id


async def test_a_run_that_the_manifest_names_and_the_archive_has_no_more_is_damage_and_named(
    keeping: Keeping,
) -> None:
    case_id = await forgotten(keeping)
    (path,) = run_files(keeping)
    path.unlink()
    verdict = history(await judged(keeping, case_id))
    assert [each.code for each in verdict.findings] == ["archive_damaged", "history_missing"]
    assert verdict.findings[0].row.endswith(f"{case_id}/runs/{path.name}")
    assert verdict.status == 1


async def test_a_case_whose_whole_folder_is_gone_from_the_archive_lacks_what_the_register_promised(
    keeping: Keeping,
) -> None:
    case_id, house = await forgotten(keeping), keeping.house
    (version,) = await house.store.archived(case_id)
    (run_file,) = run_files(keeping)
    shutil.rmtree(Path(keeping.url.removeprefix("file://")) / "cases" / case_id)
    verdict = history(await judged(keeping, case_id))
    assert verdict.status == 1
    assert {(each.code, each.row) for each in verdict.findings if each.proven} == {
        ("archive_damaged", version.manifest.name),
        ("archive_damaged", f"cases/{case_id}/runs/{run_file.name}"),
    }
    assert [each.code for each in verdict.findings if not each.proven] == ["history_missing"]
    house.doors.settings = house.doors.settings.model_copy(update={"archive": keeping.url})
    checked = (await house.get("auditor", f"/cases/{case_id}/archive", check=True)).json()
    assert f"{version.manifest.name}。" in checked["problem"]


async def test_a_row_of_the_register_that_cannot_be_read_is_named_and_the_run_read_all_the_same(
    keeping: Keeping,
) -> None:
    case_id, house = await forgotten(keeping), keeping.house
    (run_file,) = run_files(keeping)
    run_id = run_file.name.removesuffix(".pb.gz")
    await tamper(house.store, "UPDATE archived_runs SET document = '{}', at = 'garbage'")
    verdicts = await judged(keeping, case_id)
    assert found(verdicts) == {("unreadable", "archived_runs", run_id, "document")}
    assert (status_of(verdicts), "取自归档,摘要相符" in history(verdicts).note) == (1, True)
    house.doors.settings = house.doors.settings.model_copy(update={"archive": keeping.url})
    (listed,) = (await house.get("auditor", "/archive/runs")).json()["items"]
    assert (listed["case_id"], listed["status"]) == (case_id, "UNREADABLE")
    checked = (await house.get("auditor", f"/cases/{case_id}/archive", check=True)).json()
    assert f"archived_runs,{run_id}" in checked["problem"]
    await tamper(house.store, "UPDATE archived SET document = '{}', at = 'garbage', entries = 'x'")
    (entries,) = {each[2] for each in found(await judged(keeping, case_id)) if each[1] == "archived"}
    assert entries == f"{case_id}/x"


async def test_a_case_that_temporal_has_forgotten_is_proven_from_the_archive_and_so_is_its_bundle(
    keeping: Keeping,
) -> None:
    case_id, house = await forgotten(keeping), keeping.house
    verdicts = await judged(keeping, case_id)
    assert status_of(verdicts) == 0, found(verdicts)
    assert "第1次运行的历史取自归档,摘要相符" in history(verdicts).note
    assert [each.status for each in await judged(keeping, case_id, archive=False)] == [0, 2, 0, 0]
    house.doors.settings = house.doors.settings.model_copy(
        update={"archive": keeping.url, "audit_key": SecretStr(PEM)}
    )
    opened = open_bundle(await bundle(house, case_id))
    assert status_of(await judge_bundle(opened, trusted=KEY.public)) == 0


async def test_a_run_in_the_archive_that_is_not_what_was_written_is_named(keeping: Keeping) -> None:
    case_id = await forgotten(keeping)
    (file,) = run_files(keeping)
    spoil(file)
    (finding,) = history(await judged(keeping, case_id)).findings
    assert (finding.code, finding.proven) == ("archive_damaged", True)
    assert file.name in finding.detail


async def test_a_manifest_of_the_archive_that_is_not_what_was_written_is_named(keeping: Keeping) -> None:
    case_id = await forgotten(keeping)
    (manifest,) = Path(keeping.url.removeprefix("file://")).rglob("manifest.json")
    spoil(manifest)
    (finding,) = history(await judged(keeping, case_id)).findings
    assert (finding.code, finding.proven) == ("archive_damaged", True)


async def test_an_archive_that_is_away_decides_nothing(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = await forgotten(keeping)

    async def away(_: str) -> Sequence[str]:
        raise OSError("no route")

    monkeypatch.setattr(keeping.archive, "names", away)
    verdicts = await judged(keeping, case_id)
    assert [each.status for each in verdicts] == [0, 2, 0, 0]
    assert "归档无法读取" in history(verdicts).findings[0].detail


async def test_a_run_whose_register_somebody_deleted_is_read_by_the_archives_own_manifest(
    keeping: Keeping,
) -> None:
    case_id, store = await forgotten(keeping), keeping.house.store
    async with store._database.write() as connection:
        await connection.execute(delete(ArchivedRunRow))
    assert "摘要相符" in history(await judged(keeping, case_id)).note
    (manifest,) = Path(keeping.url.removeprefix("file://")).rglob("manifest.json")
    manifest.unlink()
    verdicts = await judged(keeping, case_id)
    assert status_of(verdicts) == 0
    assert "摘要无登记可对" in history(verdicts).note


async def test_a_ledger_rewritten_after_temporal_has_forgotten_differs_from_the_archive(
    keeping: Keeping,
) -> None:
    case_id, store = await forgotten(keeping), keeping.house.store
    await tamper(
        store,
        f"UPDATE ledger SET entry = replace(entry, '已拆', '未拆') WHERE case_id = '{case_id}'",  # noqa: S608
    )
    codes = {finding.code for finding in history(await judged(keeping, case_id)).findings if finding.proven}
    assert codes == {"differs_from_history"}
    await tamper(store, f"DELETE FROM ledger WHERE case_id = '{case_id}' AND kind = 'closed'")  # noqa: S608
    codes = {finding.code for finding in history(await judged(keeping, case_id)).findings}
    assert "missing_in_ledger" in codes


async def test_entries_after_the_last_run_that_anybody_has_are_left_open_at_their_place(
    keeping: Keeping,
) -> None:
    """A further run may have been lost before it was archived; or somebody has added a row. Nothing tells which."""
    case_id, house = await forgotten(keeping), keeping.house
    added = (
        "INSERT INTO ledger SELECT case_id, sequence + 1, at, 'watched', entry, '{other}' FROM ledger"
        " WHERE case_id = '{case}' AND kind = 'closed'"
    )
    await tamper(house.store, added.format(case=case_id, other="f" * 64))
    (finding,) = history(await judged(keeping, case_id)).findings
    last = len(await house.store.raw_entries(case_id))
    assert (finding.code, finding.row, finding.proven) == ("history_missing", f"第{last}条起", False)
    gathered = await gather(house.store, keeping.client, case_id, keeping.archive)
    assert "此后运行" in gathered.gap


async def test_a_case_that_only_the_archive_still_knows_accuses_the_ledger(keeping: Keeping) -> None:
    case_id = await forgotten(keeping)
    await tamper(keeping.house.store, *gone(case_id))
    verdicts = await judged(keeping, case_id)
    assert {"no_rows", "missing_in_ledger"} <= {code for code, *_ in found(verdicts)}
    assert "第1次运行的历史取自归档" in history(verdicts).note


async def test_runs_that_the_archive_keeps_encrypted_are_read_with_the_installations_codec(
    real_server: WorkflowEnvironment, sqlite_store: Store, tmp_path: Path
) -> None:
    converter = replace(pydantic_data_converter, payload_codec=Turned())
    target = real_server.client.service_client.config.target_host
    client = await Client.connect(target, data_converter=converter)
    async with open_house(WorkflowEnvironment.from_client(client), sqlite_store) as house:
        keeping = Keeping(house, tmp_path / "archive")
        await keeping.start()
        case_id = await forgotten(keeping)
        (file,) = run_files(keeping)
        assert b"binary/turned" in gzip.decompress(file.read_bytes())
        verdicts = await judged(keeping, case_id)
        assert status_of(verdicts) == 0, found(verdicts)


# --- reopened, ended and taken up again, reset ---------------------------------------------------------------


async def test_a_reopened_case_is_proven_over_runs_of_temporal_and_of_the_archive(
    real_server: WorkflowEnvironment, sqlite_store: Store, tmp_path: Path
) -> None:
    async with open_house(real_server, sqlite_store, district=district(policy=FULL_POLICY)) as house:
        keeping = Keeping(house, tmp_path / "archive")
        await keeping.start()
        case_id = CaseId(await house.call())
        await house.do("town-approver", case_id, "release")
        await house.until_done(case_id, "ecology")
        await house.rate(case_id, "ecology")
        await keeping.client.get_workflow_handle(f"case/{case_id}").result()
        await keeping.run_archive()
        first = await keeping.executions.run_ids(case_id)
        await house.do("town-officer", case_id, "reopen", reason="违建复建")
        await keeping.forget(case_id, first)
        verdicts = await judged(keeping, case_id)
        assert status_of(verdicts) == 0, found(verdicts)
        assert "第1次运行的历史取自归档" in history(verdicts).note
        await house.do(
            "ecology-officer", case_id, "action", kind="demolition", description="拆", result="已拆"
        )
        await house.do("ecology-officer", case_id, "done", result="完成")
        await house.rate(case_id, "ecology")
        await keeping.client.get_workflow_handle(f"case/{case_id}").result()
        await keeping.run_archive()
        await keeping.forget(case_id, (await keeping.executions.run_ids(case_id)))
        verdicts = await judged(keeping, case_id)
        assert status_of(verdicts) == 0, found(verdicts)
        assert "第1、2次运行的历史取自归档" in history(verdicts).note

        (newest,) = (each for each in run_files(keeping) if each.name[: -len(".pb.gz")] not in first)
        newest.unlink()
        damaged, finding = history(await judged(keeping, case_id)).findings
        assert (damaged.code, damaged.proven) == ("archive_damaged", True)
        assert damaged.row.endswith(newest.name)
        reopened = 1 + [each.event.kind for each in await house.store.entries(case_id)].index("reopened")
        assert (finding.code, finding.row, finding.proven) == ("history_missing", f"第{reopened}条起", False)
        house.doors.settings = house.doors.settings.model_copy(
            update={"archive": keeping.url, "audit_key": SecretStr(PEM)}
        )
        in_bundle = await judge_bundle(open_bundle(await bundle(house, case_id)), trusted=KEY.public)
        assert [each.status for each in in_bundle] == [0, 0, 0, 2, 0, 0]
        (finding,) = history(in_bundle).findings
        assert (finding.table, finding.row) == ("ledger.jsonl", f"第{reopened}条起")


async def test_a_case_that_was_terminated_and_goes_on_from_its_ledger_is_proven(keeping: Keeping) -> None:
    case_id, house = CaseId(await keeping.house.call()), keeping.house
    await house.dispatch(case_id, "ecology")
    runs = await keeping.executions.run_ids(case_id)
    await keeping.executions.terminate(case_id, "by mistake")
    await keeping.run_archive()
    await keeping.run_reconcile()
    await house.do("ecology-officer", case_id, "sign")
    assert status_of(await judged(keeping, case_id)) == 0
    await keeping.forget(case_id, runs)
    verdicts = await judged(keeping, case_id)
    assert status_of(verdicts) == 0, found(verdicts)
    assert "第1次运行的历史取自归档" in history(verdicts).note
    assert history(await judged(keeping, case_id, archive=False)).status == 2


async def test_an_act_that_a_terminated_run_never_got_into_the_ledger_accuses_nobody(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id, house = CaseId(await keeping.house.call()), keeping.house
    await house.dispatch(case_id, "ecology")

    async def away(_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(house.store, "record", away)
        await house.do("ecology-officer", case_id, "sign")
        await keeping.executions.terminate(case_id, "in the worst moment")
    await keeping.run_reconcile()

    async def recorded() -> bool:
        return len(await house.store.entries(case_id)) == 3

    await house.until(recorded)
    verdicts = await judged(keeping, case_id)
    assert status_of(verdicts) == 0, found(verdicts)
    assert "另有 1 条在运行被终止时未及记入台账" in history(verdicts).note


async def test_a_case_that_was_reset_is_proven_from_what_it_became(keeping: Keeping) -> None:
    case_id, house = CaseId(await keeping.house.call()), keeping.house
    await house.dispatch(case_id, "ecology")
    await house.do("ecology-officer", case_id, "sign")
    before = await keeping.client.get_workflow_handle(f"case/{case_id}").fetch_history()
    completed = [
        each.event_id for each in before.events if each.HasField("workflow_task_completed_event_attributes")
    ]
    point = await keeping.executions.reset_point(case_id, event_id=completed[-1])
    assert point is not None
    await keeping.executions.reset(case_id, point, "through the Temporal UI")
    for act, body in (
        ("check-in", {"officers": [{"name": "王示例"}]}),
        ("confirm-check-in", {"department": "ecology"}),
    ):
        await house.do("ecology-officer" if act == "check-in" else "town-officer", case_id, act, **body)
    assert status_of(await judged(keeping, case_id)) == 0
    await house.do("ecology-officer", case_id, "action", kind="demolition", description="拆", result="已拆")
    await house.do("ecology-officer", case_id, "done", result="完成")
    await house.rate(case_id, "ecology")
    await keeping.client.get_workflow_handle(f"case/{case_id}").result()
    runs = await keeping.executions.run_ids(case_id)
    assert len(runs) == 2
    await keeping.run_archive()
    await keeping.forget(case_id, runs)
    verdicts = await judged(keeping, case_id)
    assert status_of(verdicts) == 0, found(verdicts)
    assert "取自归档,摘要相符" in history(verdicts).note

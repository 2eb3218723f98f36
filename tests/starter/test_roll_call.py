"""Calling the roll: whole cases that were deleted, and rows that nothing stands behind."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from adapters.anchors import AnchorKeeper
from adapters.store import Store
from domain.calendar import SHANGHAI
from domain.case import CaseId
from domain.roll import Scope
from domain.verify import Check, Verdict, status_of
from starter.audit_runs import Wanted, verify_wanted
from starter.auditor import verify_cases
from starter.roll_call import RollCall, call_roll
from starter.stack import free_port
from tests.conftest import SECRET
from tests.sample import district
from tests.starter.conftest import open_house
from tests.starter.keeping import Keeping
from tests.starter.test_auditor import KEY, gone, tamper


class Roll:
    """A district of its own, for other tests' cases are on the same Temporal server."""

    def __init__(self, keeping: Keeping, code: str, anchors: Path) -> None:
        self.keeping = keeping
        self.house = keeping.house
        self.store = keeping.house.store
        self.code = code
        self.anchors = anchors
        today = datetime.now(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)
        self.scope = Scope(
            district=code, called_from=today - timedelta(days=1), called_before=today + timedelta(days=2)
        )

    async def call(self) -> CaseId:
        """Call, and see the case under way."""
        case_id = CaseId(await self.house.call(district=self.code))
        await self.house.dispatch(case_id, "ecology")
        return case_id

    async def closed(self) -> CaseId:
        """Let a case go to its end."""
        case_id = CaseId(await self.house.call(district=self.code))
        await self.house.until_done(case_id, "ecology")
        await self.house.rate(case_id, "ecology")
        await self.keeping.client.get_workflow_handle(f"case/{case_id}").result()
        return case_id

    async def called(self, scope: Scope | None = None) -> RollCall:
        """Call the roll."""
        return await call_roll(
            self.store, self.keeping.client, self.keeping.archive, self.anchors, scope or self.scope
        )

    async def until_listed(self, *case_ids: str) -> None:
        """Wait until Temporal's lists, which are a moment behind, know these cases."""

        async def listed() -> bool:
            running = f"WorkflowType = 'Case' AND District = '{self.code}'"
            known = {each.id async for each in self.keeping.client.list_workflows(running)}
            return {f"case/{case_id}" for case_id in case_ids} <= known

        await self.house.until(listed)


@pytest.fixture
async def roll(real_server: WorkflowEnvironment, store: Store, tmp_path: Path) -> AsyncIterator[Roll]:
    """The product on each kind of database, with archive and anchors."""
    code = f"roll{uuid.uuid4().hex[:8]}"
    async with open_house(real_server, store, district=district(code)) as house:
        keeping = Keeping(house, tmp_path / "archive")
        await keeping.start()
        yield Roll(keeping, code, tmp_path / "anchors")


def cases(roll: RollCall) -> Verdict:
    """Return the line about missing cases."""
    return next(each for each in roll.verdicts if each.check is Check.CASES)


def read_models(roll: RollCall) -> set[tuple[str, str, str]]:
    """Return code, table and row of what is said of the read models."""
    (verdict,) = (each for each in roll.verdicts if each.check is Check.READ_MODELS)
    return {(each.code, each.table, each.row) for each in verdict.findings}


def told(roll: RollCall, case_id: CaseId) -> str:
    """Return what is said of a case that is missing."""
    (finding,) = (each for each in cases(roll).findings if each.row == f"案件 {case_id}")
    assert (finding.code, finding.table, finding.proven) == ("case_deleted", "ledger", True)
    return finding.detail


async def test_where_nothing_is_missing_nothing_is_found_and_the_line_says_who_was_asked(roll: Roll) -> None:
    running, closed = await roll.call(), await roll.closed()
    await roll.keeping.run_archive()
    await AnchorKeeper(roll.store, KEY, roll.anchors).anchor(roll.code, datetime.now(UTC))
    await roll.until_listed(running, closed)
    called = await roll.called()
    assert status_of(called.verdicts) == 0, called
    assert cases(called).note == "对照 Temporal 2 件、归档 1 件、锚定 2 件"
    assert called.known == tuple(sorted([running, closed]))


async def test_a_deleted_case_is_noticed_by_whoever_still_knows_it_to_the_last(roll: Roll) -> None:
    """First by its runs, then by the archive, then by anchor alone, and in the end by the published one."""
    running, closed = await roll.call(), await roll.closed()
    runs = await roll.keeping.executions.run_ids(closed)
    await roll.keeping.run_archive()
    await AnchorKeeper(roll.store, KEY, roll.anchors).anchor(roll.code, datetime.now(UTC))
    await roll.until_listed(running, closed)
    await tamper(roll.store, *gone(running), *gone(closed))
    called = await roll.called()
    day = datetime.now(SHANGHAI).date()
    assert f"Temporal(运行中)、{day} 第1号锚定有此案" in told(called, running)
    assert f"Temporal(已结束)、归档、{day} 第1号锚定有此案" in told(called, closed)

    await roll.keeping.forget(closed, runs)
    assert "Temporal" not in told(await roll.called(), closed)
    for file in Path(roll.keeping.url.removeprefix("file://")).rglob("*"):
        if file.is_file():
            file.unlink()
    assert "归档、" in told(await roll.called(), closed), "the register still knows it"
    for path in sorted(Path(roll.keeping.url.removeprefix("file://")).rglob("*"), reverse=True):
        path.rmdir()
    await tamper(roll.store, "DELETE FROM archived", "DELETE FROM archived_runs")
    assert f":{day} 第1号锚定有此案" in told(await roll.called(), closed)
    await tamper(roll.store, "DELETE FROM anchors")
    assert f":{day} 第1号锚定有此案" in told(await roll.called(), closed)


async def test_a_deleted_case_of_another_time_or_district_is_not_meant(roll: Roll) -> None:
    case_id = await roll.call()
    await roll.until_listed(case_id)
    await tamper(roll.store, *gone(case_id))
    assert cases(await roll.called()).status == 1
    before = replace(roll.scope, called_before=roll.scope.called_from, called_from=None)
    assert cases(await roll.called(before)).findings == ()
    assert cases(await roll.called(Scope(district="elsewhere"))).findings == ()
    assert told(await roll.called(Scope(district=roll.code)), case_id)


async def test_rows_of_read_models_that_nothing_stands_behind_are_named(roll: Roll) -> None:
    case_id = await roll.call()
    forged, tables = f"{roll.code}-20200101-forged", ("cases", "assignments", "clocks", "timeline", "watches")
    foreign = "elsewhere-20200101-forged"
    await tamper(
        roll.store,
        f"INSERT INTO timeline SELECT case_id, 999, at, kind, actor, actor_name, text FROM timeline"  # noqa: S608
        f" WHERE case_id = '{case_id}' AND sequence = 1",
        f"INSERT INTO watches VALUES ('{case_id}', 'leader')",  # noqa: S608
    )
    found = read_models(await roll.called())
    assert found == {("row_added", "timeline", f"{case_id}/999")}, (
        "of a case with a ledger its own check names"
    )
    for other in (forged, foreign):
        for table in tables:
            await tamper(roll.store, await copied_row(roll.store, table, case_id, other))
    found = read_models(await roll.called())
    assert ("row_added", "cases", forged) in found
    assert ("row_added", "timeline", f"{forged}/1") in found
    assert ("row_added", "assignments", f"{forged}/ecology") in found
    assert ("row_added", "clocks", f"{forged}/sign/ecology/1") in found
    assert ("row_added", "watches", f"{forged}/leader") in found
    assert ("row_added", "cases", foreign) in found, (
        "its id is another district's, and this one's list shows it"
    )
    assert ("row_added", "timeline", f"{foreign}/1") in found


async def copied_row(store: Store, table: str, case_id: str, other: str) -> str:
    """Return what puts the rows of a case into a table once more, as another case's."""
    async with store._database.read() as connection:
        columns = (await connection.execute(text(f"SELECT * FROM {table} LIMIT 0"))).keys()  # noqa: S608
    names = ", ".join(columns)
    values = ", ".join(f"'{other}'" if each == "case_id" else each for each in columns)
    return f"INSERT INTO {table} ({names}) SELECT {values} FROM {table} WHERE case_id = '{case_id}'"  # noqa: S608


async def test_a_case_whose_rows_say_that_it_is_of_another_time_is_looked_at_all_the_same(roll: Roll) -> None:
    case_id = await roll.call()
    await roll.until_listed(case_id)
    await tamper(
        roll.store,
        f"UPDATE ledger SET at = '2020-01-01 00:00:00' WHERE case_id = '{case_id}' AND sequence = 1",  # noqa: S608
        f"UPDATE intake SET called_at = '2020-01-01 00:00:00' WHERE case_id = '{case_id}'",  # noqa: S608
    )
    period = {"called_from": roll.scope.called_from, "called_before": roll.scope.called_before}
    assert await roll.store.cases_called(district=roll.code, **period) == []
    assert (await roll.called()).known == (case_id,)


async def test_a_case_without_its_call_and_without_intake_is_found_by_its_id(roll: Roll) -> None:
    case_id = await roll.call()
    await tamper(
        roll.store,
        f"DELETE FROM ledger WHERE case_id = '{case_id}' AND sequence = 1",  # noqa: S608
        f"DELETE FROM intake WHERE case_id = '{case_id}'",  # noqa: S608
    )
    period = {"called_from": roll.scope.called_from, "called_before": roll.scope.called_before}
    assert await roll.store.cases_called(district=roll.code, **period) == [case_id]
    assert await roll.store.cases_called(district="elsewhere", **period) == []


async def test_a_case_that_is_registered_as_archived_and_is_not_is_named(roll: Roll) -> None:
    running, closed = await roll.call(), await roll.closed()
    await roll.keeping.run_archive()
    await roll.until_listed(running, closed)
    assert status_of((await roll.called()).verdicts) == 0
    await tamper(
        roll.store,
        await copied_row(roll.store, "archived", closed, running),
        f"INSERT INTO archived_runs SELECT 'run', '{running}', at, document FROM archived_runs",  # noqa: S608
    )
    told = {(each.code, each.table, each.row, each.proven) for each in cases(await roll.called()).findings}
    assert {(code, table, row.partition("/")[0], proven) for code, table, row, proven in told} == {
        ("archive_damaged", "archived", running, True),
        ("archive_damaged", "archived_runs", "run", True),
    }


async def test_the_verification_of_one_case_looks_at_what_is_registered_of_it_as_archived(
    roll: Roll, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    running, closed = await roll.call(), await roll.closed()
    await roll.keeping.run_archive()
    url = roll.store._database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("SHAODAO_DATABASE_URL", url)
    monkeypatch.setenv("SHAODAO_SECRET", SECRET)
    monkeypatch.setenv("SHAODAO_PAYLOAD_ENCRYPTION", "off")
    monkeypatch.setenv("TEMPORAL_ADDRESS", roll.keeping.client.service_client.config.target_host)

    async def said(case_id: CaseId, archive: str | None) -> tuple[int, str]:
        with monkeypatch.context() as changed:
            if archive is not None:
                changed.setenv("SHAODAO_ARCHIVE", archive)
            status = await asyncio.to_thread(verify_wanted, Wanted(cases=(case_id,)), None, 1)
        return status, capsys.readouterr().out

    status, told = await said(closed, roll.keeping.url)
    assert (status, "✓ 归档登记与归档一致(2 行)" in told) == (0, True), told
    status, told = await said(closed, None)
    assert (status, "? [not_compared] archived:未设置归档" in told) == (2, True), told
    status, told = await said(running, None)
    assert (status, "归档登记" in told) == (0, False), told

    await tamper(roll.store, await copied_row(roll.store, "archived", closed, running))
    status, told = await said(running, roll.keeping.url)
    assert (status, f"✗ [archive_damaged] archived,{running}/" in told) == (1, True), told
    status, told = await said(running, None)
    assert (status, "? [not_compared]" in told) == (2, True), told
    await tamper(roll.store, f"UPDATE archived SET digest = '{'0' * 64}' WHERE case_id = '{closed}'")  # noqa: S608
    status, told = await said(closed, roll.keeping.url)
    assert (status, f"✗ [archive_damaged] archived,cases/{closed}/" in told) == (1, True), told


async def test_a_file_that_is_registered_and_gone_from_the_archive_is_named_although_temporal_has_the_run(
    roll: Roll, tmp_path: Path
) -> None:
    closed = await roll.closed()
    await roll.keeping.run_archive()
    await roll.until_listed(closed)
    (stored,) = (tmp_path / "archive").glob(f"cases/{closed}/runs/*.pb.gz")
    stored.rename(tmp_path / stored.name)
    (finding,) = cases(await roll.called()).findings
    place = (finding.code, finding.table, finding.row)
    assert place == ("archive_damaged", "archived_runs", stored.name.removesuffix(".pb.gz"))


@pytest.mark.parametrize("forged", ["", " ", "假案", "假案-20269999-abc123"])
async def test_a_case_whose_id_says_neither_district_nor_day_is_always_looked_at(
    roll: Roll, forged: str
) -> None:
    case_id = await roll.call()
    copy = f"SELECT '{forged}', sequence, at, kind, entry, hash FROM ledger WHERE case_id = '{case_id}'"  # noqa: S608
    async with roll.store._database.write() as connection:
        await connection.execute(text(f"INSERT INTO ledger {copy}"))
    past = datetime(2020, 1, 1, tzinfo=UTC)
    period = {"called_from": past, "called_before": past + timedelta(days=1)}
    assert await roll.store.cases_called(district=roll.code, **period) == [forged]
    assert await roll.store.cases_called(district="elsewhere", **period) == [forged]
    ((_, judged),) = await verify_cases(roll.store, roll.keeping.client, [CaseId(forged)])
    assert status_of(judged) == 1
    places = {(each.code, each.table, each.field) for verdict in judged for each in verdict.findings}
    assert ("column_differs", "ledger", "case_id") in places


async def test_names_and_documents_that_cannot_be_read_end_no_roll(
    real_server: WorkflowEnvironment, sqlite_store: Store, tmp_path: Path
) -> None:
    code = f"roll{uuid.uuid4().hex[:8]}"
    async with open_house(real_server, sqlite_store, district=district(code)) as house:
        keeping = Keeping(house, tmp_path / "archive")
        await keeping.start()
        roll = Roll(keeping, code, tmp_path / "anchors")
        case_id = await roll.call()
        await roll.until_listed(case_id)
        await tamper(
            roll.store,
            "UPDATE districts SET document = '{'",
            "INSERT INTO districts SELECT x'00ff', name, terms_id, document, loaded_at FROM districts",
            "INSERT INTO archived_runs VALUES ('run', x'00ff', 'garbage', '{}')",
            "UPDATE timeline SET case_id = x'00ff', sequence = 'x' WHERE sequence = 1",
            f"UPDATE ledger SET case_id = x'00ff' WHERE case_id = '{case_id}' AND sequence = 1",  # noqa: S608
        )
        called = await roll.called()
        found = {(each.code, each.row, each.proven) for each in cases(called).findings}
        assert found == {
            ("unreadable", code, False),
            ("unreadable", "run", True),
            ("case_deleted", "案件 b'\\x00\\xff'", True),
        }
        assert ("row_added", "timeline", "b'\\x00\\xff'/x") in read_models(await roll.called(Scope()))
        listed = await roll.store.cases_called(district=None, called_from=None, called_before=None)
        assert listed == ["b'\\x00\\xff'", case_id]
        everywhere = cases(await roll.called(Scope()))
        assert ("unreadable", "b'\\x00\\xff'") in {(each.code, each.row) for each in everywhere.findings}


async def test_whoever_cannot_be_asked_leaves_it_open_and_accuses_nobody(
    roll: Roll, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: str) -> list[str]:
        raise OSError("no route")

    monkeypatch.setattr(roll.keeping.archive, "names", away)
    roll.anchors.mkdir()
    (roll.anchors / "anchor-x.json").write_text("{}")
    roll.keeping.client = await Client.connect(f"127.0.0.1:{free_port()}", lazy=True)
    verdict = cases(await roll.called())
    assert {(each.code, each.table) for each in verdict.findings} == {
        ("not_compared", "Temporal"),
        ("not_compared", "归档"),
        ("not_compared", "锚定文件"),
    }
    assert verdict.status == 2

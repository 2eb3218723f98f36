"""What operators can do, who may, and that each of it stands in a journal that nobody can change."""

import asyncio
import contextlib
import os
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from sqlalchemy import text, update
from sqlalchemy.exc import DBAPIError
from temporalio import workflow
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.worker import UnsandboxedWorkflowRunner, Worker, WorkerDeploymentConfig

from activities.record import RecordActivities
from adapters.store import Store, StoreUnavailable
from adapters.tables import CaseRow
from adapters.upkeep import Operation
from domain import audit
from domain.case import CaseId
from domain.commands import Sign
from domain.lifecycle import decide, fold
from starter.auditor import verify_cases
from starter.journal import paragraphs
from starter.versions import make_current
from tests.sample import ECOLOGY, OFFICERS, POLICY, district
from tests.starter.conftest import House
from tests.starter.keeping import Keeping
from tests.starter.test_api import problem
from worker import create_worker
from workflows.case import Case

ROOT = Path(__file__).parent.parent.parent
OPERATOR = "administrator"


@pytest.fixture
async def keeping(house: House, tmp_path: Path) -> Keeping:
    """Give a house on SQLite with everything that schedules start."""
    keeping = Keeping(house, tmp_path / "archive")
    house.doors.settings = house.doors.settings.model_copy(update={"archive": keeping.url})
    await keeping.start()
    return keeping


async def journal(house: House) -> list[tuple[str, str, str]]:
    """Return who did what with which outcome, oldest first; not that the sample district was loaded."""
    items = (await house.get("auditor", "/ops/journal")).json()["items"]
    lines = [(each["person"], each["name"], each["outcome"]) for each in reversed(items)]
    return [line for line in lines if line[1] != "load_district"]


async def kinds(store: Store, case_id: str) -> list[str]:
    """Return what happened."""
    return [entry.event.kind for entry in await store.entries(CaseId(case_id))]


# --- who may -----------------------------------------------------------------------------------------------


async def test_only_administrators_change_and_only_within_their_district(house: House) -> None:
    await house.store.load_district(district("other", "o-"), datetime.now(UTC))
    await house.doors.directory.refresh()
    case_id = await house.call()
    body = {"case_id": case_id, "from_ledger": True, "reason": "x"}
    for person in ("coordinator", "auditor", "dispatcher", "town-officer"):
        assert problem(await house.post(person, "/ops/reset", body), 403) == "role_may_not"
        assert problem(await house.post(person, "/ops/rebuild", {"case_ids": []}), 403) == "role_may_not"
    assert problem(await house.post("o-administrator", "/ops/reset", body), 404) == "case_not_found"
    assert problem(await house.post("dispatcher", "/ops/resend", {"case_id": case_id}), 403) == "role_may_not"
    assert (await house.get("coordinator", "/ops/stuck")).status_code == 200
    assert problem(await house.get("town-officer", "/ops/stuck"), 403) == "role_may_not"
    assert problem(await house.get("town-officer", "/archive"), 403) == "role_may_not"
    assert problem(await house.get("leader", f"/cases/{case_id}/archive"), 403) == "role_may_not"
    assert await journal(house) == []


async def test_a_request_that_says_nothing_or_too_much_is_refused(house: House) -> None:
    case_id = await house.call()
    unsaid = {"case_id": case_id, "from_ledger": True}
    assert problem(await house.post(OPERATOR, "/ops/reset", unsaid), 422) == "missing_field"
    body: dict[str, Any]
    for body in ({}, {"from_ledger": True, "to_event": 5}):
        refused = await house.post(OPERATOR, "/ops/reset", {"case_id": case_id, "reason": "x"} | body)
        assert problem(refused, 422) == "invalid_field"
        for words in ("恰有", "before_deploy", "to_event", "from_ledger", "之一"):
            assert words in refused.json()["detail"]
    for body in ({}, {"notice_id": 1, "case_id": case_id}):
        refused = await house.post(OPERATOR, "/ops/resend", body)
        assert problem(refused, 422) == "invalid_field"
        assert "须恰有 notice_id(通知编号)、case_id(案件编号)之一" in refused.json()["detail"]


# --- the journal -------------------------------------------------------------------------------------------


async def test_the_journal_tells_who_did_what_and_refuses_change(store: Store) -> None:
    line = Operation(
        operation="a",
        at=datetime.now(UTC),
        person="administrator",
        person_name="管理员",
        district="sample",
        name="reset",
        arguments={"reason": "升级有误"},
        outcome="begun",
    )
    await store.journal(line)
    assert await store.operations(district="sample", limit=5) == [line]
    assert await store.operations(district="other", limit=5) == []
    for change in ("UPDATE operations SET person = 'nobody'", "DELETE FROM operations"):
        with pytest.raises(DBAPIError, match="append-only"):
            async with store._database.write() as connection:
                await connection.execute(text(change))
    assert await store.operations(district=None, limit=5) == [line]


# --- notices, read models ----------------------------------------------------------------------------------


async def test_a_notice_leaves_again_and_the_journal_has_both_lines(house: House) -> None:
    case_id = await house.call()

    async def none_waits() -> bool:
        return await house.store.unsent("sample", 10, datetime.now(UTC)) == []

    await house.until(none_waits)
    notice = (await house.get("dispatcher", "/inbox")).json()["items"][0]["id"]
    await house.stop_worker()
    response = await house.post("coordinator", "/ops/resend", {"notice_id": notice}, key="once")
    assert response.json() == {"count": 1}
    again = await house.post("coordinator", "/ops/resend", {"notice_id": notice}, key="once")
    assert again.headers["idempotent-replay"] == "true"
    assert [each.id for each in await house.store.unsent("sample", 10, datetime.now(UTC))] == [notice]
    await house.start_worker()
    await house.until(none_waits)
    assert (await house.post(OPERATOR, "/ops/resend", {"case_id": case_id})).json() == {"count": 1}
    assert problem(await house.post(OPERATOR, "/ops/resend", {"notice_id": 999}), 404) == "notice_not_found"
    assert await journal(house) == [
        ("coordinator", "resend", "begun"),
        ("coordinator", "resend", "done"),
        (OPERATOR, "resend", "begun"),
        (OPERATOR, "resend", "done"),
        (OPERATOR, "resend", "begun"),
        (OPERATOR, "resend", "failed"),
    ]


async def test_read_models_are_made_again_of_one_case_and_of_all(either_house: House) -> None:
    house = either_house
    cases = [await house.call() for _ in range(2)]
    async with house.store._database.write() as connection:
        await connection.execute(update(CaseRow).values(stage="closed"))
    assert (await house.post(OPERATOR, "/ops/rebuild", {"case_ids": cases[:1]})).json() == {"count": 1}
    stages = [
        line["stage"] for line in (await house.get("leader", "/cases", sort="called_at")).json()["items"]
    ]
    assert stages == ["called", "closed"]
    assert (await house.post(OPERATOR, "/ops/rebuild", {"case_ids": []})).json() == {"count": 2}
    stages = [line["stage"] for line in (await house.get("leader", "/cases")).json()["items"]]
    assert stages == ["called", "called"]


# --- a bad deploy ------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def broken_worker(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Run workers of a version that old histories do not replay under."""

    async def waits(self: Case) -> None:
        await workflow.sleep(1)

    await house.stop_worker()
    with monkeypatch.context() as patched:
        patched.setattr(Case, "_record_promptly", waits)
        async with Worker(
            house.doors.cases.client,
            task_queue=house.doors.cases.task_queue,
            workflows=[Case],
            activities=[RecordActivities(house.store).record],
            workflow_runner=UnsandboxedWorkflowRunner(),
        ):
            yield
    await house.start_worker()


async def test_a_case_whose_workflow_tasks_fail_is_found_with_cause_and_goes_on_after_rolling_back(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    async with broken_worker(house, monkeypatch):
        acting = asyncio.create_task(house.post("ecology-officer", f"/cases/{case_id}/sign", {}))

        async def found() -> Any:
            items = (await house.get(OPERATOR, "/ops/stuck", case_id=case_id)).json()["items"]
            return [each for each in items if each["kind"] == "workflow_task"]

        (stuck,) = await house.until(found)
        assert "Nondeterminism" in stuck["error"]
        assert "回退部署" in stuck["advice"]

    async def signed() -> bool:
        return await kinds(house.store, case_id) == ["called", "dispatched", "signed"]

    await house.until(signed, within=60)
    assert (await acting).status_code in {200, 202}
    assert (await house.get(OPERATOR, "/ops/stuck", case_id=case_id)).json()["items"] == []


class Deployed:
    """Versions of the code, each with its worker; the newest is the current one."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._name = f"shaodao-{uuid.uuid4().hex[:8]}"

    async def deploy(self, build: str) -> None:
        """Take the old workers away and make this version current."""
        house, client = self._house, self._house.doors.cases.client
        version = WorkerDeploymentVersion(self._name, build)
        config = WorkerDeploymentConfig(version, True, VersioningBehavior.AUTO_UPGRADE)
        await house.stop_worker()
        queue = house.doors.cases.task_queue
        house._worker_of = lambda: create_worker(
            client, house.store, house.store, task_queue=queue, deployment=config
        )
        await house.start_worker()
        await make_current(client, version)


async def test_a_case_goes_on_under_the_version_that_has_become_current(house: House) -> None:
    deployed = Deployed(house)
    await deployed.deploy("v1")
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    await deployed.deploy("v2")
    assert (await house.do("ecology-officer", case_id, "sign"))["stage"] == "signed"
    history = await house.doors.cases.client.get_workflow_handle(f"case/{case_id}").fetch_history()
    builds = [
        event.workflow_task_completed_event_attributes.deployment_version.build_id
        for event in history.events
        if event.HasField("workflow_task_completed_event_attributes")
    ]
    assert (builds[0], builds[-1]) == ("v1", "v2")


async def test_a_reset_to_before_a_deploy_keeps_what_the_ledger_holds_and_the_chain_goes_on(
    house: House,
) -> None:
    deployed = Deployed(house)
    await deployed.deploy("v1")
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    await deployed.deploy("v2")
    await house.do("ecology-officer", case_id, "sign")
    await deployed.deploy("v3")
    before = await house.store.raw_entries(CaseId(case_id))
    body = {"case_id": case_id, "before_deploy": "v2", "reason": "v2 有误"}
    outcome = await house.post(OPERATOR, "/ops/reset", body, key="r")
    assert outcome.json() == {"mode": "ledger", "kept": 1, "repeated": 0}
    assert (await house.post(OPERATOR, "/ops/reset", body, key="r")).json() == outcome.json()
    await house.do("ecology-officer", case_id, "check-in", officers=[{"name": "王示例"}])
    after = await house.store.raw_entries(CaseId(case_id))
    assert after[: len(before)] == before
    audit.check_chain(await house.store.entries(CaseId(case_id)))
    assert await journal(house) == [(OPERATOR, "reset", "begun"), (OPERATOR, "reset", "done")]


async def test_a_reset_does_again_what_the_ledger_does_not_hold_and_derives_the_same_entries_before_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed = Deployed(house)
    await deployed.deploy("v1")
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    await deployed.deploy("v2")
    before = await house.store.raw_entries(CaseId(case_id))

    async def away(_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(house.store, "record", away)
        await house.do("ecology-officer", case_id, "sign")
        await deployed.deploy("v3")
        body = {"case_id": case_id, "before_deploy": "v2", "reason": "v2 有误"}
        outcome = await house.post(OPERATOR, "/ops/reset", body)
        assert outcome.json() == {"mode": "history", "kept": 0, "repeated": 0}

    async def recorded() -> bool:
        return await kinds(house.store, case_id) == ["called", "dispatched", "signed"]

    await house.until(recorded)
    await house.do("ecology-officer", case_id, "check-in", officers=[{"name": "王示例"}])
    after = await house.store.raw_entries(CaseId(case_id))
    assert after[: len(before)] == before
    audit.check_chain(await house.store.entries(CaseId(case_id)))


async def test_a_reset_past_the_ledger_by_other_means_takes_on_the_acts_that_stand_and_overwrites_nothing(
    house: House, tmp_path: Path
) -> None:
    keeping = Keeping(house, tmp_path)
    case_id = CaseId(await house.call())
    await house.dispatch(case_id, "ecology")
    assert await keeping.executions.reset_point(case_id, event_id=10_000) is None
    await house.do("ecology-officer", case_id, "sign")
    before = await house.store.raw_entries(case_id)
    history = await keeping.client.get_workflow_handle(f"case/{case_id}").fetch_history()
    completed = [
        event.event_id
        for event in history.events
        if event.HasField("workflow_task_completed_event_attributes")
    ]
    point = await keeping.executions.reset_point(case_id, event_id=completed[-1])
    assert point is not None
    await keeping.executions.reset(case_id, point, "through the Temporal UI")
    await house.do("ecology-officer", case_id, "check-in", officers=[{"name": "王示例"}])
    assert (await house.get(OPERATOR, "/ops/stuck", case_id=case_id)).json()["items"] == []
    assert (await house.store.raw_entries(case_id))[: len(before)] == before
    assert await kinds(house.store, case_id) == ["called", "dispatched", "signed", "checked_in"]


async def test_what_nobody_did_and_stands_in_the_ledger_is_told_as_a_conflict_and_nothing_is_overwritten(
    house: House,
) -> None:
    case_id = CaseId(await house.call())
    await house.dispatch(case_id, "ecology")
    held = await house.store.entries(case_id)
    forged = Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY, key="forged")
    at = held[-1].at
    events = decide(fold(held), forged, at, await house.store.terms_of(case_id))
    await house.store.record(
        audit.chain(case_id, events, after=held[-1], at=at, by=forged.by, key=forged.key)
    )
    before = await house.store.raw_entries(case_id)
    await house.do("dispatcher", case_id, "transfer", department="ecology", to="police", reason="x")

    async def found() -> Any:
        items = (await house.get(OPERATOR, "/ops/stuck", case_id=case_id)).json()["items"]
        return [each for each in items if each["kind"] == "ledger_conflict"]

    (stuck,) = await house.until(found)
    assert "未覆盖" in stuck["cause"]
    assert "--from-ledger" in stuck["advice"]
    assert await house.store.raw_entries(case_id) == before
    ((_, verdicts),) = await verify_cases(house.store, house.doors.cases.client, [case_id])
    codes = {(finding.code, finding.row) for verdict in verdicts for finding in verdict.findings}
    assert ("differs_from_history", "第3条") in codes

    body: dict[str, Any] = {"case_id": case_id, "from_ledger": True, "reason": "以台账为准"}
    assert (await house.post(OPERATOR, "/ops/reset", body)).json()["mode"] == "ledger"
    await house.do("ecology-officer", case_id, "check-in", officers=[{"name": "王示例"}])
    assert (await house.store.raw_entries(case_id))[: len(before)] == before
    assert (await house.get(OPERATOR, "/ops/stuck", case_id=case_id)).json()["items"] == []


async def test_there_is_nothing_to_reset_where_no_task_was_completed_or_the_case_is_over(
    house: House,
) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    body: dict[str, Any] = {"case_id": case_id, "before_deploy": "never-deployed", "reason": "x"}
    assert problem(await house.post(OPERATOR, "/ops/reset", body), 409) == "no_reset_point"
    over = await house.call()
    await house.do("town-officer", over, "cancel", reason="误报")
    body = {"case_id": over, "from_ledger": True, "reason": "x"}
    assert problem(await house.post(OPERATOR, "/ops/reset", body), 409) == "case_over"
    assert {outcome for _, _, outcome in await journal(house)} == {"begun", "failed"}


# --- over the command line ---------------------------------------------------------------------------------


async def shaodao(house: House, person: str, *arguments: str, columns: int = 200) -> tuple[int, str]:
    """Run the command line as somebody; return its exit status and what it said."""
    environment = {
        **os.environ,
        "SHAODAO_URL": house.url,
        "SHAODAO_TOKEN": house.headers(person)["Authorization"].removeprefix("Bearer "),
        "COLUMNS": str(columns),
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "starter.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=ROOT,
    )
    return done.returncode, done.stdout + done.stderr


async def test_an_operators_day_on_the_command_line(keeping: Keeping, tmp_path: Path) -> None:
    house = keeping.house
    lost, closed = CaseId(await house.call()), await keeping.closed("ecology")
    await house.dispatch(lost, "ecology")
    await keeping.executions.terminate(lost, "by mistake")
    _, said = await shaodao(
        house, OPERATOR, "ops", "reconcile", "--now"
    )  # 1 for other tests' cases on the server
    assert (lost in said, "restarted" in said) == (True, True), said
    status, said = await shaodao(house, OPERATOR, "ops", "rebuild", lost)
    assert (status, "共 2 条记录" in said) == (0, True), said
    status, said = await shaodao(house, OPERATOR, "ops", "reset", lost, "--from-ledger", "--reason", "演练")
    assert (status, "按台账继续" in said) == (0, True), said
    status, said = await shaodao(house, OPERATOR, "ops", "resend", lost)
    assert (status, "重发" in said) == (0, True), said
    status, said = await shaodao(house, OPERATOR, "ops", "archive")
    assert (status, "待归档 1 件" in said) == (0, True), said
    await keeping.run_archive()
    status, said = await shaodao(house, "auditor", "archive", "list")
    assert (status, closed in said) == (0, True), said
    status, said = await shaodao(house, "auditor", "archive", "show", closed, "--save", str(tmp_path / "out"))
    assert (status, "正常结束" in said, "生态环境分局签收" in said) == (0, True, True), said
    assert len(list((tmp_path / "out").iterdir())) == 3
    status, said = await shaodao(house, "auditor", "archive", "verify", "--all")
    assert (status, "有问题 0 件" in said) == (0, True), said
    next((tmp_path / "archive" / "terms").iterdir()).unlink()
    status, said = await shaodao(house, "auditor", "archive", "verify", closed)
    assert (status, "归档文件缺失" in said) == (1, True), said
    status, said = await shaodao(house, OPERATOR, "ops", "journal")
    assert (status, "administrator" in said, "演练" in said) == (0, True, True), said
    status, said = await shaodao(house, OPERATOR, "ops", "stuck", lost)
    assert (status, said.strip()) == (0, "没有受阻的事项。"), said


async def test_where_no_archive_is_set_it_is_said(house: House) -> None:
    assert problem(await house.post(OPERATOR, "/ops/archive", {}), 404) == "no_archive"
    case_id = await house.call()
    assert problem(await house.get("auditor", f"/cases/{case_id}/archive"), 404) == "not_archived"
    assert (await house.get(OPERATOR, "/ops/archive")).json()["location"] is None


async def test_the_journal_names_newer_terms_for_running_cases_and_can_be_read_at_any_width(
    house: House,
) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    newer = POLICY.model_copy(update={"version": "sample-9"})
    await house.store.load_district(district(policy=newer), datetime.now(UTC))
    why = "国务院办公厅公布2027年放假安排,本区政策相应修订,自公布之日起对全部在办案件适用,逐案重算时限"
    status, said = await shaodao(house, OPERATOR, "ops", "reproject", "--scope", "all", "--reason", why)
    assert (status, "1 件在办案件将适用政策 sample-9" in said) == (0, True), said

    async def adopted() -> bool:
        return "terms_adopted" in await kinds(house.store, case_id)

    await house.until(adopted)
    await shaodao(house, OPERATOR, "ops", "reset", case_id, "--before-deploy", "never", "--reason", "演练")
    await shaodao(house, OPERATOR, "district", "apply", "--scope", "calendar", "--reason", "再次")
    assert [(name, outcome) for _, name, outcome in await journal(house)] == [
        ("adopt_terms", "begun"),
        ("adopt_terms", "done"),
        ("reset", "begun"),
        ("reset", "failed"),
        ("adopt_terms", "begun"),
        ("adopt_terms", "done"),
    ]
    for columns in (80, 120):
        status, said = await shaodao(house, OPERATOR, "ops", "journal", columns=columns)
        assert status == 0, said
        lines = said.splitlines()
        assert all(cell_len(line) <= columns for line in lines)
        heads = [line for line in lines if not line.startswith(" ")]
        assert [head.split("  ")[1:3] for head in heads] == [
            ["✓ 完成", "在办案件适用新版"],
            ["✗ 未成", "重置案件"],
            ["✓ 完成", "在办案件适用新版"],
            ["✓ 完成", "装载区(市)资料"],
            ["✓ 完成", "装载区(市)资料"],
        ]
        assert all(f"({OPERATOR})" in head for head in heads[:3])
        assert all(head.endswith("  命令行") for head in heads[3:])
        for words in (f"案件:{case_id}", "原因:演练", "结果:no_reset_point", "结果:1 件在办案件"):
            assert any(words in line for line in lines), words
        assert why in "".join(line.strip() for line in lines)


def test_an_operation_that_was_cut_off_has_no_outcome() -> None:
    line = {"operation": "a", "at": "2026-11-24T02:00:00+00:00", "person": "administrator", "name": "resend"}
    line |= {"person_name": "管理员", "outcome": "begun", "detail": ""}
    ((head, below),) = paragraphs([{**line, "arguments": {"notice_id": 7, "restart_many": False}}])
    assert head == "11月24日 10:00  ? 未见结果  重发通知  管理员(administrator)"
    assert below == ["通知编号:7"]

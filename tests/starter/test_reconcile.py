"""A case that is open in SQL and that nobody works on goes on from its ledger; every other difference is told."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, func, text, update

from adapters.anchors import AnchorKeeper
from adapters.archive import DirectoryArchive
from adapters.signing import SigningKey
from adapters.store import Store, StoreUnavailable
from adapters.tables import AnchorRow, CaseRow, LedgerRow
from adapters.witnesses import LedgerWitnesses
from domain import audit
from domain.anchor import digest
from domain.case import CaseId
from domain.district import Terms
from domain.errors import ArchiveConflict
from domain.lifecycle import fold
from domain.ports import CaseStart, Contact, Intake
from domain.verify import Check
from starter.auditor import verify_cases
from starter.schedules import SCHEDULES, ensure_schedules
from tests.sample import TERMS, opening
from tests.starter.conftest import House
from tests.starter.keeping import Keeping, rewritten


@pytest.fixture
async def keeping(house: House, tmp_path: Path) -> Keeping:
    """Give a house on SQLite that also reconciles."""
    keeping = Keeping(house, tmp_path / "archive")
    await keeping.start()
    return keeping


async def test_a_terminated_case_goes_on_from_its_ledger_to_its_end(
    either_house: House, tmp_path: Path
) -> None:
    keeping = Keeping(either_house, tmp_path / "archive")
    await keeping.start()
    house = either_house
    case_id = CaseId(await house.call())
    await house.dispatch(case_id, "ecology", "police")
    first = await house.post("ecology-officer", f"/cases/{case_id}/sign", {}, key="k")
    before = await house.store.entries(case_id)
    await keeping.executions.terminate(case_id, "by mistake")
    await keeping.run_reconcile()
    (told,) = await keeping.differences(case_id)
    assert (told.kind, told.done) == ("missing", "restarted")
    assert await house.store.entries(case_id) == before
    answered = await keeping.executions.state(case_id)
    assert answered is not None
    assert answered[0] == fold(before)

    again = await house.post("ecology-officer", f"/cases/{case_id}/sign", {}, key="k")
    assert again.json()["sequence"] == first.json()["sequence"]
    await house.do("police-officer", case_id, "sign")
    for department in ("ecology", "police"):
        officer, about = f"{department}-officer", {"department": department}
        await house.do(officer, case_id, "check-in", officers=[{"name": "王示例"}], **about)
        await house.do("town-officer", case_id, "confirm-check-in", **about)
        await house.do(officer, case_id, "action", kind="sealing", description="封", result="已封", **about)
        await house.do(officer, case_id, "done", result="完成", **about)
    assert (await house.rate(case_id, "ecology", "police"))["stage"] == "closed"
    entries = await house.store.entries(case_id)
    audit.check_chain(entries)
    assert entries[: len(before)] == before
    await keeping.run_reconcile()
    assert await keeping.differences(case_id) == []


@pytest.mark.parametrize("archived", [False, True])
async def test_a_run_that_was_deleted_leaves_it_open_what_it_did_and_accuses_no_honest_ledger(
    keeping: Keeping, *, archived: bool
) -> None:
    house, archive = keeping.house, keeping.archive if archived else None

    async def wrong() -> set[tuple[str, str, bool]]:
        ((_, verdicts),) = await verify_cases(house.store, keeping.client, [case_id], archive)
        return {
            (each.code, each.row, each.proven)
            for verdict in verdicts
            if verdict.check is Check.HISTORY
            for each in verdict.findings
        }

    case_id = CaseId(await house.call())
    await house.dispatch(case_id, "ecology")
    await keeping.executions.terminate(case_id, "from the ledger")
    await keeping.run_reconcile()
    await house.do("ecology-officer", case_id, "sign")
    first, newest = await keeping.executions.run_ids(case_id)
    if archived:
        await keeping.run_archive()
        registered = (await house.store.register(case_id)).runs
        assert [each.run_id for each in registered] == [first]
    await keeping.forget(case_id, [newest])

    assert await wrong() == {("history_missing", "第3条起", False)}
    await keeping.run_reconcile()
    (told,) = await keeping.differences(case_id)
    assert (told.kind, told.done) == ("missing", "restarted")
    assert "没有其最新一次运行(被删除或遗失)" in told.detail

    assert await wrong() == {("history_missing", "第3条", False)}
    await house.do("ecology-officer", case_id, "check-in", officers=[{"name": "王示例"}])
    assert await wrong() == {("history_missing", "第3条", False)}
    await rewritten(house.store, case_id, "signed")
    assert {"carried_differs", "differs_from_history"} <= {code for code, *_ in await wrong()}


async def test_a_case_that_temporal_no_longer_knows_goes_on(keeping: Keeping) -> None:
    case_id = CaseId(await keeping.house.call())
    await keeping.house.dispatch(case_id, "ecology")
    run_ids = await keeping.executions.run_ids(case_id)
    await keeping.executions.terminate(case_id, "lost")
    await keeping.forget(case_id, run_ids)
    await keeping.run_reconcile()
    (told,) = await keeping.differences(case_id)
    assert (told.kind, told.done) == ("missing", "restarted")
    assert (await keeping.house.do("ecology-officer", case_id, "sign"))["stage"] == "signed"


async def test_an_act_that_was_accepted_and_never_recorded_is_repeated(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    house, store = keeping.house, keeping.house.store
    case_id = CaseId(await house.call())
    await house.dispatch(case_id, "ecology")

    async def away(_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(store, "record", away)
        case = await house.do("ecology-officer", case_id, "sign")
        assert case["stage"] == "signed"
        await keeping.executions.terminate(case_id, "in the worst moment")
    assert [entry.event.kind for entry in await store.entries(case_id)] == ["called", "dispatched"]
    await keeping.run_reconcile()
    (told,) = await keeping.differences(case_id)
    assert told.done == "restarted, 1 acts to repeat"

    async def recorded() -> bool:
        return len(await store.entries(case_id)) == 3

    await house.until(recorded)
    entries = await store.entries(case_id)
    assert [entry.event.kind for entry in entries] == ["called", "dispatched", "signed"]
    assert entries[-1].by is not None
    assert entries[-1].by.id == "ecology-officer"


async def test_a_call_that_was_never_started_is_started(keeping: Keeping) -> None:
    case_id = CaseId("sample-20260304-never0")
    district = keeping.house.doors.directory.district("sample")
    assert district is not None
    await keeping.house.store.take_call(_intake(case_id, TERMS), person="x", status=201, body="{}")
    await keeping.house.store.start_failed(case_id, "once", datetime(2099, 1, 1, tzinfo=UTC))
    await keeping.run_reconcile()
    (told,) = await keeping.differences(case_id)
    assert (told.kind, told.done) == ("not_started", "started")
    assert await keeping.house.store.is_started(case_id)
    execution = await keeping.executions.execution(case_id)
    assert execution is not None
    assert execution.status == "RUNNING"
    await keeping.executions.terminate(case_id, "test is over")


async def test_a_case_that_only_its_read_model_says_is_closed_is_told_and_goes_on_from_its_ledger(
    either_house: House, tmp_path: Path
) -> None:
    keeping = Keeping(either_house, tmp_path / "archive")
    await keeping.start()
    house, store = either_house, either_house.store
    case_id = CaseId(await house.call())
    await house.dispatch(case_id, "ecology")
    async with store._database.write() as connection:
        at = datetime.now(UTC)
        row = update(CaseRow).where(CaseRow.case_id == case_id)
        await connection.execute(row.values(stage="closed", closed_at=at, settled_at=at))
    await keeping.run_reconcile()
    assert [each.kind for each in await keeping.differences(case_id)] == ["stage_differs"]
    await keeping.executions.terminate(case_id, "to be lost")
    (stuck,) = (await house.get("administrator", "/ops/stuck", case_id=case_id)).json()["items"]
    assert stuck["kind"] == "run_gone"
    await keeping.run_archive()
    assert await store.archived(case_id) == []
    await keeping.run_reconcile()
    (told,) = await keeping.differences(case_id)
    assert (told.kind, told.done) == ("missing", "restarted")
    await store.rebuild([case_id])
    assert (await house.do("ecology-officer", case_id, "sign"))["stage"] == "signed"


# --- a ledger that is whole, and is not what was anchored or archived -----------------------------------------


async def test_a_case_whose_ledger_is_not_what_was_anchored_does_not_go_on_until_somebody_says_so(
    either_house: House, tmp_path: Path
) -> None:
    keeping = Keeping(either_house, tmp_path / "archive")
    await keeping.start()
    house, store = either_house, either_house.store
    forged, sound = CaseId(await house.call()), CaseId(await house.call())
    for case_id in (forged, sound):
        await house.dispatch(case_id, "ecology")
    await AnchorKeeper(store, SigningKey.new(), None).anchor("sample", datetime.now(UTC))
    await house.do("ecology-officer", sound, "sign")
    await rewritten(store, forged)
    for case_id in (forged, sound):
        await keeping.executions.terminate(case_id, "somebody did")
    for _ in range(2):
        await keeping.run_reconcile()
    (told,) = await keeping.differences(forged)
    assert (told.kind, told.done) == ("ledger_rewritten", "")
    assert "第1号锚定" in told.detail
    assert "第 2 条" in told.detail
    found = [await keeping.executions.execution(case_id) for case_id in (forged, sound)]
    assert [each and each.status for each in found] == ["TERMINATED", "RUNNING"]

    (stuck,) = (await house.get("administrator", "/ops/stuck", case_id=forged)).json()["items"]
    assert (stuck["kind"], stuck["error"]) == ("ledger_rewritten", told.detail)
    for person in ("administrator", "auditor"):
        inbox = (await house.get(person, "/inbox")).json()["items"]
        assert [each["title"] for each in inbox if each["case_id"] == forged].count(
            "台账与锚定、归档或流程历史不符,案件未恢复"
        ) == 1

    body = {"case_id": forged, "from_ledger": True, "reason": "恢复"}
    refused = await house.post("administrator", "/ops/reset", body)
    assert (refused.status_code, refused.json()["code"]) == (500, "ledger_rewritten")
    body |= {"despite_anchor": True, "reason": "审计已查明"}
    assert (await house.post("administrator", "/ops/reset", body)).json()["mode"] == "ledger"
    assert (await house.do("ecology-officer", forged, "sign"))["stage"] == "signed"


async def test_a_case_whose_ledger_is_not_what_its_last_run_was_told_does_not_go_on(keeping: Keeping) -> None:
    house, store = keeping.house, keeping.house.store
    forged, sound = CaseId(await house.call()), CaseId(await house.call())
    for case_id in (forged, sound):
        await house.dispatch(case_id, "ecology")
    await rewritten(store, forged)
    for case_id in (forged, sound):
        await keeping.executions.terminate(case_id, "somebody did")
    await keeping.run_reconcile()
    (told,) = await keeping.differences(forged)
    assert (told.kind, told.done) == ("ledger_rewritten", "")
    assert "办理流程的历史" in told.detail
    found = [await keeping.executions.execution(case_id) for case_id in (forged, sound)]
    assert [each and each.status for each in found] == ["TERMINATED", "RUNNING"]
    body = {"case_id": forged, "from_ledger": True, "reason": "恢复"}
    assert (await house.post("administrator", "/ops/reset", body)).json()["code"] == "ledger_rewritten"
    body |= {"despite_anchor": True, "reason": "审计已查明"}
    assert (await house.post("administrator", "/ops/reset", body)).json()["mode"] == "ledger"
    await keeping.executions.terminate(forged, "once more")
    await keeping.run_reconcile()
    assert [each.done for each in await keeping.differences(forged)] == ["restarted"]


async def test_a_ledger_that_was_cut_below_its_anchor_is_told_as_such(keeping: Keeping) -> None:
    house, store = keeping.house, keeping.house.store
    case_id = CaseId(await house.call())
    await house.dispatch(case_id, "ecology")
    await AnchorKeeper(store, SigningKey.new(), None).anchor("sample", datetime.now(UTC))
    await keeping.executions.terminate(case_id, "somebody did")
    async with store._database.write() as connection:
        await connection.execute(text("DROP TRIGGER ledger_append_only_delete"))
        last = delete(LedgerRow).where(LedgerRow.case_id == case_id, LedgerRow.sequence == 2)
        assert (await connection.execute(last)).rowcount == 1
    await store.rebuild([case_id])
    await keeping.run_reconcile()
    (told,) = await keeping.differences(case_id)
    assert (told.kind, told.done) == ("ledger_rewritten", "")
    assert "没有这一条" in told.detail


async def test_a_case_is_held_against_published_anchors_and_the_archive_when_the_table_was_forged(
    keeping: Keeping, tmp_path: Path
) -> None:
    store, key, folder = keeping.house.store, SigningKey.new(), tmp_path / "published"
    case_id = await keeping.closed("ecology")
    await keeping.run_archive()
    await AnchorKeeper(store, key, folder).anchor("sample", datetime.now(UTC))
    (head,) = [each for each in (await store.heads("sample")).values() if each.case_id == case_id]
    witnesses = LedgerWitnesses(store, archive=keeping.archive, key=key.public, folder=folder)
    known = (await witnesses.known_heads([case_id]))[case_id]
    assert {(each.sequence, each.hash) for each in known} == {(head.sequence, head.hash)}
    assert ["已发布" in each.source for each in known] == [False, True, False]
    assert known[2].source.startswith("归档 ")
    assert not (await witnesses.known_heads([CaseId("sample-20260304-nobody")]))[
        CaseId("sample-20260304-nobody")
    ]
    async with store._database.write() as connection:
        await connection.execute(text("DROP TRIGGER anchors_append_only_update"))
        forged = func.replace(AnchorRow.document, head.hash, "0" * 64)
        await connection.execute(update(AnchorRow).values(document=forged))
    with pytest.raises(ArchiveConflict) as refused:
        await witnesses.known_heads([case_id])
    assert refused.value.code == "anchor_changed"
    stored = (await store.anchors("sample"))[0]
    async with store._database.write() as connection:
        await connection.execute(update(AnchorRow).values(hash=digest(stored.document)))
    with pytest.raises(ArchiveConflict):  # the signature is not the key's
        await witnesses.known_heads([case_id])
    await LedgerWitnesses(store).known_heads([case_id])  # without the key nobody could say
    (folder / "anchor-sample-broken.json").write_text("{}")
    with pytest.raises(ArchiveConflict):
        await LedgerWitnesses(store, folder=folder).known_heads([case_id])


async def test_a_case_does_not_go_on_while_the_archive_cannot_be_asked(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = CaseId(await keeping.house.call())
    await keeping.house.dispatch(case_id, "ecology")
    await keeping.executions.terminate(case_id, "by mistake")

    async def away(_: object, under: str) -> list[str]:
        raise OSError(under)

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryArchive, "names", away)
        await keeping.run_reconcile()
        (told,) = await keeping.differences(case_id)
        assert (told.kind, told.done) == ("missing", "")
        assert "未能恢复" in told.detail
    await keeping.run_reconcile()
    (told,) = await keeping.differences(case_id)
    assert (told.kind, told.done) == ("missing", "restarted")


def _intake(case_id: CaseId, terms: Terms) -> Intake:
    opened = opening(datetime.now(UTC), case_id=case_id, terms=terms)
    return Intake(start=CaseStart(opened=opened, terms=terms), contact=Contact(), key="", body_digest="")


async def test_many_that_are_missing_at_once_are_held_until_an_operator_says_so(keeping: Keeping) -> None:
    cases = [CaseId(await keeping.house.call()) for _ in range(12)]

    async def all_run() -> bool:
        return all([await keeping.executions.execution(case_id) for case_id in cases])

    await keeping.house.until(all_run)
    for case_id in cases[:11]:
        await keeping.executions.terminate(case_id, "restored from a backup")
    assert (await keeping.run_reconcile()).held
    assert {each.done for each in await keeping.differences(*cases)} == {""}
    assert not (await keeping.run_reconcile(restart_many=True)).held
    assert [each.done for each in await keeping.differences(*cases)] == ["restarted"] * 11


async def test_a_workflow_without_a_case_and_a_read_model_that_differs_are_told_and_left_alone(
    keeping: Keeping, sqlite_store: Store
) -> None:
    house = keeping.house
    wrong, fine, stray = (
        CaseId(await house.call()),
        CaseId(await house.call()),
        CaseId("sample-20260304-stray0"),
    )
    await house.dispatch(wrong, "ecology")
    await house.dispatch(fine, "ecology")
    start = _intake(stray, TERMS).start
    await keeping.executions.start(start)
    async with sqlite_store._database.write() as connection:
        row = update(CaseRow).where(CaseRow.case_id == wrong)
        await connection.execute(row.values(stage="signed"))
    await keeping.run_reconcile()
    found = {each.case_id: (each.kind, each.done) for each in await keeping.differences(wrong, fine, stray)}
    assert found == {wrong: ("stage_differs", ""), stray: ("stray", "")}
    await sqlite_store.rebuild([wrong])
    await keeping.executions.terminate(stray, "test is over")
    await keeping.run_reconcile()
    assert await keeping.differences(wrong, fine, stray) == []


async def test_a_ledger_that_is_behind_is_told(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    house, store = keeping.house, keeping.house.store
    case_id = CaseId(await house.call())
    await house.dispatch(case_id, "ecology")

    async def away(_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patched:
        patched.setattr(store, "record", away)
        await house.do("ecology-officer", case_id, "sign")
        await keeping.run_reconcile()
        (told,) = await keeping.differences(case_id)
        assert (told.kind, told.done) == ("ledger_behind", "")


async def test_schedules_are_made_once_and_one_that_is_paused_stays_paused(house: House) -> None:
    client, settings = house.doors.cases.client, house.doors.settings
    archiving = settings.model_copy(update={"archive": "file:///nowhere"})
    await ensure_schedules(client, settings, task_queue="nobody")

    async def only_one() -> bool:  # lists lag behind
        listed = [each.id async for each in await client.list_schedules()]
        return [each for each in listed if not each.startswith("anchor/")] == ["reconcile"]

    await house.until(only_one)
    handle = client.get_schedule_handle("reconcile")
    await handle.pause(note="维护")
    await ensure_schedules(client, archiving, task_queue="nobody")
    await ensure_schedules(client, archiving, task_queue="nobody")
    described = await handle.describe()
    assert (described.schedule.state.paused, described.schedule.state.note) == (True, "维护")
    for schedule_id in SCHEDULES:
        assert (await client.get_schedule_handle(schedule_id).describe()).schedule.spec.intervals
        await client.get_schedule_handle(schedule_id).delete()


async def test_an_act_on_an_open_case_whose_run_is_gone_is_kept_and_done_once_the_case_goes_on(
    keeping: Keeping,
) -> None:
    case_id = CaseId(await keeping.house.call())
    await keeping.house.dispatch(case_id, "ecology")
    await keeping.house.doors.cases.client.get_workflow_handle(f"case/{case_id}").terminate()
    answer = await keeping.house.post("ecology-officer", f"/cases/{case_id}/sign", {})
    assert (answer.status_code, [each["act"] for each in answer.json()["pending_acts"]]) == (202, ["sign"])
    await keeping.run_reconcile()

    async def signed() -> bool:
        case = (await keeping.house.get("ecology-officer", f"/cases/{case_id}")).json()
        return case["stage"] == "signed" and not case["pending_acts"]

    await keeping.house.until(signed)

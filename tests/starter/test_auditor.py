"""Auditing what stands: real Temporal, real databases, and somebody who owns the database and drops the triggers."""

import asyncio
import base64
import contextlib
import json
import sqlite3
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.exc import DBAPIError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import PayloadCodec
from temporalio.testing import WorkflowEnvironment

from adapters.anchors import AnchorInvalid, AnchorKeeper, read_published
from adapters.bundle import open_bundle
from adapters.histories import RunHistory, fetch_runs
from adapters.migrate import upgrade
from adapters.signing import SigningKey
from adapters.store import Store
from adapters.tables import Table, TermsRow
from adapters.upkeep import Operation
from domain import verify
from domain.anchor import Anchor, Head, is_included
from domain.case import CaseId
from domain.ports import CaseStart, Contact, Intake
from domain.verify import Check, Replayed, Verdict, status_of
from starter import audit_runs, auditor, schedules
from starter.audit_runs import anchor, judge_anchors, verify_anchors, verify_journals
from starter.auditor import judge_bundle, verify_cases
from starter.journal_audit import judge_journals
from starter.replay import replay
from tests.conftest import BIN, SEAL, SECRET
from tests.records import Kept, late, renamed, rows, straight
from tests.sample import district, shanghai
from tests.starter.conftest import House, open_house
from tests.workflows.cases import Cases
from worker import create_worker
from workflows import names

KEY = SigningKey.new()


async def verdicts(house: House, case_id: str) -> list[Verdict]:
    ((_, found),) = await verify_cases(house.store, house.doors.cases.client, [CaseId(case_id)])
    return found


def found(judged: list[Verdict]) -> set[tuple[str, str, str, str]]:
    return {(each.code, each.table, each.row, each.field) for verdict in judged for each in verdict.findings}


async def tamper(store: Store, *statements: str) -> None:
    """Do what somebody can who owns the database: without the triggers."""
    async with store._database.write() as connection:
        for table in ("ledger", "anchors", "journals"):
            for change in ("update", "delete"):
                name = (
                    f"{table}_append_only_{change}" if store._database.is_sqlite else f"{table}_append_only"
                )
                on = "" if store._database.is_sqlite else f" ON {table}"
                await connection.execute(text(f"DROP TRIGGER IF EXISTS {name}{on}"))
        for statement in statements:
            done = await connection.execute(text(statement.replace(":", r"\:")))
            assert done.rowcount > 0 or statement.startswith(("CREATE", "ALTER")), statement


@pytest.fixture
async def closed(either_house: House) -> tuple[House, str]:
    """A case that went all the way, with an attachment."""
    case_id = await either_house.call(attachments=[{"name": "照片.jpg", "sha256": "0" * 64, "size": 1}])
    await either_house.until_done(case_id, "ecology")
    await either_house.rate(case_id, "ecology")
    return either_house, case_id


async def test_a_case_as_it_runs_and_when_it_has_ended_is_proven(either_house: House) -> None:
    house = either_house
    case_id = await house.call()
    assert status_of(await verdicts(house, case_id)) == 0
    await house.until_done(case_id, "ecology")
    judged = await verdicts(house, case_id)
    assert found(judged) == set()
    assert [verdict.check for verdict in judged] == [
        Check.CHAIN,
        Check.HISTORY,
        Check.READ_MODELS,
        Check.CLOCKS,
    ]
    await house.rate(case_id, "ecology")
    assert found(await verdicts(house, case_id)) == set()


TAMPERINGS = {
    "a case's stage": (
        "UPDATE cases SET stage = 'cancelled' WHERE case_id = '{case}'",
        ("column_differs", "cases", "{case}", "stage"),
    ),
    "an assignment's status": (
        "UPDATE assignments SET status = 'done' WHERE case_id = '{case}'",
        ("column_differs", "assignments", "{case}/ecology", "status"),
    ),
    "a clock's due moment": (
        "UPDATE clocks SET due_at = '2030-01-01 00:00:00' WHERE case_id = '{case}' AND kind = 'sign'",
        ("column_differs", "clocks", "{case}/sign/ecology/1", "due_at"),
    ),
    "a sentence": (
        "UPDATE timeline SET text = '' WHERE case_id = '{case}' AND sequence = 3",
        ("column_differs", "timeline", "{case}/3", "text"),
    ),
    "a row of the timeline gone": (
        "DELETE FROM timeline WHERE case_id = '{case}' AND sequence = 3",
        ("row_missing", "timeline", "{case}/3", ""),
    ),
    "a ledger row gone": (
        "DELETE FROM ledger WHERE case_id = '{case}' AND sequence = 4",
        ("row_missing", "ledger", "第4条", ""),
    ),
    "the newest ledger row gone": (
        "DELETE FROM ledger WHERE case_id = '{case}' AND kind = 'closed'",
        ("missing_in_ledger", "ledger", "第9条", ""),
    ),
    "a hash": (
        "UPDATE ledger SET hash = '{zeros}' WHERE case_id = '{case}' AND sequence = 2",
        ("hash_mismatch", "ledger", "第2条", "hash"),
    ),
    "a moment": (
        "UPDATE ledger SET at = '2020-01-01 00:00:00' WHERE case_id = '{case}' AND sequence = 5",
        ("column_differs", "ledger", "第5条", "at"),
    ),
    "a name in a text": (
        "UPDATE ledger SET entry = replace(entry, '王示例', '李示例') WHERE case_id = '{case}' AND sequence = 4",
        ("hash_mismatch", "ledger", "第4条", "entry"),
    ),
    "the terms": (
        "UPDATE terms SET document = replace(document, 'sample-1', 'sample-2')",
        ("terms_differ", "terms", "", "document"),
    ),
}


async def test_every_row_that_is_tampered_with_in_either_database_is_named(closed: tuple[House, str]) -> None:
    house, case_id = closed
    assert found(await verdicts(house, case_id)) == set()
    for what, (statement, place) in TAMPERINGS.items():
        before = await copied(house.store)
        await tamper(house.store, statement.format(case=case_id, zeros="0" * 64))
        wanted = tuple(part.format(case=case_id) for part in place)
        assert wanted in found(await verdicts(house, case_id)), what
        await restored(house.store, before)
    assert found(await verdicts(house, case_id)) == set()


_HELD = ("cases", "assignments", "clocks", "timeline", "ledger")


async def copied(store: Store) -> dict[str, list[dict[str, Any]]]:
    async with store._database.read() as connection:
        return {
            name: [
                dict(row._mapping) for row in await connection.execute(select(*Table.metadata.tables[name].c))
            ]
            for name in (*_HELD, "terms")
        }


async def restored(store: Store, rows: dict[str, list[dict[str, Any]]]) -> None:
    """Put back what was there, so that one tampering is not seen in the next."""
    async with store._database.write() as connection:
        for name in _HELD:
            await connection.execute(delete(Table.metadata.tables[name]))
            await connection.execute(insert(Table.metadata.tables[name]), rows[name])
        for row in rows["terms"]:
            await connection.execute(
                update(TermsRow).where(TermsRow.id == row["id"]).values(document=row["document"])
            )


UNREADABLE = {
    "UPDATE ledger SET entry = CAST(entry AS BLOB) WHERE case_id = '{case}' AND sequence = 3": (
        "unreadable",
        "ledger",
        "第3条",
        "entry",
    ),
    "UPDATE ledger SET sequence = '02x' WHERE case_id = '{case}' AND sequence = 2": (
        "unreadable",
        "ledger",
        "第02x条",
        "sequence",
    ),
    "UPDATE ledger SET at = 'garbage' WHERE case_id = '{case}' AND sequence = 2": (
        "unreadable",
        "ledger",
        "第2条",
        "at",
    ),
    "UPDATE ledger SET at = '' WHERE case_id = '{case}' AND sequence = 1": (
        "unreadable",
        "ledger",
        "第1条",
        "at",
    ),
    "UPDATE timeline SET at = 'garbage' WHERE case_id = '{case}' AND sequence = 3": (
        "column_differs",
        "timeline",
        "{case}/3",
        "at",
    ),
    "UPDATE clocks SET due_at = 'garbage' WHERE case_id = '{case}' AND kind = 'sign'": (
        "column_differs",
        "clocks",
        "{case}/sign/ecology/1",
        "due_at",
    ),
    "UPDATE cases SET called_at = 'garbage' WHERE case_id = '{case}'": (
        "column_differs",
        "cases",
        "{case}",
        "called_at",
    ),
    "UPDATE intake SET called_at = 'garbage' WHERE case_id = '{case}'": (
        "unreadable",
        "intake",
        "{case}",
        "called_at",
    ),
    "UPDATE intake SET opened = CAST(opened AS BLOB) WHERE case_id = '{case}'": (
        "unreadable",
        "intake",
        "{case}",
        "opened",
    ),
}
"""What SQLite takes in any column."""


async def test_a_value_that_cannot_be_read_is_named_and_the_other_cases_are_judged(house: House) -> None:
    case_id, other = await house.call(), await house.call()
    await house.until_done(case_id, "ecology")
    for statement, place in UNREADABLE.items():
        before = await copied(house.store)
        await tamper(house.store, statement.format(case=case_id))
        wanted = tuple(part.format(case=case_id) for part in place)
        ids = [CaseId(case_id), CaseId(other)]
        (_, judged), (_, sound) = await verify_cases(house.store, house.doors.cases.client, ids)
        assert wanted in found(judged), statement
        assert "not_checked" not in {code for code, *_ in found(judged)}, statement
        assert (status_of(judged), found(sound)) == (1, set()), statement
        if "intake" in place:
            assert ("row_changed", "intake") in {
                each[:2] for each in (await journals(house.store))[Check.INTAKE]
            }
            await tamper(house.store, "UPDATE intake SET called_at = '2026-03-04 00:00:00'")
        else:
            await restored(house.store, before)


NO_UTF_8 = {
    ("ledger", "entry", "sequence = 3"): ("unreadable", "ledger", "第3条"),
    ("ledger", "kind", "sequence = 2"): ("unreadable", "ledger", "第2条"),
    ("timeline", "text", "sequence = 2"): ("column_differs", "timeline", "{case}/2"),
    ("cases", "title", "1 = 1"): ("column_differs", "cases", "{case}"),
    ("assignments", "status", "1 = 1"): ("column_differs", "assignments", "{case}/ecology"),
    ("intake", "opened", "1 = 1"): ("unreadable", "intake", "{case}"),
}
"""By table, column and condition."""


async def test_a_text_that_is_no_utf_8_is_named_and_the_other_cases_are_judged(house: House) -> None:
    case_id, other = await house.call(), await house.call()
    await house.until_done(case_id, "ecology")
    ids = [CaseId(case_id), CaseId(other)]
    for (table, column, which), (code, _, row) in NO_UTF_8.items():
        before = await copied(house.store)
        await tamper(
            house.store,
            f"UPDATE {table} SET {column} = CAST(x'e4bdff' AS TEXT) WHERE case_id = '{case_id}' AND {which}",  # noqa: S608 - a test's own names
        )
        (_, judged), (_, sound) = await verify_cases(house.store, house.doors.cases.client, ids)
        assert (code, table, row.format(case=case_id), column) in found(judged), table
        assert "not_checked" not in {each for each, *_ in found(judged)}, table
        assert (status_of(judged), found(sound)) == (1, set()), table
        await journals(house.store)
        await restored(house.store, before)


async def test_terms_that_are_no_utf_8_are_named_in_their_own_table(house: House) -> None:
    case_id = await house.call()
    await tamper(house.store, "UPDATE terms SET document = CAST(x'e4bdff' AS TEXT)")
    judged = await verdicts(house, case_id)
    async with house.store._database.read() as connection:
        terms_id = (await connection.execute(select(TermsRow.id))).scalar_one()
    assert ("unreadable", "terms", terms_id, "document") in found(judged)
    assert "intake" not in {table for _, table, *_ in found(judged)}


async def test_a_truth_value_that_is_neither_is_named(house: House) -> None:
    case_id = await house.call()
    await house.until_done(case_id, "ecology")
    for wrong in ("7", "-1", "'yes'", "0.5"):
        await tamper(house.store, f"UPDATE assignments SET lead = {wrong} WHERE case_id = '{case_id}'")  # noqa: S608 - a test's own names
        assert found(await verdicts(house, case_id)) == {
            ("column_differs", "assignments", f"{case_id}/ecology", "lead")
        }


async def test_a_row_that_stands_twice_in_a_table_made_again_without_its_key_is_named(
    closed: tuple[House, str],
) -> None:
    house, case_id = closed
    read_models = {
        "cases": case_id,
        "assignments": f"{case_id}/ecology",
        "clocks": f"{case_id}/sign/ecology/1",
        "timeline": f"{case_id}/3",
    }
    await tamper(house.store, *(step for table in (*read_models, "intake") for step in doubled(table)))
    judged = await verdicts(house, case_id)
    added = {(table, row) for code, table, row, _ in found(judged) if code == "row_added"}
    assert {*read_models.items(), ("intake", case_id)} <= added
    assert {code for code, *_ in found(judged)} == {"row_added"}
    assert await journals(house.store) == SOUND | {Check.INTAKE: {("row_added", "intake", case_id)}}
    async with house.store._database.read() as connection:
        terms_id = (await connection.execute(select(TermsRow.id))).scalar_one()
    await tamper(house.store, *doubled("terms"))
    assert ("row_added", "terms", terms_id, "") in found(await verdicts(house, case_id))


def doubled(table: str) -> list[str]:
    """Return what puts a table with every row twice, and without a key, in the place of one."""
    return [
        f"CREATE TABLE {table}_again AS SELECT * FROM {table} UNION ALL SELECT * FROM {table}",  # noqa: S608 - a test's own names
        f"ALTER TABLE {table} RENAME TO {table}_before",
        f"ALTER TABLE {table}_again RENAME TO {table}",
    ]


async def test_terms_that_are_gone_or_no_longer_what_their_row_says_are_named(house: House) -> None:
    case_id = await house.call()
    for column in ("district", "policy_version", "calendar_version"):
        async with house.store._database.read() as connection:
            before = (await connection.execute(text(f"SELECT {column} FROM terms"))).scalar_one()  # noqa: S608 - a test's own names
        await tamper(house.store, f"UPDATE terms SET {column} = 'nope'")  # noqa: S608 - the same
        assert found(await verdicts(house, case_id)) == {("terms_changed", "terms", "", column)}
        await tamper(house.store, f"UPDATE terms SET {column} = '{before}'")  # noqa: S608 - the same
    assert found(await verdicts(house, case_id)) == set()
    with contextlib.closing(sqlite3.connect(str(house.store._database.engine.url.database))) as connection:
        connection.execute("DELETE FROM terms")  # this door looks after no foreign keys
        connection.commit()
    judged = await verdicts(house, case_id)
    assert (status_of(judged), found(judged)) == (1, {("terms_missing", "terms", "", "id")})


async def test_terms_may_name_another_district_only_where_it_has_the_very_same(store: Store) -> None:
    async def said() -> set[tuple[str, str, str, str]]:
        ((_, judged),) = await verify_cases(store, None, [case_id])
        return {each for each in found(judged) if each[1] == "terms"}

    at = datetime.now(UTC)
    other = district("other").model_copy(update={"organisations": district().organisations[:1]})
    await store.load_district(district(), at)
    play = straight()
    play.terms = district().terms()
    await taken(store, play)
    case_id = CaseId(play.state.case_id)
    await store.load_district(other, at)
    assert other.terms() != district().terms()
    assert await said() == set()
    await tamper(store, "UPDATE terms SET district = 'other'")
    assert await said() == {("terms_changed", "terms", "", "district")}

    await store.load_district(district("other"), at)  # now it has the same, and the row is shared
    await tamper(store, "UPDATE terms SET district = 'other'")
    assert await said() == set()
    await store.load_district(other, at)  # it has moved on and leaves the row to who uses it
    assert await said() == set()
    async with store._database.read() as connection:
        names = (await connection.execute(select(TermsRow.district))).scalars()
        assert sorted(names) == ["other", "sample"]


async def test_a_link_that_cannot_be_read_is_named_and_the_others_are_judged(house: House) -> None:
    await house.call()
    await house.call()
    await tamper(house.store, "UPDATE journals SET at = 'garbage' WHERE journal = 'intake' AND sequence = 1")
    wrong = await journals(house.store)
    assert ("unreadable", "journals", "intake 第1条") in wrong[Check.INTAKE]
    await tamper(house.store, "UPDATE journals SET sequence = '2x' WHERE journal = 'intake' AND sequence = 2")
    wrong = await journals(house.store)
    assert ("unreadable", "journals", "intake 第2x条") in wrong[Check.INTAKE]


GARBAGE_ANCHORS = {
    "UPDATE anchors SET day = 'garbage' WHERE number = 1": ("第1号(garbage)", "day"),
    "UPDATE anchors SET day = 20260304 WHERE number = 1": ("第1号(20260304)", "day"),
    "UPDATE anchors SET number = 'one' WHERE number = 1": ("第one号({day})", "number"),
    "UPDATE anchors SET document = CAST(document AS BLOB) WHERE number = 1": ("第1号({day})", "document"),
    "UPDATE anchors SET key_id = x'00ff' WHERE number = 1": ("第1号({day})", "key_id"),
    "UPDATE anchors SET document = CAST(x'e4bdff' AS TEXT) WHERE number = 1": ("第1号({day})", "document"),
}
"""What SQLite takes in any column."""


async def test_an_anchor_that_cannot_be_read_is_named_and_the_others_are_judged(
    sqlite_store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store, keeper = sqlite_store, AnchorKeeper(sqlite_store, KEY, tmp_path / "anchors")
    monkeypatch.setenv("SHAODAO_DATABASE_URL", store._database.engine.url.render_as_string())
    monkeypatch.setenv("SHAODAO_SECRET", SECRET)
    await store.load_district(district(), datetime.now(UTC))
    await taken(store, straight())
    await keeper.anchor("sample", datetime.now(UTC))
    await taken(store, another(straight(), "sample-20260304-000001"))
    await keeper.anchor("sample", datetime.now(UTC))
    day = (await store.anchors("sample"))[0].day
    for statement, (row, column) in GARBAGE_ANCHORS.items():
        async with store._database.read() as connection:
            before = list((await connection.execute(text("SELECT * FROM anchors"))).mappings())
        await tamper(store, statement)
        assert await verify_anchors(None, None, KEY.public) == 1, statement
        said = capsys.readouterr().out
        assert f"✗ [unreadable] anchors,{row.format(day=day)},{column}:" in said, said
        assert "not_checked" not in said
        assert await verify_journals(None) in {0, 1}
        assert "not_checked" not in capsys.readouterr().out
        names = ", ".join(f":{name}" for name in before[0])
        async with store._database.write() as connection:
            await connection.execute(text("DELETE FROM anchors"))
            insertion = text(f"INSERT INTO anchors VALUES ({names})")  # noqa: S608
            await connection.execute(insertion, [dict(row) for row in before])
    assert await verify_anchors(None, None, KEY.public) == 0
    await tamper(store, "UPDATE anchors SET day = 'garbage' WHERE number = 1")
    told = (await keeper.anchor("sample", datetime.now(UTC))).contradicted
    assert told == ("第1号(garbage)",)
    assert not list((tmp_path / "anchors").glob("*0001-01-01*"))


async def test_the_newest_call_that_is_gone_with_its_link_is_named_and_not_those_that_stand(
    store: Store,
) -> None:
    keeper = AnchorKeeper(store, KEY, None)
    await store.load_district(district(), datetime.now(UTC))
    for number in range(4):
        await taken(store, another(straight(), f"sample-20260304-00000{number}"))
        if number in {0, 3}:
            await keeper.anchor("sample", datetime.now(UTC))
    await tamper(
        store,
        "DELETE FROM journals WHERE journal = 'intake' AND sequence = 4",
        "DELETE FROM intake WHERE case_id = 'sample-20260304-000003'",
    )
    assert (await journals(store))[Check.INTAKE] == {("journal_cut", "journals", "intake 第4条")}
    verdict = await judge_anchors(store, "sample", None, {KEY.public.id: KEY.public})
    assert {(each.code, each.row) for each in verdict.findings} == {("journal_cut", "intake 第4条")}


async def test_an_anchor_under_a_district_that_is_not_loaded_is_judged_all_the_same(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = sqlite_store
    monkeypatch.setenv("SHAODAO_DATABASE_URL", store._database.engine.url.render_as_string())
    monkeypatch.setenv("SHAODAO_SECRET", "0" * 32)
    await store.load_district(district(), datetime.now(UTC))
    await taken(store, straight())
    await AnchorKeeper(store, KEY, None).anchor("sample", datetime.now(UTC))
    assert await verify_anchors(None, None, KEY.public) == 0
    await tamper(
        store,
        "INSERT INTO anchors SELECT 'tengzhou', number, day, document, hash, signature, key_id FROM anchors",
    )
    capsys.readouterr()
    assert await verify_anchors(None, None, KEY.public) == 1
    said = capsys.readouterr().out.partition("区(市) tengzhou")[2]
    assert "✗ [anchor_differs] anchors,第1号" in said
    assert said.count("[") == 1


async def test_an_error_that_nobody_thought_of_ends_the_judgement_of_one_district_alone(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = sqlite_store
    monkeypatch.setenv("SHAODAO_DATABASE_URL", store._database.engine.url.render_as_string())
    monkeypatch.setenv("SHAODAO_SECRET", SECRET)
    await store.load_district(district(), datetime.now(UTC))
    await taken(store, straight())
    await AnchorKeeper(store, KEY, None).anchor("sample", datetime.now(UTC))
    await tamper(
        store,
        "INSERT INTO districts SELECT 'another', name, terms_id, document, loaded_at FROM districts",
    )

    def breaks_in_sample(judge: Any) -> Any:
        async def judged(store: Store, code: str, *more: Any) -> Any:
            if code == "sample":
                raise MemoryError
            return await judge(store, code, *more)

        return judged

    monkeypatch.setattr(audit_runs, "judge_anchors", breaks_in_sample(judge_anchors))
    monkeypatch.setattr(audit_runs, "judge_journals", breaks_in_sample(judge_journals))
    assert await verify_anchors(None, None, KEY.public) == 2
    said = capsys.readouterr().out
    assert "? [not_checked] anchors:核验中出现意外错误 MemoryError" in said
    assert "区(市) another" in said
    assert await verify_journals(None) == 2
    assert "? [not_checked] intake:" in capsys.readouterr().out


async def test_a_history_that_breaks_the_replay_of_all_costs_its_own_case_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking, sound = await house.call(), await house.call()
    await house.until_started(breaking, sound)  # else there is no history that could break anything

    async def breaks(runs: Sequence[RunHistory], *, by_sdk: bool = False) -> list[Replayed]:
        if any(breaking in run.history.workflow_id for run in runs):
            raise MemoryError
        return await replay(runs, by_sdk=by_sdk)

    monkeypatch.setattr(auditor, "replay", breaks)
    for by_sdk in (False, True):
        ids = [CaseId(breaking), CaseId(sound)]
        judged = dict(await verify_cases(house.store, house.doors.cases.client, ids, by_sdk=by_sdk))
        ((finding,),) = (each.findings for each in judged[ids[0]])
        assert (finding.code, finding.proven) == ("not_checked", False)
        assert "MemoryError" in finding.detail
        assert (status_of(judged[ids[0]]), status_of(judged[ids[1]])) == (2, 0)


def gone(case_id: str) -> list[str]:
    """Return what deletes every trace of a case."""
    return [
        f"DELETE FROM {table} WHERE case_id = '{case_id}'"  # noqa: S608 - a test's own names
        for table in (*_HELD, "intake")
    ] + [f"DELETE FROM journals WHERE key = '{case_id}'"]  # noqa: S608 - the same


async def test_a_case_deleted_from_the_whole_database_is_noticed_by_its_history_and_by_its_anchor(
    closed: tuple[House, str], tmp_path: Path
) -> None:
    house, case_id = closed
    other = await house.call()
    keeper = AnchorKeeper(house.store, KEY, tmp_path)
    made = await keeper.anchor("sample", datetime.now(UTC))
    assert (made.number, made.chains, made.is_new, made.contradicted) == (1, 2, True, ())
    keys = {KEY.public.id: KEY.public}
    files, named = read_published(tmp_path)
    assert named.keys() == keys.keys()
    assert (await judge_anchors(house.store, "sample", files["sample"], keys)).status == 0
    await tamper(house.store, *gone(case_id))
    verdict = await judge_anchors(house.store, "sample", None, keys)
    assert [(each.code, each.row) for each in verdict.findings] == [("case_deleted", f"案件 {case_id}")]
    assert "missing_in_ledger" in {code for code, *_ in found(await verdicts(house, case_id))}
    assert (await keeper.anchor("sample", datetime.now(UTC))).contradicted == (f"案件 {case_id}",)
    await tamper(
        house.store, "DELETE FROM anchors"
    )  # who deletes the anchors, too, cannot reach what is published
    verdict = await judge_anchors(house.store, "sample", files["sample"], keys)
    assert {each.code for each in verdict.findings} == {"anchor_gone", "case_deleted"}
    assert status_of(await verdicts(house, other)) == 0


async def test_the_ledger_and_the_anchors_refuse_change(store: Store) -> None:
    await AnchorKeeper(store, KEY, None).anchor("sample", datetime.now(UTC))
    for statement in (
        "UPDATE anchors SET hash = ''",
        "DELETE FROM anchors",
    ):
        with pytest.raises(DBAPIError, match="append-only"):
            async with store._database.write() as connection:
                await connection.execute(text(statement))


async def test_no_row_of_an_append_only_table_is_replaced_by_an_insert(store: Store) -> None:
    """PostgreSQL has no inserts that replace: what it has instead is an update."""
    await taken(store, straight())
    await store.journal(operation("begun"))
    await AnchorKeeper(store, KEY, None).anchor("sample", datetime.now(UTC))
    line = {
        "person": "auditor",
        "district": "sample",
        "namespace": "",
        "workflows": "",
        "keys": "",
        "digest": "",
    }
    async with store._database.write() as connection:
        decoding = insert(Table.metadata.tables["decodings"])
        await connection.execute(decoding.values(**line, at=datetime.now(UTC), payloads=1))
    for table in ("ledger", "operations", "decodings", "anchors", "journals"):
        keys = [column.name for column in Table.metadata.tables[table].primary_key]
        statement = f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}"  # noqa: S608 - a test's own names
        if not store._database.is_sqlite:
            statement = (
                f"INSERT INTO {table} SELECT * FROM {table} "  # noqa: S608 - the same
                f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {keys[0]} = excluded.{keys[0]}"
            )
        with pytest.raises(DBAPIError, match="append-only"):
            async with store._database.write() as connection:
                await connection.execute(text(statement))
    if store._database.is_sqlite:
        other = (
            "'intake', 'elsewhere', 1, key, at, digest, previous, hash FROM journals WHERE journal = 'intake'"
        )
        with pytest.raises(DBAPIError, match="append-only"):
            async with store._database.write() as connection:
                await connection.execute(text(f"INSERT OR REPLACE INTO journals SELECT {other}"))


async def taken(store: Store, play: Kept) -> None:
    start = CaseStart(opened=play.entries[0], terms=play.terms)
    intake = Intake(start=start, contact=Contact(), key="", body_digest="")
    await store.take_call(intake, person="town-officer", status=201, body="{}")
    await store.record(play.entries)


def another(play: Kept, case_id: str) -> Kept:
    play.entries = renamed(play, case_id)
    play.state = play.state.model_copy(update={"case_id": case_id})
    return play


async def test_a_district_is_anchored_many_times_a_day_and_each_anchor_binds_the_one_before(
    store: Store, tmp_path: Path
) -> None:
    keeper = AnchorKeeper(store, KEY, tmp_path)
    first_night = shanghai("2026-03-06 00:10")
    await taken(store, another(straight(), "sample-20260304-000001"))
    first = await keeper.anchor("sample", first_night)
    again = await keeper.anchor("sample", first_night + timedelta(hours=8))
    assert (first.day, again.number, again.is_new) == ("2026-03-06", 1, False)
    await taken(store, another(late(), "sample-20260304-000002"))
    second = await keeper.anchor("sample", first_night + timedelta(hours=9))
    assert (second.number, second.chains, second.is_new) == (2, 2, True)
    await store.journal(operation("begun"))
    third = await keeper.anchor("sample", first_night + timedelta(hours=10))
    fourth = await keeper.anchor("sample", first_night + timedelta(days=1))
    assert [(each.number, each.is_new) for each in (third, fourth)] == [(3, True), (4, True)]
    stored = await store.anchors("sample")
    documents = [Anchor.model_validate_json(each.document) for each in stored]
    assert [each.previous for each in documents[1:]] == [each.hash for each in stored[:-1]]
    assert [head.case_id for head in documents[1].changed] == ["sample-20260304-000002"]
    assert [(each.journal, each.sequence) for each in documents[2].journals] == [
        ("intake", 2),
        ("operations", 1),
    ]
    assert sorted(path.name for path in tmp_path.glob("anchor-*")) == [
        "anchor-sample-2026-03-06-000002.json",
        "anchor-sample-2026-03-06-000003.json",
        "anchor-sample-2026-03-06.json",
        "anchor-sample-2026-03-07.json",
    ]
    files = read_published(tmp_path)[0]["sample"]
    verdict = await judge_anchors(store, "sample", files, {KEY.public.id: KEY.public})
    assert verdict.findings == ()
    assert "4 次锚定,4 个已发布文件" in verdict.note


async def test_an_anchor_that_was_made_and_not_published_is_published_with_the_next(
    store: Store, tmp_path: Path
) -> None:
    await AnchorKeeper(store, KEY, None).anchor("sample", shanghai("2026-03-06 00:10"))
    await AnchorKeeper(store, KEY, tmp_path).anchor("sample", shanghai("2026-03-07 00:10"))
    assert len(read_published(tmp_path)[0]["sample"]) == 2


async def test_a_published_anchor_is_never_written_over(store: Store, tmp_path: Path) -> None:
    keeper, at = AnchorKeeper(store, KEY, tmp_path), shanghai("2026-03-06 00:10")
    await keeper.anchor("sample", at)
    published = (tmp_path / "anchor-sample-2026-03-06.json").read_text()
    await tamper(store, "DELETE FROM anchors")
    await taken(store, another(straight(), "sample-20260304-000001"))
    (told,) = (await keeper.anchor("sample", at)).contradicted
    assert "anchor-sample-2026-03-06.json" in told
    assert (tmp_path / "anchor-sample-2026-03-06.json").read_text() == published


def operation(outcome: str) -> Operation:
    return Operation(
        operation="a",
        at=datetime.now(UTC),
        person="administrator",
        person_name="管理员",
        district="sample",
        name="reset",
        arguments={},
        outcome=outcome,
    )


# --- a call that leaves no other trace ---------------------------------------------------------------------


async def journals(store: Store) -> dict[Check, set[tuple[str, str, str]]]:
    """Return what is wrong with the journals."""
    return {
        each.check: {(one.code, one.table, one.row) for one in each.findings}
        for each in await judge_journals(store, "sample")
    }


SOUND: dict[Check, set[tuple[str, str, str]]] = {
    Check.INTAKE: set(),
    Check.OPERATIONS: set(),
    Check.DECODINGS: set(),
    Check.DIRECTORY: set(),
}


async def test_a_call_taken_and_deleted_before_any_anchor_leaves_its_number_behind(
    either_house: House,
) -> None:
    house, store = either_house, either_house.store
    for _ in range(3):
        case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    await house.call()
    assert await journals(store) == SOUND
    await tamper(store, *gone(case_id))
    assert (await journals(store))[Check.INTAKE] == {("link_missing", "journals", "intake 第3条")}


async def test_a_journal_made_anew_from_the_first_link_on_contradicts_the_anchor(
    store: Store, tmp_path: Path
) -> None:
    keeper, at = AnchorKeeper(store, KEY, tmp_path), datetime.now(UTC)
    for outcome in ("begun", "done", "begun"):
        await store.journal(operation(outcome))
    await keeper.anchor("sample", at)
    await tamper(store, "DELETE FROM journals")
    async with store._database.write() as connection:
        for table in ("operations_append_only_delete", "operations_append_only"):
            on = "" if store._database.is_sqlite else " ON operations"
            await connection.execute(text(f"DROP TRIGGER IF EXISTS {table}{on}"))
    await tamper(store, "DELETE FROM operations")
    for outcome in ("begun", "failed", "begun"):
        await store.journal(operation(outcome))
    assert (await journals(store))[Check.OPERATIONS] == {
        ("journal_rewritten", "journals", "operations 第1至3条")
    }
    assert (await keeper.anchor("sample", at)).contradicted == ("operations 第1至3条",)
    await tamper(store, "DELETE FROM anchors")
    files = read_published(tmp_path)[0]["sample"]
    verdict = await judge_anchors(store, "sample", files, {KEY.public.id: KEY.public})
    assert ("journal_rewritten", "operations 第1至3条") in {
        (each.code, each.row) for each in verdict.findings
    }


async def test_two_who_anchor_at_once_make_one_anchor(store: Store) -> None:
    await taken(store, straight())
    at = datetime.now(UTC)
    made = await asyncio.gather(*(store.add_anchor("sample", at, KEY) for _ in range(4)))
    assert sum(is_new for _, is_new in made) == 1
    assert len({each.hash for each, _ in made}) == 1


async def test_an_anchor_rewritten_in_the_database_and_one_with_another_key_are_named(
    store: Store, tmp_path: Path
) -> None:
    await taken(store, straight())
    await AnchorKeeper(store, KEY, tmp_path).anchor("sample", datetime.now(UTC))
    verdict = await judge_anchors(store, "sample", None, {})
    assert [(each.code, each.proven) for each in verdict.findings] == [("key_unknown", False)]
    await tamper(store, "UPDATE anchors SET signature = 'zz'")
    keys = {KEY.public.id: KEY.public}
    (finding,) = (await judge_anchors(store, "sample", None, keys)).findings
    assert (finding.code, finding.field) == ("signature_bad", "signature")
    files = read_published(tmp_path)[0]["sample"]
    await tamper(store, "UPDATE anchors SET document = replace(document, '\"chains\":1', '\"chains\":2')")
    codes = {each.code for each in (await judge_anchors(store, "sample", files, keys)).findings}
    assert codes >= {"anchor_differs", "signature_bad"}
    none: Verdict = await judge_anchors(store, "elsewhere", None, keys)
    assert none.status == 2


async def test_keys_that_published_anchors_name_of_themselves_prove_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url)
    store = Store(url, SEAL)
    await store.load_district(district(), datetime.now(UTC))
    await taken(store, straight())
    await AnchorKeeper(store, KEY, tmp_path).anchor("sample", datetime.now(UTC))
    await store.close()
    monkeypatch.setenv("SHAODAO_DATABASE_URL", url)
    monkeypatch.setenv("SHAODAO_SECRET", SECRET)
    assert await verify_anchors("sample", tmp_path, None) == 2
    assert await verify_anchors("sample", tmp_path, SigningKey.new().public) == 2
    assert await verify_anchors("sample", tmp_path, KEY.public) == 0


async def test_rows_without_any_link_or_district_are_named_and_nothing_at_all_is_not_passed_over(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = sqlite_store
    monkeypatch.setenv("SHAODAO_DATABASE_URL", store._database.engine.url.render_as_string())
    monkeypatch.setenv("SHAODAO_SECRET", SECRET)
    assert await verify_journals(None) == 2
    assert "没有任何区(市)" in capsys.readouterr().out
    await store.load_district(district(), datetime.now(UTC))
    await taken(store, straight())
    await store.journal(operation("begun"))
    assert await verify_journals(None) == 0
    capsys.readouterr()
    await tamper(store, "DELETE FROM districts", "DELETE FROM journals")
    assert await verify_journals(None) == 1
    said = capsys.readouterr().out
    assert said.count("✗ [row_added]") == 3  # the call, the operation, and that the district was loaded
    assert "✗ [row_missing] districts,sample" in said


async def test_a_district_that_nobody_loaded_is_not_anchored(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.load_district(district(), datetime.now(UTC))
    KEY.write_new(tmp_path / "audit.key")
    url = store._database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("SHAODAO_DATABASE_URL", url)
    monkeypatch.setenv("SHAODAO_SECRET", SECRET)
    monkeypatch.setenv("SHAODAO_AUDIT_KEY", str(tmp_path / "audit.key"))
    for code in ("nope", "../../evil", ""):
        with pytest.raises(AnchorInvalid) as refused:
            await anchor(code, None, tmp_path / "anchors")
        assert refused.value.code == "district_unknown"
    assert (await store.anchored_districts(), (tmp_path / "anchors").exists()) == ([], False)
    await anchor("sample", None, tmp_path / "anchors")
    assert await store.anchored_districts() == ["sample"]


async def test_published_anchors_that_are_not_there_or_broken_are_said_and_those_of_the_settings_used(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, elsewhere = tmp_path / "anchors", tmp_path / "elsewhere"
    elsewhere.mkdir()
    await store.load_district(district(), datetime.now(UTC))
    await taken(store, straight())
    await AnchorKeeper(store, KEY, folder).anchor("sample", datetime.now(UTC))
    url = store._database.engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("SHAODAO_DATABASE_URL", url)
    monkeypatch.setenv("SHAODAO_SECRET", SECRET)
    assert await verify_anchors("sample", None, KEY.public) == 0
    monkeypatch.setenv("SHAODAO_ANCHOR_DIR", str(elsewhere))
    assert await verify_anchors("sample", None, KEY.public) == 1
    assert "✗ [anchor_file_missing] 锚定文件:" in capsys.readouterr().out
    monkeypatch.setenv("SHAODAO_ANCHOR_DIR", str(tmp_path / "nowhere"))
    assert await verify_anchors("sample", None, KEY.public) == 2
    assert "? [anchor_file_missing] 锚定文件:" in capsys.readouterr().out
    monkeypatch.delenv("SHAODAO_ANCHOR_DIR")
    for where in (elsewhere, tmp_path / "nowhere"):
        assert await verify_anchors("sample", where, KEY.public) == 2
        assert "[no_anchor_file]" in capsys.readouterr().out
    (elsewhere / "anchor-sample-2026-03-06.json").write_text("[]")
    assert await verify_anchors("sample", elsewhere, KEY.public) == 1
    assert "✗ [anchor_invalid]" in capsys.readouterr().out
    await tamper(store, "DELETE FROM anchors")
    monkeypatch.setenv("SHAODAO_ANCHOR_DIR", str(folder))
    assert await verify_anchors(None, None, KEY.public) == 1
    assert "✗ [anchor_gone]" in capsys.readouterr().out


async def test_an_anchor_made_by_hand_tells_which_cases_contradict_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"sqlite:///{tmp_path / 'store.db'}"
    upgrade(url)
    store = Store(url, SEAL)
    await store.load_district(district(), datetime.now(UTC))
    await taken(store, straight())
    pem = tmp_path / "key.pem"
    KEY.write_new(pem)
    monkeypatch.setenv("SHAODAO_DATABASE_URL", url)
    monkeypatch.setenv("SHAODAO_SECRET", SECRET)
    monkeypatch.setenv("SHAODAO_AUDIT_KEY", str(pem))
    assert await anchor("sample", None, tmp_path) == 0
    assert "✗" not in capsys.readouterr().out
    (case_id,) = await store.heads("sample")
    await tamper(
        store, "UPDATE ledger SET hash = 'forged' WHERE sequence = (SELECT max(sequence) FROM ledger)"
    )
    await store.close()
    assert await anchor("sample", None, tmp_path) == 1
    said = capsys.readouterr().out
    assert "第2号" in said
    assert "✗ [chain_rewritten]" in said
    assert case_id in said


async def test_a_file_that_is_no_anchor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "anchor-x.json").write_text("{}")
    with pytest.raises(AnchorInvalid):
        read_published(tmp_path)


# --- bundles -----------------------------------------------------------------------------------------------


@pytest.fixture
def audited(house: House) -> House:
    """The product with a signing key."""
    house.doors.settings.audit_key = SecretStr(PEM)
    return house


def _pem() -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "key"
        KEY.write_new(path)
        return path.read_text()


PEM = _pem()


async def bundle(house: House, case_id: str, **query: str) -> bytes:
    response = await house.get("auditor", f"/cases/{case_id}/audit/bundle", **query)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    return response.content


async def test_a_bundle_taken_over_http_proves_a_closed_case_by_itself(audited: House) -> None:
    case_id = await audited.call()
    await audited.until_done(case_id, "ecology", "police")
    await audited.rate(case_id, "ecology", "police")
    for digest in ("sha256", "sm3"):
        opened = open_bundle(await bundle(audited, case_id, digest=digest))
        judged = await judge_bundle(opened, trusted=KEY.public)
        assert found(judged) == set()
        assert len(judged) == 6
        assert opened.manifest.over
    page = opened.files["timeline.html"].decode()
    assert "小造纸厂排污" in page
    assert "<script" not in page
    assert "19912340001" not in page
    history = next(content for name, content in opened.files.items() if name.startswith("history-"))
    assert json.loads(history)["events"][0]["eventType"] == "EVENT_TYPE_WORKFLOW_EXECUTION_STARTED"


async def test_an_open_case_is_exported_and_proven_as_far_as_it_goes(audited: House) -> None:
    case_id = await audited.call()
    await audited.dispatch(case_id, "ecology")
    opened = open_bundle(await bundle(audited, case_id))
    assert not opened.manifest.over
    assert found(await judge_bundle(opened, trusted=KEY.public)) == set()


async def test_a_history_changed_in_a_bundle_is_named_by_what_it_no_longer_decides(audited: House) -> None:
    case_id = await audited.call()
    await audited.until_done(case_id, "ecology")
    content = await bundle(audited, case_id)
    opened = open_bundle(content)
    name = next(each for each in opened.files if each.startswith("history-"))
    history = json.loads(opened.files[name])
    for event in history["events"]:
        accepted = event.get("workflowExecutionUpdateAcceptedEventAttributes")
        if accepted and accepted["acceptedRequest"]["input"]["name"] == "check_in":
            (payload,) = accepted["acceptedRequest"]["input"]["args"]["payloads"]
            said = base64.b64decode(payload["data"]).decode().replace("王示例", "李示例")
            payload["data"] = base64.b64encode(said.encode()).decode()
    forged = {**opened.files, name: json.dumps(history).encode()}
    object.__setattr__(opened, "files", forged)
    judged = found(await judge_bundle(opened, trusted=KEY.public))
    assert ("file_changed", name, "", "") in judged
    assert ("differs_from_history", "ledger.jsonl", "第4条", "entry.event.officers[0].name") in judged
    assert any(code == "receipt_differs" and table == name for code, table, *_ in judged)
    object.__setattr__(opened, "files", {**forged, name: b"{}"})
    assert "file_changed" in {code for code, *_ in found(await judge_bundle(opened))}
    object.__setattr__(opened, "files", {**forged, name: b"\xff"})
    assert "file_unreadable" in {code for code, *_ in found(await judge_bundle(opened))}


async def test_pages_for_people_that_say_something_else_than_the_ledger_are_named(audited: House) -> None:
    case_id = await audited.call()
    opened = open_bundle(await bundle(audited, case_id))
    page = opened.files["timeline.html"].replace("吹哨".encode(), "举报".encode())
    object.__setattr__(opened, "files", {**opened.files, "timeline.html": page})
    judged = found(await judge_bundle(opened, trusted=KEY.public))
    assert ("page_differs", "timeline.html", "", "") in judged
    assert ("file_changed", "timeline.html", "", "") in judged


# --- over HTTP ---------------------------------------------------------------------------------------------


async def test_only_auditors_and_supervisors_take_bundles_and_read_anchors(audited: House) -> None:
    case_id = await audited.call()
    proof = f"/cases/{case_id}/audit/proof"
    for person in ("town-officer", "dispatcher", "administrator", "leader"):
        for path in (f"/cases/{case_id}/audit/bundle", "/audit/anchors", proof):
            response = await audited.get(person, path)
            assert response.status_code in {403, 404}, (person, path)
    assert (await audited.get("auditor", "/audit/anchors", district="elsewhere")).status_code == 403
    assert (await audited.get("citizen", f"/cases/{case_id}/audit/bundle")).json()["code"] == "case_not_found"
    anonymous = await audited.client.get("/api/v1/audit/key")
    assert anonymous.status_code == 401


async def test_an_auditor_of_the_city_reads_every_district(
    real_server: WorkflowEnvironment, sqlite_store: Store
) -> None:
    async with open_house(real_server, sqlite_store) as house:
        people = district().people
        auditor = next(each for each in people if each.id == "auditor")
        post = auditor.posts[0].model_copy(update={"city": True})
        away = district("other", prefix="other-")
        moved = auditor.model_copy(update={"id": "other-auditor", "district": "other", "posts": (post,)})
        rest = tuple(each for each in away.people if each.id != "other-auditor")
        await house.store.load_district(away.model_copy(update={"people": (*rest, moved)}), datetime.now(UTC))
        await house.doors.directory.refresh()
        house.doors.settings.audit_key = SecretStr(PEM)
        case_id = await house.call()
        response = await house.get("other-auditor", f"/cases/{case_id}/audit/bundle")
        assert response.status_code == 200
        assert (await house.get("other-auditor", "/audit/anchors", district="sample")).status_code == 200


async def test_the_key_is_published_and_without_one_the_door_says_so(audited: House) -> None:
    answer = (await audited.get("town-officer", "/audit/key")).json()
    assert (answer["key_id"], answer["public_key"]) == (KEY.public.id, KEY.public.raw.hex())
    assert "PUBLIC KEY" in answer["pem"]
    audited.doors.settings.audit_key = None
    response = await audited.get("auditor", "/audit/key")
    assert (response.status_code, response.json()["code"]) == (503, "audit_key_missing")


async def test_anchors_are_listed_and_a_case_is_proven_to_be_in_the_last(audited: House) -> None:
    case_id = await audited.call()
    path = f"/cases/{case_id}/audit/proof"
    assert (await audited.get("auditor", path)).json()["code"] == "not_anchored"
    for _ in range(4):
        await audited.call()
    await AnchorKeeper(audited.store, KEY, None).anchor("sample", datetime.now(UTC))
    (item,) = (await audited.get("auditor", "/audit/anchors")).json()["items"]
    assert KEY.public.is_signed(item["document"].encode(), bytes.fromhex(item["signature"]))
    proof = (await audited.get("auditor", path)).json()
    assert proof["root"] == json.loads(item["document"])["root"]
    leaf = Head.model_validate(proof["head"]).leaf()
    way = [bytes.fromhex(each) for each in proof["proof"]]
    assert is_included(leaf, proof["place"], proof["count"], way, bytes.fromhex(proof["root"]))


# --- histories that are not there --------------------------------------------------------------------------


async def test_a_case_whose_history_is_gone_is_said_to_be_so(sqlite_store: Store, house: House) -> None:
    waiting = another(Kept(), "sample-20260304-000001")
    start = CaseStart(opened=waiting.entries[0], terms=waiting.terms)
    intake = Intake(start=start, contact=Contact(), key="", body_digest="")
    await sqlite_store.take_call(intake, person="town-officer", status=201, body="{}")
    judged = await verdicts(house, waiting.state.case_id)
    assert [verdict.status for verdict in judged[:3]] == [0, 0, 0]
    assert "尚未在 Temporal 启动" in judged[1].note
    play = straight()
    await taken(sqlite_store, play)
    judged = await verdicts(house, play.state.case_id)
    assert judged[1].status == 2, "more than the call cannot come from a case that never ran"
    await sqlite_store.started(play.state.case_id, datetime.now(UTC))
    judged = await verdicts(house, play.state.case_id)
    assert [verdict.status for verdict in judged] == [0, 2, 0, 0]
    assert "保留期" in judged[1].findings[0].detail
    ((_, offline),) = await verify_cases(sqlite_store, None, [play.state.case_id])
    assert status_of(offline) == 2


async def test_a_case_that_nobody_knows_is_said_to_be_so(house: House) -> None:
    judged = await verdicts(house, "sample-20260304-nobody")
    assert found(judged) == {("case_unknown", "ledger", "", "")}
    assert status_of(judged) == 2


@pytest.mark.parametrize("wrong", ["CAST(x'e4bdff' AS TEXT)", "x'e4bdff'"], ids=["no UTF-8", "no text"])
async def test_a_row_whose_case_id_cannot_be_read_is_named_in_its_place(house: House, wrong: str) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    await tamper(
        house.store,
        f"UPDATE ledger SET case_id = {wrong} WHERE case_id = '{case_id}' AND sequence = 2",  # noqa: S608 - a test's own names
    )
    listed = await house.store.cases_called(district=None, called_from=None, called_before=None)
    (strange,) = set(listed) - {case_id}
    judged = await verdicts(house, strange)
    assert found(judged) == {("unreadable", "ledger", "第2条", "case_id")}
    assert status_of(judged) == 1
    assert ("missing_in_ledger", "ledger", "第2条", "") in found(await verdicts(house, case_id))


async def test_a_history_without_a_ledger_accuses_the_ledger(closed: tuple[House, str]) -> None:
    house, case_id = closed
    await tamper(house.store, *gone(case_id))
    judged = await verdicts(house, case_id)
    assert {"no_rows", "missing_in_ledger"} <= {code for code, *_ in found(judged)}
    assert status_of(judged) == 1


# --- the schedule ------------------------------------------------------------------------------------------


async def test_every_district_has_one_schedule_and_its_run_anchors(
    real_server: WorkflowEnvironment, sqlite_store: Store, tmp_path: Path
) -> None:
    client, queue = real_server.client, "test-anchors"
    await taken(sqlite_store, straight())
    for _ in range(2):
        await schedules.keep_anchor_schedule(client, "scheduled", task_queue=queue)
    handle = client.get_schedule_handle("anchor/scheduled")
    described = await handle.describe()
    assert described.schedule.spec.time_zone_name == "Asia/Shanghai"
    assert [each.every for each in described.schedule.spec.intervals] == [timedelta(hours=1)]
    assert {each.minute for each in described.info.next_action_times} == {10}
    await handle.pause()
    await schedules.keep_anchor_schedule(client, "scheduled", every=timedelta(minutes=5), task_queue=queue)
    described = await handle.describe()
    assert described.schedule.state.paused
    assert [each.every for each in described.schedule.spec.intervals] == [timedelta(minutes=5)]
    await schedules.keep_anchor_schedule(client, "scheduled", every=timedelta(days=1), task_queue=queue)
    described = await handle.describe()
    assert not described.schedule.spec.intervals
    assert {(each.hour, each.minute) for each in described.info.next_action_times} == {(16, 10)}
    keeper = AnchorKeeper(sqlite_store, KEY, tmp_path)
    async with create_worker(client, sqlite_store, sqlite_store, anchors=keeper, task_queue=queue):
        anchored = await client.execute_workflow(
            names.ANCHOR, "sample", id="anchor/sample-now", task_queue=queue
        )
    assert anchored["chains"] == 1
    assert len(list(tmp_path.glob("anchor-*.json"))) == 1
    await handle.delete()


# --- long cases, encrypted payloads, ledgers that are behind -------------------------------------------------


class Turned(PayloadCodec):
    """Turns every byte over: enough to see whether what is exported can be read."""

    async def encode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload(metadata={"encoding": b"binary/turned"}, data=_turned(each.SerializeToString()))
            for each in payloads
        ]

    async def decode(self, payloads: Sequence[Payload]) -> list[Payload]:
        return [
            Payload.FromString(_turned(each.data)) if each.metadata["encoding"] == b"binary/turned" else each
            for each in payloads
        ]


def _turned(content: bytes) -> bytes:
    return bytes(each ^ 0xFF for each in content)


async def test_a_long_case_with_encrypted_payloads_is_proven_over_all_its_runs(sqlite_store: Store) -> None:
    converter = replace(pydantic_data_converter, payload_codec=Turned())
    async with (
        await WorkflowEnvironment.start_local(
            data_converter=converter,
            dev_server_existing_path=str(BIN / "temporal"),
            dev_server_log_level="error",
            dev_server_extra_args=["--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=30"],
            search_attributes=names.SEARCH_ATTRIBUTES,
        ) as server,
        open_house(server, sqlite_store) as house,
    ):
        house.doors.settings.audit_key = SecretStr(PEM)
        case_id = await house.call()
        await house.until_done(case_id, "ecology", "police")
        assert found(await verdicts(house, case_id)) == set()
        await house.rate(case_id, "ecology", "police")
        judged = await verdicts(house, case_id)
        assert found(judged) == set()
        opened = open_bundle(await bundle(house, case_id))
        histories = [content for name, content in opened.files.items() if name.startswith("history-")]
        assert len(histories) > 2
        raw = await server.client.get_workflow_handle(f"case/{case_id}").fetch_history()
        assert b"binary/turned" in raw.events[0].SerializeToString()
        assert not any(
            b"YmluYXJ5L3R1cm5lZA" in content for content in histories
        )  # the codec's mark, in base64
        assert found(await judge_bundle(opened, trusted=KEY.public)) == set()
        without_first = {
            name: each for name, each in opened.files.items() if not name.startswith("history-1-")
        }
        object.__setattr__(opened, "files", without_first)
        assert "run_missing" in {code for code, *_ in found(await judge_bundle(opened, trusted=KEY.public))}


async def test_a_ledger_that_was_away_is_behind_its_history_and_catches_up(
    real_server: WorkflowEnvironment,
) -> None:
    async with Cases(real_server) as cases:
        case = await cases.call()
        await case.dispatch("ecology")  # type: ignore[arg-type]
        cases.ledger.away = True
        await case.each("sign", "check_in", departments=("ecology",))  # type: ignore[arg-type]
        derived = verify.derive(await replay(await fetch_runs(cases.client, f"case/{case.case_id}")))
        assert (derived.acknowledged, len(derived.entries), derived.ended) == (2, 4, False)
        findings, note = verify.compare_with_history(rows(case.entries), derived)
        assert findings == []
        assert "暂缺第3至4条" in note
        assert verify.compare_with_history(rows(case.entries[:1]), derived)[0][0].code == "missing_in_ledger"


async def test_a_case_that_temporal_never_knew_has_no_runs(real_server: WorkflowEnvironment) -> None:
    assert await fetch_runs(real_server.client, "case/nobody") == []

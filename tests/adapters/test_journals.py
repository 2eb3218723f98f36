"""Calls, operations and decryptions stand in chains without gaps, on both databases, whoever writes at once."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, insert, text
from sqlalchemy.exc import DBAPIError

from adapters import migrate
from adapters.database import synchronous
from adapters.decodings import Decoding
from adapters.store import IdempotencyClash, Store
from adapters.tables import DecodingRow, IntakeRow, LedgerRow, OperationRow, TermsRow
from adapters.upkeep import Operation
from domain import audit
from domain.case import CaseId
from domain.journal import Journal
from domain.ports import CaseStart, Contact, Intake
from tests.postgres import PostgresServer
from tests.sample import TERMS, opening

AT = datetime(2026, 3, 4, 1, 2, 3, 456789, tzinfo=UTC)


async def take(store: Store, case_id: str, *, at: datetime = AT, key: str = "") -> None:
    opened = opening(at, case_id=CaseId(case_id), terms=TERMS)
    start = CaseStart(opened=opened, terms=TERMS)
    intake = Intake(start=start, contact=Contact(), key=key, body_digest="")
    await store.take_call(intake, person="town-officer", status=201, body="{}")


def operation(outcome: str, district: str = "sample") -> Operation:
    return Operation(
        operation="a",
        at=AT,
        person="administrator",
        person_name="管理员",
        district=district,
        name="reset",
        arguments={"reason": "升级有误"},
        outcome=outcome,
    )


def decoding(person: str) -> Decoding:
    return Decoding(
        at=AT,
        person=person,
        district="sample",
        namespace="default",
        workflows=("case/sample-20260304-aaaaaa",),
        keys=("k1",),
        payloads=3,
        digest="0" * 64,
    )


async def found(store: Store, journal: Journal) -> list[tuple[str, str, str]]:
    check = await store.check_journal(journal, "sample")
    return [(each.code, each.table, each.row) for each in check.findings]


async def forge(store: Store, *statements: str) -> None:
    """Do what somebody can who owns the database: without the triggers."""
    async with store._database.write() as connection:
        for table in ("journals", "operations", "decodings", "ledger"):
            for change in ("_update", "_delete") if store._database.is_sqlite else ("",):
                on = "" if store._database.is_sqlite else f" ON {table}"
                await connection.execute(text(f"DROP TRIGGER IF EXISTS {table}_append_only{change}{on}"))
        for statement in statements:
            done = await connection.execute(text(statement))
            assert done.rowcount > 0, statement


async def test_calls_taken_at_once_are_numbered_without_gaps_and_each_binds_the_one_before(
    store: Store,
) -> None:
    await asyncio.gather(*(take(store, f"sample-20260304-{number:06}") for number in range(40)))
    check = await store.check_journal(Journal.INTAKE, "sample")
    assert check.findings == []
    assert sorted(check.hashes) == list(range(1, 41))


async def test_a_call_that_was_not_taken_leaves_no_number(store: Store) -> None:
    await take(store, "sample-20260304-aaaaaa", key="once")
    with pytest.raises(IdempotencyClash):
        await take(store, "sample-20260304-bbbbbb", key="once")
    await take(store, "sample-20260304-cccccc", key="twice")
    check = await store.check_journal(Journal.INTAKE, "sample")
    assert (check.findings, sorted(check.hashes)) == ([], [1, 2])


async def test_operations_and_decryptions_written_at_once_are_chained(store: Store) -> None:
    await asyncio.gather(
        *(store.journal(operation(f"done {number}")) for number in range(20)),
        *(store.record_decoding(decoding(f"person {number}")) for number in range(20)),
        store.journal(operation("done", district="other")),
    )
    for journal in (Journal.OPERATIONS, Journal.DECODINGS):
        check = await store.check_journal(journal, "sample")
        assert (check.findings, sorted(check.hashes)) == ([], list(range(1, 21)))
    assert len((await store.check_journal(Journal.OPERATIONS, "other")).hashes) == 1
    assert await store.journaled_districts() == {"sample", "other"}


@pytest.mark.parametrize("change", ["UPDATE journals SET key = 'x'", "DELETE FROM journals"])
async def test_the_database_refuses_to_change_or_forget_a_link(store: Store, change: str) -> None:
    await store.journal(operation("begun"))
    with pytest.raises(DBAPIError, match="append-only"):
        async with store._database.write() as connection:
            await connection.execute(text(change))


FORGERIES = {
    "an operation's outcome": (
        "UPDATE operations SET outcome = 'failed' WHERE id = 2",
        Journal.OPERATIONS,
        ("row_changed", "operations", "第2条(2)"),
    ),
    "an operation backdated": (
        "UPDATE operations SET at = '2025-01-01 00:00:00' WHERE id = 3",
        Journal.OPERATIONS,
        ("row_changed", "operations", "第3条(3)"),
    ),
    "an operation gone": (
        "DELETE FROM operations WHERE id = 1",
        Journal.OPERATIONS,
        ("row_missing", "operations", "第1条(1)"),
    ),
    "an operation of nobody's": (
        """
        INSERT INTO operations (id, operation, at, person, person_name, district, name, arguments, outcome, detail)
        SELECT 99, operation, at, person, person_name, district, name, arguments, outcome, detail
        FROM operations WHERE id = 1
        """,
        Journal.OPERATIONS,
        ("row_added", "operations", "99"),
    ),
    "a decryption by somebody else": (
        "UPDATE decodings SET person = 'nobody' WHERE id = 1",
        Journal.DECODINGS,
        ("row_changed", "decodings", "第1条(1)"),
    ),
    "a decryption gone with its link": (
        "DELETE FROM journals WHERE journal = 'decodings' AND sequence = 2",
        Journal.DECODINGS,
        ("link_missing", "journals", "decodings 第2条"),
    ),
    "the words of a call": (
        "UPDATE intake SET opened = opened || ' ' WHERE case_id = 'sample-20260304-bbbbbb'",
        Journal.INTAKE,
        ("row_changed", "intake", "第2条(sample-20260304-bbbbbb)"),
    ),
    "a call gone": (
        "DELETE FROM intake WHERE case_id = 'sample-20260304-aaaaaa'",
        Journal.INTAKE,
        ("row_missing", "intake", "第1条(sample-20260304-aaaaaa)"),
    ),
    "a call's ledger gone": (
        "DELETE FROM ledger WHERE case_id = 'sample-20260304-bbbbbb'",
        Journal.INTAKE,
        ("case_deleted", "intake", "第2条(sample-20260304-bbbbbb)"),
    ),
    "a ledger that begins with something else": (
        "UPDATE ledger SET hash = 'forged' WHERE case_id = 'sample-20260304-cccccc'",
        Journal.INTAKE,
        ("opening_differs", "intake", "第3条(sample-20260304-cccccc)"),
    ),
    "a link": (
        "UPDATE journals SET at = '2025-01-01 00:00:00' WHERE journal = 'intake' AND sequence = 2",
        Journal.INTAKE,
        ("link_changed", "journals", "intake 第2条"),
    ),
}


@pytest.mark.parametrize("what", FORGERIES)
async def test_whatever_is_forged_in_a_journal_is_named_at_its_row(store: Store, what: str) -> None:
    for letter in "abc":
        await take(store, f"sample-20260304-{letter * 6}")
        await store.journal(operation(f"done {letter}"))
        await store.record_decoding(decoding(letter))
    statement, journal, place = FORGERIES[what]
    assert [await found(store, each) for each in Journal] == [[], [], []]
    await forge(store, statement)
    assert place in await found(store, journal)
    assert [await found(store, each) for each in Journal if each is not journal] == [[], []]


async def test_a_row_backdated_with_its_link_made_to_fit_is_earlier_than_the_one_before(store: Store) -> None:
    await take(store, "sample-20260304-aaaaaa")
    await take(store, "sample-20260304-bbbbbb", at=AT - timedelta(days=3))
    assert ("time_goes_back", "journals", "intake 第2条") in await found(store, Journal.INTAKE)


# --- the migration ------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def old_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database from before there were chains, with rows in every journal."""
    if request.param == "sqlite":
        yield _filled(f"sqlite:///{tmp_path / 'old.db'}")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.empty_database() as url:
        yield _filled(url)


def _filled(url: str) -> str:
    engine = create_engine(synchronous(url))
    with engine.begin() as connection:
        config = migrate._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "0005")
        _fill(connection)
    engine.dispose()
    return url


def _fill(connection: Connection) -> None:
    terms = {"id": "t", "district": "sample", "policy_version": "", "calendar_version": "", "document": "{}"}
    connection.execute(insert(TermsRow), [terms])
    openings = [
        opening(AT + timedelta(minutes=number), case_id=CaseId(case_id), terms=TERMS)
        for number, case_id in enumerate(("sample-20260304-bbbbbb", "sample-20260304-aaaaaa"))
    ]
    for opened in openings:
        connection.execute(
            insert(IntakeRow),
            [
                {
                    "case_id": opened.case_id,
                    "district": "sample",
                    "called_at": opened.at,
                    "opened": opened.model_dump_json(),
                    "terms_id": "t",
                    "contact_name": "",
                    "contact_phone": "",
                    "started_at": None,
                    "next_attempt_at": opened.at,
                    "attempts": 0,
                    "last_error": "",
                }
            ],
        )
        row = {
            "case_id": opened.case_id,
            "sequence": 1,
            "at": opened.at,
            "kind": "called",
            "entry": audit.canonical(opened),
            "hash": opened.hash,
        }
        connection.execute(insert(LedgerRow), [row])
    for number in range(1, 1502):
        line = {name: getattr(operation(f"done {number}"), name) for name in Operation.__slots__}
        connection.execute(insert(OperationRow), [{**line, "arguments": "{}"}])
    for person in ("a", "b"):
        looked = {name: getattr(decoding(person), name) for name in Decoding.__slots__}
        connection.execute(insert(DecodingRow), [{**looked, "workflows": "[]", "keys": "[]"}])


async def test_what_stood_before_is_chained_by_the_migration_and_goes_on_from_there(
    old_database: str,
) -> None:
    migrate.upgrade(old_database)
    store = Store(old_database)
    try:
        counts = {}
        for journal in Journal:
            check = await store.check_journal(journal, "sample")
            assert check.findings == []
            counts[journal] = sorted(check.hashes)
        assert counts == {
            Journal.INTAKE: [1, 2],
            Journal.OPERATIONS: list(range(1, 1502)),
            Journal.DECODINGS: [1, 2],
        }
        await take(store, "sample-20260304-cccccc", at=AT + timedelta(hours=1))
        await store.journal(operation("done"))
        await store.record_decoding(decoding("c"))
        assert [await found(store, each) for each in Journal] == [[], [], []]
        await forge(store, "UPDATE operations SET person = 'nobody' WHERE id = 700")
        assert await found(store, Journal.OPERATIONS) == [("row_changed", "operations", "第700条(700)")]
        await forge(store, "DELETE FROM intake WHERE case_id = 'sample-20260304-bbbbbb'")
        assert await found(store, Journal.INTAKE) == [
            ("row_missing", "intake", "第1条(sample-20260304-bbbbbb)")
        ]
    finally:
        await store.close()

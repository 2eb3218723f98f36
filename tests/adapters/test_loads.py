"""Rights, people, policy and catalogue are held against what was loaded: a change beside the doors is named."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert, literal, select, text

from adapters.sealing import Seal
from adapters.store import Store
from adapters.tables import DistrictRow
from domain.district import District
from domain.journal import Journal
from starter.journal_audit import judge_journals
from tests.conftest import SEAL
from tests.sample import district

NOW = datetime(2026, 3, 4, 1, 0, tzinfo=UTC)


async def found(store: Store, code: str = "sample") -> list[tuple[str, str, str, str]]:
    """Return what is found against a district as it stands."""
    check = await store.check_load(code)
    assert check is not None
    return [(each.code, each.table, each.row, each.field) for each in check.findings]


async def forge(store: Store, statement: str) -> None:
    """Do what somebody can who owns the database."""
    async with store._database.write() as connection:
        if store._database.is_sqlite:
            for change in ("update", "delete"):
                await connection.execute(text(f"DROP TRIGGER IF EXISTS operations_append_only_{change}"))
        else:
            await connection.execute(text("DROP TRIGGER IF EXISTS operations_append_only ON operations"))
        done = await connection.execute(text(statement.replace(":", r"\:")))
        assert done.rowcount > 0, statement


@pytest.fixture
async def loaded(store: Store) -> Store:
    """A store with two districts, the first of which was loaded twice."""
    await store.load_district(district(), NOW)
    await store.load_district(district("other", "o-"), NOW)
    await store.load_district(district(), NOW + timedelta(hours=1))
    return store


async def test_a_district_as_it_was_loaded_is_proven_and_the_load_stands_in_the_journal(
    loaded: Store,
) -> None:
    for code, at in (("sample", NOW + timedelta(hours=1)), ("other", NOW)):
        check = await loaded.check_load(code)
        assert check is not None
        assert (check.findings, check.loaded_at) == ([], at)
    assert await loaded.check_load("elsewhere") is None
    (newest, *_) = await loaded.operations(district="sample", limit=5)
    assert (newest.name, newest.outcome, newest.at) == ("load_district", "done", NOW + timedelta(hours=1))
    assert (await loaded.check_journal(Journal.OPERATIONS, "sample")).findings == []
    assert [each.status for each in await judge_journals(loaded, "sample")] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "UPDATE posts SET role = 'coordinator' WHERE person = 'citizen'",
            {
                ("row_added", "posts", "citizen/coordinator/town", ""),
                ("row_missing", "posts", "citizen/citizen/town", ""),
            },
        ),
        (
            "INSERT INTO posts (person, role, organisation, city, squad) VALUES ('citizen', 'coordinator', 'centre', false, false)",
            {("row_added", "posts", "citizen/coordinator/centre", "")},
        ),
        (
            "UPDATE people SET name = '别人' WHERE id = 'dispatcher'",
            {("column_differs", "people", "dispatcher", "name")},
        ),
        (
            "UPDATE people SET active = false WHERE id = 'dispatcher'",
            {("column_differs", "people", "dispatcher", "active")},
        ),
        (
            "INSERT INTO people (id, district, name, phone, on_duty, active) VALUES ('new', 'sample', '新', '', false, true)",
            {("row_added", "people", "new", "")},
        ),
        (
            "UPDATE districts SET name = '别处' WHERE code = 'sample'",
            {("column_differs", "districts", "sample", "name")},
        ),
        (
            "UPDATE districts SET document = replace(document, '示例', '别的') WHERE code = 'sample'",
            {("column_differs", "districts", "sample", "document")},
        ),
        (
            "UPDATE catalogues SET document = replace(document, '[', '[ ') WHERE district = 'sample'",
            {("column_differs", "catalogues", "sample/VERSION", "document")},
        ),
        (
            "DELETE FROM catalogues WHERE district = 'sample'",
            {("row_missing", "catalogues", "sample/VERSION", "")},
        ),
        (
            "UPDATE catalogues SET version = 'never' WHERE district = 'sample'",
            {
                ("row_missing", "catalogues", "sample/VERSION", ""),
                ("row_added", "catalogues", "sample/never", ""),
            },
        ),
    ],
)
async def test_what_was_changed_since_the_load_is_named(
    loaded: Store, statement: str, expected: set[tuple[str, str, str, str]]
) -> None:
    await forge(loaded, statement)
    version = district().catalogue_version
    assert set(await found(loaded)) == {
        (code, table, row.replace("VERSION", version), column) for code, table, row, column in expected
    }
    assert await found(loaded, "other") == []
    if "catalogues" not in statement:
        await loaded.load_district(district(), NOW + timedelta(hours=2))  # the way back
        assert await found(loaded) == []


async def test_a_load_that_somebody_wrote_into_the_journal_is_none(loaded: Store) -> None:
    await forge(
        loaded,
        'UPDATE operations SET arguments = replace(arguments, \'"document":"\', \'"document":"0\') WHERE id = 3',
    )
    assert await found(loaded) == [
        ("load_unbound", "operations", "编号3", "")
    ]  # the load before says the same
    await forge(loaded, "DELETE FROM operations WHERE district = 'sample'")
    assert await found(loaded) == [("load_unknown", "districts", "sample", "")]


REPEATED = """INSERT INTO operations (id, operation, at, person, person_name, district, name, arguments, outcome, detail)
    SELECT 99, {operation}, (SELECT max(at) FROM operations), person, person_name, district, name, {arguments}, outcome, detail
    FROM operations WHERE id = 1"""


@pytest.mark.parametrize("operation", ["operation", "'another'"])
async def test_an_older_load_that_is_put_in_once_more_gives_no_rights_back(
    store: Store, operation: str
) -> None:
    before, now = district(), district()
    now = now.model_copy(update={"people": now.people[1:]})
    await store.load_district(before, NOW)
    await store.load_district(now, NOW + timedelta(minutes=5))
    await forge(store, REPEATED.format(operation=operation, arguments="arguments"))
    assert await found(store) == [("load_unbound", "operations", "编号99", "")]


async def test_a_load_of_a_strange_key_hides_no_change_that_was_made(loaded: Store) -> None:
    strange = f"replace(arguments, '{SEAL.code('', '').partition(':')[0]}:', 'deadbeef:')"
    await forge(loaded, REPEATED.format(operation="'another'", arguments=strange))
    assert await found(loaded) == [("load_unknown", "districts", "sample", "")]
    await forge(loaded, "UPDATE people SET name = '别人' WHERE id = 'dispatcher'")
    assert ("column_differs", "people", "dispatcher", "name") in await found(loaded)


async def test_a_district_that_nobody_loaded_is_told_with_every_other(loaded: Store) -> None:
    assert await loaded.never_loaded() == []
    async with loaded._database.write() as connection:
        copied = [column for column in DistrictRow.__table__.columns if column.name != "code"]
        other = select(literal("strange"), *copied).where(DistrictRow.code == "other")
        await connection.execute(
            insert(DistrictRow).from_select(["code", *(each.name for each in copied)], other)
        )
    *_, last = await judge_journals(loaded, "sample")
    assert [(each.code, each.row, each.proven) for each in last.findings] == [
        ("load_unknown", "strange", False)
    ]


async def test_a_person_who_is_said_to_be_another_districts_and_is_not_is_named(loaded: Store) -> None:
    await forge(loaded, "UPDATE people SET district = 'other' WHERE id = 'dispatcher'")
    assert ("column_differs", "people", "dispatcher", "district") in await found(loaded)


async def test_a_deleted_district_is_named_and_another_secret_accuses_nobody(database_url: str) -> None:
    ours, strange = Store(database_url, SEAL), Store(database_url, Seal("of another installation"))
    await ours.load_district(district(), NOW)
    await forge(ours, "UPDATE people SET name = '别人' WHERE id = 'dispatcher'")
    check = await strange.check_load("sample")
    assert check is not None
    assert [(each.code, each.proven) for each in check.findings] == [("load_unknown", False)]
    await forge(ours, "DELETE FROM districts WHERE code = 'sample'")
    assert await found(ours) == [("row_missing", "districts", "sample", "")]
    await ours.close()
    await strange.close()


async def test_a_person_whom_another_district_has_loaded_since_is_held_against_that_one(
    loaded: Store,
) -> None:
    ours = district()
    moved: District = district("other", "o-")
    people = (*moved.people, ours.people[0])
    await loaded.load_district(moved.model_copy(update={"people": people}), NOW + timedelta(hours=2))
    assert await found(loaded) == []
    assert await found(loaded, "other") == []


async def test_a_responsibility_list_that_was_loaded_alone_is_bound_as_well(loaded: Store) -> None:
    items = district().items[:1]
    await loaded.load_catalogue("sample", items, "2027", NOW + timedelta(hours=2))
    assert await found(loaded) == []
    await forge(loaded, "UPDATE catalogues SET document = '[]' WHERE version = '2027'")
    assert await found(loaded) == [("column_differs", "catalogues", "sample/2027", "document")]


async def test_a_list_that_somebody_wrote_is_not_taken_up_by_the_next_load(loaded: Store) -> None:
    copied = "INSERT INTO catalogues (district, version, document, loaded_at) SELECT district, 'forged', document, loaded_at FROM catalogues WHERE district = 'sample'"
    await forge(loaded, copied)
    await loaded.load_district(district(), NOW + timedelta(hours=2))
    assert await found(loaded) == [("row_added", "catalogues", "sample/forged", "")]
    await forge(loaded, copied.replace("'forged'", "'next'") + " AND version <> 'forged'")
    await forge(loaded, "UPDATE catalogues SET document = '[]' WHERE version = 'next'")
    await loaded.load_catalogue("sample", district().items, "next", NOW + timedelta(hours=3))
    assert ("column_differs", "catalogues", "sample/next", "document") in await found(loaded)


@pytest.mark.parametrize("number", [-1, 99])
async def test_a_row_that_somebody_wrote_or_took_out_of_the_journal_keeps_no_district_from_being_loaded(
    loaded: Store, number: int
) -> None:
    other = (
        "SELECT X, 'x', at, person, person_name, 'other', 'reset', arguments, outcome, detail FROM operations"
    )
    await forge(loaded, f"INSERT INTO operations {other.replace('X', str(number))} WHERE id = 1")
    await forge(loaded, "DELETE FROM operations WHERE id > 1")
    for hours in (2, 3):
        await loaded.load_district(district(), NOW + timedelta(hours=hours))
    (standing,) = [each for each in await loaded.standing_districts() if each.code == "sample"]
    assert (standing.wrong, standing.loaded_at) == ("", NOW + timedelta(hours=3))

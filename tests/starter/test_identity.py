"""Who asks: what a token is worth, and what is known of people while the database is away."""

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from joserfc import jwt
from joserfc.jwk import OctKey
from sqlalchemy import insert, literal, select
from structlog.testing import capture_logs
from temporalio.testing import WorkflowEnvironment

from adapters.loads import StandingDistrict
from adapters.sealing import Seal
from adapters.store import Store, StoreUnavailable
from adapters.tables import DistrictRow
from domain.errors import Refused
from starter.doctor import _districts
from starter.identity import Directory, DistrictUnbound, TokenInvalid, issue, read
from tests.adapters.test_loads import forge
from tests.conftest import SEAL
from tests.sample import district
from tests.starter.conftest import open_house, serve

SECRET = "a-secret-for-tests-that-is-long-enough-0123"


class AwayStore(Store):
    """A store that can be away."""

    away = False

    async def standing_districts(self) -> list[StandingDistrict]:
        """Return every district, or be away."""
        if self.away:
            raise StoreUnavailable
        return await super().standing_districts()


def signed(**changes: object) -> str:
    """Return a token of ours with other claims."""
    claims = {"iss": "shaodao", "aud": "shaodao", "sub": "town-officer", "exp": 4_000_000_000} | changes
    kept = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode({"alg": "HS256"}, kept, OctKey.import_key(SECRET))


def unsigned() -> str:
    """Return a token that claims to need no signature."""
    parts = ({"alg": "none"}, {"iss": "shaodao", "aud": "shaodao", "sub": "dispatcher", "exp": 4_000_000_000})
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join(encoded) + "."


def test_a_token_stands_for_its_person() -> None:
    assert read(issue("town-officer", secret=SECRET), SECRET) == "town-officer"


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "é.é.é",
        unsigned(),
        issue("town-officer", secret="another-secret-that-is-long-enough-456"),
        issue("town-officer", secret=SECRET, days=-1),
        signed(exp=None),
        signed(sub=None),
        signed(iss="elsewhere"),
        signed(aud="elsewhere"),
        signed(exp="never"),
        issue("town-officer", secret=SECRET)[:-2],
    ],
)
def test_a_token_that_is_not_ours_or_not_whole_or_has_run_out_is_invalid(token: str) -> None:
    with pytest.raises(TokenInvalid):
        read(token, SECRET)


async def test_people_stay_known_while_the_database_is_away(database_url: str) -> None:
    store = AwayStore(database_url, SEAL)
    await store.load_district(district(), datetime.now(UTC))
    directory = Directory(store)
    await directory.refresh()
    store.away = True
    person = await directory.find_person("town-officer")
    assert person is not None
    assert await directory.find_person("nobody") is None
    await store.close()


async def test_with_nobody_known_yet_an_outage_is_no_reason_to_call_people_unknown(database_url: str) -> None:
    store = AwayStore(database_url, SEAL)
    store.away = True
    with pytest.raises(StoreUnavailable):
        await Directory(store).find_person("town-officer")
    await store.close()


async def test_somebody_who_leaves_the_roster_is_unknown_from_then_on(database_url: str) -> None:
    store = Store(database_url, SEAL)
    whole = district()
    await store.load_district(whole, datetime.now(UTC))
    directory = Directory(store)
    assert await directory.find_person("town-officer") is not None
    people = tuple(each for each in whole.people if each.id != "town-officer")
    await store.load_district(whole.model_copy(update={"people": people}), datetime.now(UTC))
    await directory.refresh()
    assert await directory.find_person("town-officer") is None
    await store.close()


# --- rights that somebody writes into the database -----------------------------------------------------------

NOW = datetime(2026, 3, 4, 1, 0, tzinfo=UTC)
PROMOTED = """UPDATE districts SET document = replace(document, '"role":"citizen"', '"role":"coordinator"')
    WHERE code = 'sample'"""


async def refusal(store: Store, person: str) -> str:
    """Return why a process that has just been started lets nobody of this district in."""
    with pytest.raises(DistrictUnbound) as refused:
        await Directory(store).find_person(person)
    assert refused.value.code == "district_unbound"
    return refused.value.detail


def roles(directory: Directory, person: str) -> list[str]:
    """Return as what somebody may act."""
    known = directory.person(person)
    return [post.role.value for post in known.posts] if known else []


@pytest.fixture
async def two(store: Store) -> Store:
    """A store with two districts, loaded."""
    await store.load_district(district(), NOW)
    await store.load_district(district("other", "o-"), NOW)
    return store


async def test_rights_that_somebody_writes_into_a_district_are_nobodys_and_those_of_before_stay(
    two: Store,
) -> None:
    directory = Directory(two)
    await directory.refresh()
    with capture_logs() as logs:
        await forge(two, PROMOTED)
        await directory.refresh()
        await directory.refresh()
        await two.load_district(district(), NOW + timedelta(hours=1))
        await directory.refresh()
    told = [(each["event"], each.get("why"), each.get("last_known_stays")) for each in logs]
    assert told == [("district_unbound", "changed", True), ("district_bound", None, None)]
    assert roles(directory, "citizen") == ["citizen"]


async def test_after_a_restart_the_people_of_a_changed_district_are_refused_and_those_of_others_are_not(
    two: Store,
) -> None:
    await forge(two, PROMOTED)
    assert "shaodao district load" in await refusal(two, "citizen")
    assert "被改动" in await refusal(two, "town-officer")
    directory = Directory(two)
    assert await directory.find_person("o-town-officer") is not None
    assert await directory.find_person("nobody") is None
    assert (directory.district("sample"), directory.item("sample", "water-1")) == (None, None)
    await two.load_district(district(), NOW + timedelta(hours=1))
    assert await directory.find_person("citizen") is not None
    assert roles(directory, "citizen") == ["citizen"]


async def test_a_district_that_nobody_loaded_gives_no_rights(two: Store) -> None:
    forged = district("strange", "s-").model_dump_json()
    async with two._database.write() as connection:
        terms = select(
            literal("strange"), literal("x"), DistrictRow.terms_id, literal(forged), DistrictRow.loaded_at
        )
        columns = ["code", "name", "terms_id", "document", "loaded_at"]
        await connection.execute(
            insert(DistrictRow).from_select(columns, terms.where(DistrictRow.code == "sample"))
        )
    assert "没有有效的装载记录" in await refusal(two, "s-town-officer")
    directory = Directory(two)
    await directory.refresh()
    assert [each.code for each in directory.districts()] == ["other", "sample"]


@pytest.mark.parametrize("document", ["'{'", "'[]'", "''"])
async def test_a_document_that_is_none_concerns_no_other_district_and_its_people_are_told_from_strangers(
    two: Store, document: str
) -> None:
    await forge(two, "UPDATE districts SET document = X WHERE code = 'sample'".replace("X", document))
    await refusal(two, "town-officer")
    assert await Directory(two).find_person("o-town-officer") is not None


async def test_a_district_that_is_deleted_stays_where_it_is_known_and_is_refused_after_a_restart(
    two: Store,
) -> None:
    directory = Directory(two)
    await directory.refresh()
    await forge(two, "DELETE FROM districts WHERE code = 'sample'")
    assert "被删除" in await refusal(two, "town-officer")
    await forge(two, "DELETE FROM operations WHERE district = 'sample'")
    await directory.refresh()
    assert roles(directory, "town-officer")


async def test_a_line_that_somebody_writes_takes_no_load_back_and_gives_no_right(two: Store) -> None:
    now = district()
    fewer = now.model_copy(update={"people": tuple(each for each in now.people if each.id != "dispatcher")})
    await two.load_district(fewer, NOW + timedelta(hours=1))
    async with two._database.write() as connection:
        await connection.exec_driver_sql("CREATE TABLE copies (document TEXT)")
        await connection.exec_driver_sql(
            "INSERT INTO copies SELECT document FROM districts WHERE code = 'sample'"
        )
    copied = """INSERT INTO operations (id, operation, at, person, person_name, district, name, arguments, outcome, detail)
        SELECT {id}, {operation}, {at}, person, person_name, district, name, arguments, outcome, detail
        FROM operations WHERE id = {of}"""
    later = (
        "'2030-01-01 00:00:00.000000'" if two._database.is_sqlite else "timestamptz '2030-01-01 00:00:00Z'"
    )
    for line in (
        {"id": 97, "operation": "operation", "at": "at", "of": 1},  # the old load once more
        {"id": 98, "operation": "'another'", "at": later, "of": 1},  # the same, as the newest
        {"id": 0, "operation": "operation", "at": "at", "of": 3},  # the newest, put before the old one
    ):
        await forge(two, copied.format(**line))
    directory = Directory(two)
    assert await directory.find_person("town-officer") is not None
    assert await directory.find_person("dispatcher") is None
    await two.load_district(now, NOW + timedelta(hours=2))
    await forge(two, "UPDATE districts SET document = (SELECT document FROM copies) WHERE code = 'sample'")
    await refusal(two, "town-officer")


async def test_a_load_under_another_secret_is_refused_and_the_secret_is_named(database_url: str) -> None:
    ours, strange = Store(database_url, SEAL), Store(database_url, Seal("the secret of another installation"))
    await ours.load_district(district(), NOW)
    directory = Directory(ours)
    await directory.refresh()
    await strange.load_district(district(), NOW + timedelta(hours=1))
    assert "SHAODAO_SECRET" in await refusal(ours, "town-officer")
    assert await Directory(strange).find_person("town-officer") is not None
    assert await directory.find_person("town-officer") is not None
    await directory.refresh()
    assert roles(directory, "town-officer")
    for store in (ours, strange):
        await store.close()


async def test_a_list_is_not_loaded_into_a_district_that_somebody_changed(two: Store) -> None:
    await forge(two, PROMOTED)
    with pytest.raises(Refused) as refused:
        await two.load_catalogue("sample", district().items, "sample-2", NOW + timedelta(hours=1))
    assert refused.value.code == "district_unbound"
    await refusal(two, "citizen")


async def test_the_newest_load_counts_though_the_clock_was_set_back(store: Store) -> None:
    whole = district()
    await store.load_district(whole, NOW)
    fewer = whole.model_copy(update={"people": whole.people[1:]})
    await store.load_district(fewer, NOW - timedelta(days=1))
    directory = Directory(store)
    await directory.refresh()
    assert directory.district("sample") == fewer


async def test_a_door_says_why_it_lets_nobody_in_and_operators_are_told_what_to_do(
    real_server: WorkflowEnvironment, store: Store
) -> None:
    async with open_house(real_server, store) as house:
        await forge(store, PROMOTED)
        known = (await house.get("administrator", "/ops/stuck")).json()["items"]
        (told,) = [each for each in known if each["kind"] == "district_unbound"]
        assert "sample" in told["cause"]
        assert "shaodao district load" in told["advice"]
        line = await _districts(store)
        assert (line.ok, "sample:资料在最近一次装载之后被改动" in line.detail) == (False, True)
        doors = replace(house.doors, directory=Directory(store))
        async with serve(doors) as url:
            answer = await house.client.get(f"{url}/api/v1/me", headers=house.headers("citizen"))
            assert (answer.status_code, answer.json()["code"]) == (503, "district_unbound")
            await store.load_district(district(), datetime.now(UTC))
            answer = await house.client.get(f"{url}/api/v1/me", headers=house.headers("citizen"))
            assert [each["role"] for each in answer.json()["posts"]] == ["citizen"]
        assert (await _districts(store)).ok


async def test_an_older_load_that_is_put_back_gives_no_rights_back_and_a_new_load_mends_it(
    two: Store,
) -> None:
    before = district()
    fewer = before.model_copy(
        update={"people": tuple(each for each in before.people if each.id != "dispatcher")}
    )
    async with two._database.write() as connection:
        await connection.exec_driver_sql(
            "CREATE TABLE copies AS SELECT * FROM districts WHERE code = 'sample'"
        )
    await two.load_district(fewer, NOW + timedelta(hours=1))
    running = Directory(two)
    await running.refresh()
    await forge(two, "DELETE FROM operations WHERE id = (SELECT max(id) FROM operations)")
    await forge(two, "UPDATE districts SET document = (SELECT document FROM copies) WHERE code = 'sample'")
    await running.refresh()
    assert running.person("town-officer") is not None
    assert running.person("dispatcher") is None
    assert "更晚的装载记录缺失" in await refusal(two, "town-officer")
    assert not (await _districts(two)).ok
    await two.load_district(fewer, NOW + timedelta(hours=2))
    restarted = Directory(two)
    await restarted.refresh()
    assert restarted.refused() == {}
    assert restarted.person("dispatcher") is None


async def test_a_process_that_knows_a_newer_load_takes_no_older_one_in_even_where_its_link_is_gone_too(
    two: Store,
) -> None:
    before = district()
    fewer = before.model_copy(
        update={"people": tuple(each for each in before.people if each.id != "dispatcher")}
    )
    async with two._database.write() as connection:
        await connection.exec_driver_sql(
            "CREATE TABLE copies AS SELECT * FROM districts WHERE code = 'sample'"
        )
    await two.load_district(fewer, NOW + timedelta(hours=1))
    running = Directory(two)
    await running.refresh()
    async with two._database.write() as connection:
        on = "" if two._database.is_sqlite else " ON journals"
        name = "journals_append_only_delete" if two._database.is_sqlite else "journals_append_only"
        await connection.exec_driver_sql(f"DROP TRIGGER {name}{on}")
    await forge(
        two,
        """DELETE FROM journals WHERE journal = 'operations'
           AND key = (SELECT CAST(max(id) AS TEXT) FROM operations)""",
    )
    await forge(two, "DELETE FROM operations WHERE id = (SELECT max(id) FROM operations)")
    await forge(two, "UPDATE districts SET document = (SELECT document FROM copies) WHERE code = 'sample'")
    await running.refresh()
    assert running.person("town-officer") is not None
    assert running.person("dispatcher") is None


async def test_doctor_tells_of_people_and_posts_that_are_not_what_was_loaded_though_nobody_has_rights_by_them(
    two: Store,
) -> None:
    assert (await _districts(two)).ok
    await forge(two, "UPDATE posts SET role = 'administrator' WHERE person = 'citizen'")
    told = await _districts(two)
    assert (told.ok, "posts citizen/administrator" in told.detail) == (False, True)
    directory = Directory(two)
    await directory.refresh()
    assert roles(directory, "citizen") == ["citizen"]
    await two.load_district(district(), NOW + timedelta(hours=1))
    assert (await _districts(two)).ok

"""An act that waits for Temporal is bound by a code: what somebody writes into the database is told from it."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine, insert, select, update

from adapters import migrate
from adapters.database import synchronous
from adapters.kept_acts import BEFORE_CODES, KeptAct, binding_of, code_of
from adapters.sealing import Binding, Seal
from adapters.store import Store
from adapters.tables import PendingActRow
from domain.case import CaseId
from domain.commands import Cancel
from tests.conftest import SEAL
from tests.postgres import PostgresServer
from tests.sample import TOWN_OFFICER

CASE = CaseId("sample-20260304-aaaaaa")
NOW = datetime(2026, 3, 4, 1, 2, 3, 456789, tzinfo=UTC)
COMMAND = Cancel(by=TOWN_OFFICER, reason="误报", key="u")
KEPT = KeptAct(
    case_id=CASE,
    act="cancel",
    command=COMMAND.model_dump_json(),
    update_id="u",
    person="town-officer",
    accepted_at=NOW,
)


async def kept(store: Store) -> None:
    """Let the store keep the act, as the door does."""
    await store.defer_act(
        CASE, "cancel", KEPT.command, update_id=KEPT.update_id, person=KEPT.person, at=KEPT.accepted_at
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(KEPT, case_id="sample-20260304-bbbbbb"),
        replace(KEPT, act="sign"),
        replace(KEPT, command=KEPT.command.replace("误报", "重复")),
        replace(KEPT, command="[]"),
        replace(KEPT, command="{"),
        replace(KEPT, update_id="v"),
        replace(KEPT, person="citizen"),
        replace(KEPT, accepted_at=NOW + timedelta(microseconds=1)),
    ],
)
def test_the_code_binds_everything_that_the_relay_goes_by(other: KeptAct) -> None:
    code = code_of(KEPT, SEAL)
    assert binding_of(KEPT, code, SEAL) is Binding.BOUND
    assert binding_of(other, code, SEAL) is Binding.UNBOUND


def test_an_act_bound_by_another_secret_is_told_from_a_forged_one() -> None:
    code = code_of(KEPT, Seal("another secret, of another installation"))
    assert binding_of(KEPT, code, SEAL) is Binding.OTHER_KEY
    for forged in (None, "", "码", "f" * 64, code_of(KEPT, SEAL)[:-1]):
        assert binding_of(KEPT, forged, SEAL) is Binding.UNBOUND


async def test_an_act_comes_back_bound_and_one_that_was_written_or_changed_beside_us_does_not(
    store: Store,
) -> None:
    await kept(store)
    (pending,) = await store.unsettled(NOW, 10)
    assert (pending.bound, pending.command) == (True, COMMAND.model_dump(mode="json"))
    forged = {
        **asdict(KEPT),
        "update_id": "forged",
        "next_attempt_at": NOW,
        "outcome": "",
        "attempts": 0,
        "last_error": "",
    }
    async with store._database.write() as connection:
        await connection.execute(insert(PendingActRow), [forged])
    assert [each.bound for each in await store.unsettled(NOW, 10)] == [True, False]
    assert [each.update_id for each in await store.pending_of(CASE)] == ["u"]
    async with store._database.write() as connection:
        await connection.execute(update(PendingActRow).values(person="citizen"))
    assert [each.bound for each in await store.unsettled(NOW, 10)] == [False, False]
    assert await store.pending_of(CASE) == []


async def test_a_store_without_the_secret_neither_binds_nor_finds_anything_bound(database_url: str) -> None:
    ours, strange = Store(database_url, SEAL), Store(database_url)
    await kept(strange)
    assert [each.bound for each in await ours.unsettled(NOW, 10)] == [False]
    async with ours._database.write() as connection:
        await connection.execute(update(PendingActRow).values(mac=code_of(KEPT, SEAL)))
    assert [each.bound for each in await ours.unsettled(NOW, 10)] == [True]
    assert [(each.bound, each.other_key) for each in await strange.unsettled(NOW, 10)] == [(False, True)]
    await ours.close()
    await strange.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_before_codes(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of the version before codes, of each kind."""
    if request.param == "sqlite":
        yield _before_codes(f"sqlite:///{tmp_path / 'old.db'}")
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    with server.empty_database() as url:
        yield _before_codes(url)


def _before_codes(url: str) -> str:
    config = migrate._config()
    engine = create_engine(synchronous(url))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0008")
        for number, settled in ((1, NOW), (2, None)):
            row = {**asdict(KEPT), "update_id": str(number), "settled_at": settled}
            row |= {"next_attempt_at": NOW, "outcome": "done" if settled else "", "attempts": 0}
            connection.execute(insert(PendingActRow), [{**row, "last_error": ""}])
    engine.dispose()
    return url


async def test_the_migration_adopts_no_act_that_waits_and_operators_are_told_of_it(
    database_before_codes: str,
) -> None:
    migrate.upgrade(database_before_codes)
    store = Store(database_before_codes, SEAL)
    assert await store.unsettled(datetime.now(UTC), 10) == []
    async with store._database.read() as connection:
        rows = (await connection.execute(select(PendingActRow).order_by(PendingActRow.id))).all()
    assert [(row.outcome, row.mac) for row in rows] == [("done", None), (BEFORE_CODES, None)]
    (told,) = await store.stuck(datetime.now(UTC), district=None, limit=10)
    assert (told.subject, told.id, told.what) == (BEFORE_CODES, rows[1].id, "cancel")
    assert await store.stuck(datetime.now(UTC) + timedelta(days=31), district=None, limit=10) == []
    await store.close()

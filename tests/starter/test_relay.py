"""What was acknowledged reaches the workflow later, one case's trouble being no other's; and keys hold meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Row, insert, select, update
from temporalio.testing import WorkflowEnvironment

from adapters.kept_acts import code_of, kept_act
from adapters.sealing import Seal
from adapters.store import Store
from adapters.tables import PendingActRow
from domain.case import Actor, CaseId, OrganisationCode
from domain.commands import AnyCommand, Dispatch, Sign
from starter.api import Doors
from starter.auditor import verify_cases
from starter.case_client import CaseClient
from starter.identity import Directory
from starter.relay import Relay
from tests.conftest import SEAL
from tests.postgres import postgres_server
from tests.starter.conftest import House, open_house, serve
from tests.starter.test_api import problem


@pytest.fixture
async def hasty(real_server: WorkflowEnvironment, sqlite_store: Store) -> AsyncIterator[House]:
    """The product, waiting for Temporal no longer than a moment."""
    async with open_house(real_server, sqlite_store, within=1.5) as house:
        yield house


def actor(house: House, person: str) -> Actor:
    """Return somebody of the sample district."""
    found = house.doors.directory.person(person)
    assert found is not None
    return found.actor()


async def defer(house: House, case_id: str, command: AnyCommand) -> int:
    """Commit an act as the door does while Temporal is away; return its number."""
    await house.store.defer_act(
        CaseId(case_id),
        command.act.value,
        command.model_dump_json(),
        update_id=command.key,
        person=command.by.id,
        at=datetime.now(UTC),
    )
    return (await house.store.pending_of(CaseId(case_id)))[-1].id


async def stage(house: House, case_id: str) -> str:
    """Return the case's stage as the store has it."""
    state = await house.store.case(CaseId(case_id))
    assert state is not None
    return state.stage.value


async def test_an_act_that_cannot_get_through_holds_up_no_other_case(hasty: House) -> None:
    house, cases = hasty, hasty.doors.cases
    queue, cases._task_queue = cases._task_queue, "where-nobody-works"
    stuck = await house.call()
    await house.until_started(stuck)
    cases._task_queue = queue
    free = await house.call()
    for case_id in (stuck, free):
        by = actor(house, "dispatcher")
        await defer(house, case_id, Dispatch(by=by, key=case_id, lead=OrganisationCode("ecology")))

    async def dispatched() -> bool:
        return await stage(house, free) == "dispatched"

    await house.until(dispatched)
    assert await stage(house, stuck) == "called"
    assert len(await house.store.pending_of(CaseId(stuck))) == 1
    await cases.client.get_workflow_handle(f"case/{stuck}").terminate()


async def test_acts_on_one_case_keep_their_order_while_they_wait(hasty: House) -> None:
    house = hasty
    case_id = await house.call()
    await house.dispatch(case_id, "ecology", "police")
    await house.stop_worker()  # nothing is taken meanwhile
    for department in ("ecology", "police"):
        by = actor(house, f"{department}-officer")
        sign = Sign(by=by, key=f"sign-{department}", department=OrganisationCode(department))
        number = await defer(house, case_id, sign)
        if department == "ecology":
            await house.store.act_failed(number, "away", datetime.now(UTC) + timedelta(seconds=4))
    await house.start_worker()
    rounds = Relay(house.store, house.doors.cases, house.doors.directory)
    await rounds.repeat_acts()
    assert len(await house.store.pending_of(CaseId(case_id))) == 2

    async def signed() -> bool:
        return await stage(house, case_id) == "signed"

    await house.until(signed)
    timeline = await house.store.timeline(CaseId(case_id))
    assert [line.actor for line in timeline][-2:] == ["ecology-officer", "police-officer"]


async def test_two_doors_that_repeat_one_act_do_it_once_and_refuse_nobody(hasty: House) -> None:
    house = hasty
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    other = Relay(house.store, house.doors.cases, house.doors.directory)
    sign = Sign(by=actor(house, "ecology-officer"), key="sign", department=OrganisationCode("ecology"))
    await defer(house, case_id, sign)
    house.doors.relay.kick()
    await asyncio.gather(*(other.repeat_acts() for _ in range(3)))

    async def settled() -> bool:
        return not await house.store.pending_of(CaseId(case_id))

    await house.until(settled)
    assert [line.kind for line in await house.store.timeline(CaseId(case_id))] == [
        "called",
        "dispatched",
        "signed",
    ]
    told = (await house.get("ecology-officer", "/inbox")).json()["items"]
    assert [each["title"] for each in told] == ["新派单待签收"]


async def insert_act(house: House, case_id: str, **columns: Any) -> None:
    """Write a row beside the doors, as somebody can who owns the database: a sign-for by the ecology bureau."""
    sign = Sign(by=actor(house, "ecology-officer"), key="forged", department=OrganisationCode("ecology"))
    row = {
        "case_id": case_id,
        "act": "sign",
        "command": sign.model_dump_json(),
        "update_id": sign.key,
        "person": sign.by.id,
        "accepted_at": datetime.now(UTC) - timedelta(minutes=5),
        "next_attempt_at": datetime.now(UTC),
        "outcome": "",
        "attempts": 0,
        "last_error": "",
    }
    async with house.store._database.write() as connection:
        await connection.execute(insert(PendingActRow), [row | columns])


async def row_of(house: House, update_id: str) -> Row[Any]:
    """Return the kept act as it stands."""
    async with house.store._database.read() as connection:
        query = select(PendingActRow).where(PendingActRow.update_id == update_id)
        return (await connection.execute(query)).one()


async def recorded(house: House, case_id: str) -> bool:
    """Whether the ledger holds everything that the case has decided."""
    handle = house.doors.cases.client.get_workflow_handle(f"case/{case_id}")
    left: int = await handle.query("unrecorded")
    return left == 0


async def kinds(house: House, case_id: str) -> list[str]:
    """Return what the timeline has."""
    return [line.kind for line in await house.store.timeline(CaseId(case_id))]


async def test_an_act_that_somebody_wrote_into_the_database_is_never_carried_out_and_is_told_to_everybody(
    either_house: House,
) -> None:
    house = either_house
    case_id = await house.call()
    await house.dispatch(case_id, "ecology", "police")
    await insert_act(house, case_id)

    async def settled() -> bool:
        return (await row_of(house, "forged")).settled_at is not None

    await house.until(settled)
    assert (await row_of(house, "forged")).outcome == "act_unbound"
    # One that is copied from a genuine act, with its code, is none either.
    await house.stop_worker()
    police = Sign(by=actor(house, "police-officer"), key="true", department=OrganisationCode("police"))
    await defer(house, case_id, police)
    code = (await row_of(house, "true")).mac
    await insert_act(house, case_id, update_id="copied", mac=code)
    await house.start_worker()

    async def both_settled() -> bool:
        rows = [await row_of(house, each) for each in ("true", "copied")]
        return all(row.settled_at is not None for row in rows)

    await house.until(both_settled)
    assert [(await row_of(house, each)).outcome for each in ("true", "copied")] == ["done", "act_unbound"]
    assert await kinds(house, case_id) == ["called", "dispatched", "signed"]
    timeline = await house.store.timeline(CaseId(case_id))
    assert timeline[-1].actor == "police-officer"
    told = (await house.get("administrator", "/ops/stuck")).json()["items"]
    assert [each["kind"] for each in told if each["case_id"] == case_id] == ["act_unbound", "act_unbound"]
    assert "没有有效的认证码,未予办理:签收" in told[0]["cause"]
    inbox = (await house.get("ecology-officer", "/inbox")).json()["items"]
    assert "以您名义的操作未予办理" in [each["title"] for each in inbox]
    ((_, judged),) = await verify_cases(house.store, house.doors.cases.client, [CaseId(case_id)])
    wrong = [each for verdict in judged for each in verdict.findings]
    assert [(each.code, each.table, each.field, each.proven) for each in wrong] == [
        ("act_unbound", "pending_acts", "mac", True)
    ] * 2


async def test_an_act_that_waited_and_that_somebody_marked_as_carried_out_is_named(
    either_house: House,
) -> None:
    house = either_house
    case_id = await house.call()
    await house.dispatch(case_id, "ecology", "police")
    police = Sign(by=actor(house, "police-officer"), key="true", department=OrganisationCode("police"))
    await defer(house, case_id, police)
    house.doors.relay.kick()

    async def settled() -> bool:
        return (await row_of(house, "true")).settled_at is not None

    await house.until(settled)

    async def judged() -> list[tuple[str, str, str, bool]]:
        await house.until(lambda: recorded(house, case_id))
        ((_, verdicts),) = await verify_cases(house.store, house.doors.cases.client, [CaseId(case_id)])
        wrong = [each for verdict in verdicts for each in verdict.findings]
        return [(each.code, each.row, each.field, each.proven) for each in wrong]

    assert await judged() == []
    vanished = Sign(by=actor(house, "ecology-officer"), key="marked", department=OrganisationCode("ecology"))
    kept = replace(
        kept_act(await row_of(house, "true")),
        command=vanished.model_dump_json(),
        update_id="marked",
        person="ecology-officer",
    )
    done: dict[str, Any] = {"settled_at": datetime.now(UTC), "outcome": "done", "mac": code_of(kept, SEAL)}
    await insert_act(house, **asdict(kept), **done)
    place = f"编号{(await row_of(house, 'marked')).id}"
    assert await judged() == [("act_vanished", place, "outcome", True)]
    for hidden in ({"mac": None}, {"outcome": "x"}):
        async with house.store._database.write() as connection:
            marked = update(PendingActRow).where(PendingActRow.update_id == "marked")
            await connection.execute(marked.values(hidden))
        assert await judged() == [("act_vanished", place, "outcome", True)]


async def test_an_act_bound_by_another_secret_waits_for_that_secret_and_holds_up_no_other(
    house: House,
) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology", "police")
    strange = Seal("the secret of a worker that was set up otherwise")
    await insert_act(house, case_id, mac="")  # for its columns
    row = await row_of(house, "forged")
    kept = replace(kept_act(row), update_id="strange")
    await insert_act(house, **asdict(kept), mac=code_of(kept, strange))
    police = Sign(by=actor(house, "police-officer"), key="true", department=OrganisationCode("police"))
    await defer(house, case_id, police)

    async def done() -> bool:
        return bool((await row_of(house, "true")).outcome == "done")

    await house.until(done)

    async def tried() -> bool:
        return bool((await row_of(house, "strange")).attempts > 0)

    await house.until(tried)
    row = await row_of(house, "strange")
    assert (row.settled_at, row.last_error) == (None, "act_other_key")
    told = (await house.get("administrator", "/ops/stuck", case_id=case_id)).json()["items"]
    assert "act_other_key" in [each["kind"] for each in told]
    ((_, judged),) = await verify_cases(house.store, house.doors.cases.client, [CaseId(case_id)])
    found = {(each.code, each.proven) for verdict in judged for each in verdict.findings}
    assert ("act_other_key", False) in found
    assert await kinds(house, case_id) == ["called", "dispatched", "signed"]


async def test_a_key_holds_for_an_act_that_waits(hasty: House) -> None:
    house = hasty
    first, second = await house.call(), await house.call()
    for case_id in (first, second):
        await house.dispatch(case_id, "ecology")
    await house.stop_worker()
    taken = await house.post("ecology-officer", f"/cases/{first}/sign", {}, key="k")
    assert taken.status_code == 202
    assert taken.headers["location"] == f"/api/v1/cases/{first}"
    again = await house.post("ecology-officer", f"/cases/{first}/sign", {}, key="k")
    assert (again.status_code, len(again.json()["pending_acts"])) == (202, 1)
    for path, body in (
        (f"/cases/{first}/sign", {"department": "ecology"}),
        (f"/cases/{second}/sign", {}),
    ):
        response = await house.post("ecology-officer", path, body, key="k")
        assert problem(response, 422) == "idempotency_key_reused"
    assert await house.store.pending_of(CaseId(second)) == []
    await house.start_worker()


async def test_with_the_database_down_a_case_that_is_over_says_so_and_strangers_are_not_called_strangers(
    real_server: WorkflowEnvironment,
) -> None:
    with postgres_server() as postgres, postgres.database() as url:
        store = Store(url, SEAL)
        async with open_house(real_server, store) as house:
            case_id = await house.call()
            await house.do("town-officer", case_id, "cancel", reason="误报")
            postgres.stop()
            response = await house.post("dispatcher", f"/cases/{case_id}/dispatch", {"lead": "ecology"})
            assert problem(response, 409) == "case_over"
            response = await house.get("nobody", "/me")
            assert problem(response, 401) == "unauthenticated"
            fresh = Directory(store)
            doors = Doors(house.doors.settings, store, house.doors.cases, fresh, house.doors.relay)
            async with serve(doors) as other_url:
                response = await house.client.get(
                    f"{other_url}/api/v1/me", headers=house.headers("dispatcher")
                )
                assert problem(response, 503) == "store_unavailable"
                assert response.headers["retry-after"]
            postgres.start()
        await store.close()


async def test_a_temporal_that_does_not_know_our_namespace_is_away_and_not_a_case_that_is_over(
    house: House, real_server: WorkflowEnvironment
) -> None:
    client = house.doors.cases.client
    config = client.config()
    config["namespace"] = "elsewhere"
    strange = CaseClient(type(client)(**config), within=3)
    doors = Doors(
        house.doors.settings,
        house.store,
        strange,
        house.doors.directory,
        Relay(house.store, strange, house.doors.directory),
    )
    async with serve(doors) as url:
        case_id = await house.call()
        response = await house.client.post(
            f"{url}/api/v1/cases/{case_id}/dispatch",
            json={"lead": "ecology"},
            headers=house.headers("dispatcher"),
        )
        assert response.status_code == 202, response.text
        assert response.json()["pending_acts"][0]["act"] == "dispatch"

    async def dispatched() -> bool:
        return await stage(house, case_id) == "dispatched"

    await house.until(dispatched)

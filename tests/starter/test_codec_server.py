"""The codec server: who may decrypt what, from which page, and the entry that every decryption leaves."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import WorkflowEnvironment

from adapters.codec import is_encrypted
from adapters.store import Store
from domain.case import Role
from starter.codec_routes import COOKIE, digest_of, may_decode
from starter.identity import issue
from tests.payloads import bare, encrypted, fresh_key, key_id, payloads_of, raw
from tests.sample import person
from tests.starter.conftest import CALL, SECRET, House, open_house
from workflows import names

UI = "http://127.0.0.1:8233"
KEY = fresh_key()
TEXTS = (CALL["title"], CALL["description"], CALL["location"]["address"], "王示例", "town-officer", "张三丰")


@pytest.fixture
async def sealed_house(real_server: WorkflowEnvironment, store: Store) -> AsyncIterator[House]:
    """The product with encryption on, on each kind of database."""
    async with open_house(await encrypted(real_server, KEY), store) as house:
        yield house


@pytest.fixture
async def ui_house(real_server: WorkflowEnvironment, sqlite_store: Store) -> AsyncIterator[House]:
    """The product with encryption on, and the address of a Temporal UI."""
    async with open_house(
        await encrypted(real_server, KEY), sqlite_store, temporal_ui_url=f"{UI}/namespaces"
    ) as house:
        yield house


async def sealed(house: House, server: WorkflowEnvironment, case_id: str) -> list[Payload]:
    """Return what Temporal keeps of a case, once it is there."""
    await house.until_started(case_id)
    history = await (await bare(server)).get_workflow_handle(f"case/{case_id}").fetch_history()
    return [payload for event in history.events for payload in payloads_of(event) if is_encrypted(payload)]


async def decode(
    house: House, payloads: list[Payload], who: str | None = "auditor", **headers: str
) -> httpx2.Response:
    """Ask for these as the Temporal UI does."""
    bearer = house.headers(who) if who else {}
    return await house.client.post(
        "/codec/decode?preserveStorageRefs=true",
        content=json_format.MessageToJson(Payloads(payloads=payloads)),
        headers={"Content-Type": "application/json", "X-Namespace": "default", **bearer, **headers},
    )


def texts(response: httpx2.Response) -> str:
    """Return what the answer's payloads say."""
    answer = json_format.Parse(response.text, Payloads())
    return "\n".join(payload.data.decode() for payload in answer.payloads)


async def entries(house: House) -> list[dict[str, Any]]:
    """Return the record of decryptions."""
    response = await house.get("auditor", "/codec/decodings")
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["items"]
    return found


# --- what Temporal keeps -----------------------------------------------------------------------------------


async def test_temporal_keeps_nothing_that_people_wrote_and_operators_still_search(
    real_server: WorkflowEnvironment, sqlite_store: Store
) -> None:
    ours = await all_that_temporal_keeps(await encrypted(real_server, KEY), sqlite_store, "key-of-the-first")
    unencrypted = await all_that_temporal_keeps(real_server, sqlite_store, "key-of-the-second")
    for text in TEXTS:
        assert text.encode() not in ours, text
    for text in TEXTS[:-1]:  # the caller's name never enters Temporal, encrypted or not
        assert text.encode() in unencrypted, text
    assert b"key-of-the" not in ours


async def all_that_temporal_keeps(server: WorkflowEnvironment, store: Store, key: str) -> bytes:
    """Play a case to its end; return its history and description as they lie in Temporal's database."""
    async with open_house(server, store) as house:
        case_id = (await house.post("town-officer", "/cases", CALL, key=key)).json()["case_id"]
        await house.until_done(case_id, "ecology")
        await house.rate(case_id, "ecology")
        await _ended(house, case_id)
    handle = (await bare(server)).get_workflow_handle(f"case/{case_id}")
    description = await handle.describe()
    assert description.typed_search_attributes[names.STAGE] == "closed"
    assert description.typed_search_attributes[names.TOWNSHIP] == "town"
    assert description.typed_search_attributes[names.CASE_LABEL].endswith("已办结")
    return raw(await handle.fetch_history()) + description.raw_description.SerializeToString()


async def _ended(house: House, case_id: str) -> None:
    """Wait until the workflow has ended, so that its result is in the history too."""

    async def ended() -> bool:
        handle = house.doors.cases.client.get_workflow_handle(f"case/{case_id}")
        return (await handle.describe()).status is WorkflowExecutionStatus.COMPLETED

    await house.until(ended)


# --- who may -----------------------------------------------------------------------------------------------


async def test_an_auditor_reads_a_case_and_leaves_an_entry(
    sealed_house: House, real_server: WorkflowEnvironment
) -> None:
    case_id = await sealed_house.call()
    await sealed_house.dispatch(case_id, "ecology")
    payloads = await sealed(sealed_house, real_server, case_id)
    response = await decode(sealed_house, payloads)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in response.headers
    assert CALL["description"] in texts(response)
    assert "设定时的下一时限" in texts(response)
    (entry,) = await entries(sealed_house)
    assert entry["person"] == "auditor"
    assert entry["workflows"] == [f"case/{case_id}"]
    assert entry["keys"] == [key_id(KEY)]
    assert entry["namespace"] == "default"
    assert entry["payloads"] == len(payloads)
    assert entry["digest"] == digest_of(payloads)


@pytest.mark.parametrize("who", ["town-officer", "ecology-officer", "dispatcher", "leader", "coordinator"])
async def test_nobody_else_decrypts_and_a_refusal_leaves_no_entry(
    ui_house: House, real_server: WorkflowEnvironment, who: str
) -> None:
    case_id = await ui_house.call()
    payloads = await sealed(ui_house, real_server, case_id)
    response = await decode(ui_house, payloads, who)
    assert (response.status_code, response.json()["code"]) == (403, "may_not_decode")
    response = await decode(ui_house, payloads, None)
    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert await entries(ui_house) == []
    response = await ui_house.get(who, "/codec/decodings")
    assert (response.status_code, response.json()["code"]) == (403, "role_may_not")


def test_a_districts_auditor_sees_the_district_and_a_citys_everything() -> None:
    ours, theirs = "case/sample-20260304-aaaaaa", "case/other-20260304-aaaaaa"
    auditor = person("a", Role.AUDITOR, "platform")
    assert may_decode(auditor, [ours, "notices/sample"])
    assert not may_decode(auditor, [ours, theirs])
    assert not may_decode(auditor, [""])
    assert may_decode(auditor, ["archive", "reconcile-2026-11-24T11:03:00Z", "archive/operator"])
    assert not may_decode(auditor, ["archive-of-others"])
    city = person("c", Role.AUDITOR, "city")
    assert city.posts[0].city
    assert may_decode(city, [ours, theirs, ""])
    assert not may_decode(person("l", Role.LEADER, "city"), [ours])


async def test_a_payload_that_claims_another_case_is_not_decrypted(
    sealed_house: House, real_server: WorkflowEnvironment
) -> None:
    case_id = await sealed_house.call()
    stolen = (await sealed(sealed_house, real_server, case_id))[0]
    stolen.metadata["workflow-id"] = b"case/sample-20260304-bbbbbb"
    response = await decode(sealed_house, [stolen])
    assert (response.status_code, response.json()["code"]) == (422, "payload_altered")
    stolen.metadata["key-id"] = b"another"
    response = await decode(sealed_house, [stolen])
    assert (response.status_code, response.json()["code"]) == (422, "payload_key_missing")
    assert len(await entries(sealed_house)) == 2


async def test_what_was_never_encrypted_comes_back_as_it_is(sealed_house: House) -> None:
    payload = Payload(metadata={"encoding": b"json/plain"}, data=b'"x"')
    response = await decode(sealed_house, [payload])
    assert response.status_code == 200
    assert texts(response) == '"x"'
    assert await entries(sealed_house) == []


@pytest.mark.parametrize(
    "content", ["", "x", '{"payloads": 1}', "\x00", '{"payloads": [{"data": 1}]}', "[" * 100_000]
)
async def test_what_is_no_payloads_is_refused(house: House, content: str) -> None:
    response = await house.client.post("/codec/decode", content=content, headers=house.headers("auditor"))
    assert (response.status_code, response.json()["code"]) == (400, "malformed_json")


async def test_there_is_no_way_to_encode(house: House) -> None:
    response = await house.client.post(
        "/codec/encode", json={"payloads": []}, headers=house.headers("administrator")
    )
    assert response.status_code == 404


async def test_when_no_entry_can_be_written_nothing_is_decrypted(real_server: WorkflowEnvironment) -> None:
    from tests.postgres import postgres_server

    with postgres_server() as postgres, postgres.database() as url:
        store = Store(url)
        async with open_house(await encrypted(real_server, KEY), store) as house:
            case_id = await house.call()
            payloads = await sealed(house, real_server, case_id)
            assert (await decode(house, payloads)).status_code == 200
            postgres.stop()
            response = await decode(house, payloads)
            assert (response.status_code, response.json()["code"]) == (503, "store_unavailable")
            assert CALL["description"] not in response.text
            postgres.start()
        await store.close()


# --- from the Temporal UI ----------------------------------------------------------------------------------


async def log_in(house: House, who: str) -> httpx2.Response:
    """Log in as the page's form does."""
    return await house.client.post(
        "/codec/login", content=f"token={issue(who, secret=SECRET)}", follow_redirects=False
    )


async def test_only_the_temporal_uis_address_may_ask_across_origins(ui_house: House) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type,x-namespace",
    }
    preflight = await ui_house.client.options("/codec/decode", headers={"Origin": UI, **asked})
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == UI
    assert preflight.headers["access-control-allow-credentials"] == "true"
    for origin in ("http://127.0.0.1:9999", "https://127.0.0.1:8233", "null", "http://evil.example"):
        preflight = await ui_house.client.options("/codec/decode", headers={"Origin": origin, **asked})
        assert preflight.status_code == 400
        assert "access-control-allow-origin" not in preflight.headers
    answer = await decode(ui_house, [], Origin=UI)
    assert answer.headers["access-control-allow-origin"] == UI
    refused = await decode(ui_house, [], None, Origin=UI)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, UI)
    for path in ("/codec/login", "/api/v1/me"):
        elsewhere = await ui_house.client.get(path, headers={"Origin": UI})
        assert "access-control-allow-origin" not in elsewhere.headers


async def test_the_home_page_leads_to_the_login_and_the_login_to_every_step_in_the_temporal_ui(
    ui_house: House,
) -> None:
    home = (await ui_house.client.get("/")).text
    assert '<a href="/codec/login">' in home
    login = (await ui_house.client.get("/codec/login")).text
    for words in (
        f'href="{UI}',
        "眼镜图标",
        "Use my browser setting",
        "/codec</code>",
        "Include cross-origin",
    ):
        assert words in login


async def test_a_session_decrypts_from_the_uis_address_and_from_no_other(
    ui_house: House, real_server: WorkflowEnvironment
) -> None:
    case_id = await ui_house.call()
    payloads = await sealed(ui_house, real_server, case_id)
    response = await log_in(ui_house, "administrator")
    assert response.status_code == 303
    written = response.headers["set-cookie"]
    for words in ("HttpOnly", "Path=/codec", "SameSite=strict"):
        assert words in written
    cookie = {"Cookie": written.partition(";")[0]}
    assert "已登录:administrator" in (await ui_house.client.get("/codec/login", headers=cookie)).text
    allowed = await decode(ui_house, payloads, None, Origin=UI, **cookie)
    assert allowed.status_code == 200
    assert CALL["description"] in texts(allowed)
    for origin in ({}, {"Origin": "http://127.0.0.1:9999"}):
        refused = await decode(ui_house, payloads, None, **origin, **cookie)
        assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    (entry,) = await entries(ui_house)
    assert entry["person"] == "administrator"


async def test_a_session_is_no_token_and_a_token_no_session(ui_house: House) -> None:
    response = await log_in(ui_house, "auditor")
    session = response.headers["set-cookie"].partition(";")[0].partition("=")[2]
    as_token = await ui_house.client.get("/api/v1/me", headers={"Authorization": f"Bearer {session}"})
    assert as_token.status_code == 401
    token = issue("auditor", secret=SECRET)
    as_session = await decode(ui_house, [], None, Origin=UI, Cookie=f"{COOKIE}={token}")
    assert as_session.status_code == 401


async def test_whoever_may_not_decrypt_gets_no_session_and_leaving_ends_it(ui_house: House) -> None:
    for who, status, told in (("town-officer", 403, "您的岗位不能解密"), ("nobody", 401, "令牌无效")):
        refused = await log_in(ui_house, who)
        assert (refused.status_code, told in refused.text) == (status, True)
        assert "set-cookie" not in refused.headers
    foreign = await ui_house.client.post(
        "/codec/login", content="token=x", headers={"Sec-Fetch-Site": "cross-site"}
    )
    assert (foreign.status_code, foreign.json()["code"]) == (403, "foreign_form")
    left = await ui_house.client.post("/codec/login", content="leave=1", follow_redirects=False)
    assert 'shaodao_codec=""' in left.headers["set-cookie"]


async def test_an_answer_is_what_the_remote_codec_protocol_says(
    ui_house: House, real_server: WorkflowEnvironment
) -> None:
    case_id = await ui_house.call()
    payloads = await sealed(ui_house, real_server, case_id)
    answer = json.loads((await decode(ui_house, payloads)).text)
    assert len(answer["payloads"]) == len(payloads)
    assert all(set(each) == {"metadata", "data"} for each in answer["payloads"])

"""The HTTP door, over real HTTP, with a real Temporal server and a real database behind it."""

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import text
from temporalio.testing import WorkflowEnvironment

from adapters.queries import CaseQuery
from adapters.store import Store
from domain.access import Sight
from domain.case import CaseId
from domain.commands import Act
from starter.api import PUBLIC
from starter.identity import issue
from starter.views import case_view
from tests.sample import DISPATCHER, POLICY, district, limit
from tests.starter.conftest import CALL, SECRET, House, open_house


def problem(response: httpx2.Response, status: int) -> str:
    """Return the code of a problem, having looked at its form."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert re.search("[\u4e00-\u9fff]", body["detail"]), body
    assert not re.search("[A-Z][a-z]+ should|Traceback", body["detail"]), body
    return str(body["code"])


async def test_the_whole_path_goes_over_http_to_closure(either_house: House) -> None:
    house = either_house
    case_id = await house.call()
    await house.until_done(case_id)
    case = await house.rate(case_id)
    assert case["stage"] == "closed"
    assert case["allowed_acts"] == []
    timeline = (await house.get("town-officer", f"/cases/{case_id}/timeline")).json()["items"]
    assert [line["sequence"] for line in timeline] == list(range(1, len(timeline) + 1))
    assert timeline[-1]["text"] == "办结"
    ledger = (await house.get("auditor", f"/cases/{case_id}/audit")).json()
    assert ledger["chain_whole"]
    assert ledger["head"] == ledger["entries"][-1]["hash"]
    assert len(ledger["entries"]) == len(timeline)
    assert case["sequence"] == len(timeline)
    await house.until(lambda: _completed(house, case_id))


async def _completed(house: House, case_id: str) -> bool:
    handle = house.doors.cases.client.get_workflow_handle(f"case/{case_id}")
    status = (await handle.describe()).status
    return status is not None and status.name == "COMPLETED"


async def test_every_answer_tells_the_reader_what_this_reader_may_do_now(house: House) -> None:
    case_id = await house.call()

    async def allowed(person: str) -> set[tuple[str, str | None]]:
        acts = (await house.get(person, f"/cases/{case_id}")).json()["allowed_acts"]
        return {(each["act"], each["department"]) for each in acts}

    assert await allowed("town-officer") == {("cancel", None)}
    assert await allowed("dispatcher") == {("dispatch", None), ("refuse", None), ("link", None)}
    await house.dispatch(case_id)
    assert await allowed("ecology-officer") == {("sign", "ecology")}
    await house.do("ecology-officer", case_id, "sign")
    assert await allowed("ecology-officer") == {("check-in", "ecology")}
    assert await allowed("leader") == {("watch", None), ("instruct", None)}


async def test_the_item_names_the_departments_and_the_limit(house: House) -> None:
    case_id = await house.call(item_code="paper-mill")
    case = await house.do("dispatcher", case_id, "dispatch")
    assert [(each["department"], each["role"]) for each in case["assignments"]] == [
        ("ecology", "lead"),
        ("police", "cooperating"),
    ]
    assert (case["item_name"], case["limit_class"]) == ("小造纸厂排污", "hard")


async def test_times_carry_the_offset_of_shanghai(house: House) -> None:
    case_id = await house.call()
    case = (await house.get("town-officer", f"/cases/{case_id}")).json()
    assert case["called_at"].endswith("+08:00")
    assert case["clocks"][0]["due_at"].endswith("+08:00")


async def test_an_act_with_one_department_of_ones_own_needs_not_name_it(house: House) -> None:
    case_id = await house.call()
    await house.dispatch(case_id)
    case = await house.do("police-officer", case_id, "sign")
    assert [each["department"] for each in case["assignments"] if each["signed_at"]] == ["police"]
    response = await house.post("town-officer", f"/cases/{case_id}/confirm-check-in")
    assert problem(response, 422) == "missing_field"


# --- who may -----------------------------------------------------------------------------------------------


async def test_no_route_but_the_public_ones_answers_without_a_token(house: House) -> None:
    paths = (await house.client.get("/openapi.json")).json()["paths"]
    assert len(paths) > 20
    for path, methods in paths.items():
        assert path not in PUBLIC
        for method in methods:
            response = await house.client.request(method, path.replace("{", "").replace("}", ""), json={})
            assert problem(response, 401) == "unauthenticated", path
            assert response.headers["www-authenticate"] == "Bearer"
    for path in PUBLIC:
        assert (await house.client.get(path)).status_code == 200, path


@pytest.mark.parametrize(
    "token",
    ["x", "a.b.c", issue("town-officer", secret="z" * 40), issue("town-officer", secret=SECRET, days=-1)],
)
async def test_a_token_that_is_not_ours_or_has_run_out_is_refused(house: House, token: str) -> None:
    response = await house.client.get("/api/v1/me", headers={"Authorization": f"Bearer {token}"})
    assert problem(response, 401) == "unauthenticated"


async def test_an_unknown_person_is_refused(house: House) -> None:
    assert problem(await house.get("nobody", "/me"), 401) == "unauthenticated"


async def test_a_case_that_one_may_not_see_is_not_found_and_looks_like_one_that_does_not_exist(
    house: House,
) -> None:
    case_id = await house.call()
    for person in ("other-officer", "ecology-officer", "administrator", "citizen"):
        hidden = await house.get(person, f"/cases/{case_id}")
        missing = await house.get(person, "/cases/sample-20260304-zzzzzz")
        assert problem(hidden, 404) == "case_not_found"
        assert hidden.json() == missing.json()
        for part in ("timeline", "audit"):
            assert problem(await house.get(person, f"/cases/{case_id}/{part}"), 404) == "case_not_found"
        acted = await house.post(person, f"/cases/{case_id}/cancel", {"reason": "x"})
        assert problem(acted, 404) == "case_not_found"
        assert (await house.get(person, "/cases")).json()["items"] == []


async def test_one_calls_for_ones_own_township_only_and_a_channel_for_any(house: House) -> None:
    assert problem(await house.post("other-officer", "/cases", CALL), 403) == "role_may_not"
    for person in ("ecology-officer", "dispatcher", "administrator", "leader"):
        assert problem(await house.post(person, "/cases", CALL), 403) == "role_may_not"
    response = await house.post("channel", "/cases", CALL)
    assert response.status_code == 201
    case_id = response.json()["case_id"]
    assert (await house.get("channel", f"/cases/{case_id}")).status_code == 200
    assert (
        problem(await house.post("channel", f"/cases/{case_id}/cancel", {"reason": "x"}), 403)
        == "role_may_not"
    )


async def test_the_callers_contact_is_shown_to_those_who_work_on_it_and_masked_to_others(
    house: House,
) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    for person in ("town-officer", "dispatcher", "ecology-officer"):
        contact = (await house.get(person, f"/cases/{case_id}")).json()["contact"]
        assert contact == {"name": "张三丰", "phone": "19912340001", "masked": False}
    for person in ("leader", "auditor", "coordinator"):
        contact = (await house.get(person, f"/cases/{case_id}")).json()["contact"]
        assert contact == {"name": "张**", "phone": "199****0001", "masked": True}


async def test_the_callers_contact_is_in_no_history_and_in_no_ledger(house: House) -> None:
    case_id = await house.call()
    await house.dispatch(case_id)
    ledger = (await house.get("auditor", f"/cases/{case_id}/audit")).text
    handle = house.doors.cases.client.get_workflow_handle(f"case/{case_id}")
    history = (await handle.fetch_history()).to_json()
    for secret in ("张三丰", "19912340001"):
        assert secret not in ledger
        assert secret not in json.dumps(json.loads(history), ensure_ascii=False)
    assert "小造纸厂排污" in ledger


# --- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"item_code": "nothing"}, "unknown_item"),
        ({"departments": ["nobody"]}, "unknown_department"),
        ({"departments": ["police", "police"]}, "department_twice"),
        ({"township": "nowhere"}, "unknown_township"),
        ({"township": "ecology"}, "unknown_township"),
        ({"district": "nowhere"}, "unknown_district"),
        ({"requested_check_in_at": "tomorrow"}, "malformed_time"),
        ({"requested_check_in_at": "2026-13-45T00:00:00+08:00"}, "malformed_time"),
        ({"requested_check_in_at": "2099-01-01T09:00:00"}, "malformed_time"),
        ({"requested_check_in_at": "2020-01-01T09:00:00+08:00"}, "time_in_past"),
        ({"requested_check_in_at": "2099-01-01T09:00:00+08:00"}, "check_in_too_late"),
        ({"surprise": 1}, "unknown_field"),
        ({"category": "other"}, "unknown_value"),
        ({"urgency": "soon"}, "unknown_value"),
        ({"title": ""}, "invalid_field"),
        ({"title": "   "}, "invalid_field"),
        ({"title": "长" * 101}, "invalid_field"),
        ({"title": None}, "invalid_field"),
        ({"location": {}}, "missing_field"),
        ({"location": {"address": "x", "longitude": 200}}, "invalid_field"),
        ({"contact": {"phone": "call me"}}, "invalid_field"),
        ({"attachments": [{"name": "a.jpg", "sha256": "x", "size": 1}]}, "invalid_field"),
    ],
)
async def test_a_bad_call_is_refused_with_its_own_code_and_nothing_is_kept(
    house: House, changes: dict[str, Any], code: str
) -> None:
    response = await house.post("town-officer", "/cases", CALL | changes, key="k")
    assert problem(response, 422) == code
    assert (await house.get("leader", "/cases")).json()["items"] == []
    assert (await house.post("town-officer", "/cases", CALL, key="k")).status_code == 201


async def test_a_district_says_itself_how_far_ahead_a_check_in_may_be_asked_for(
    real_server: WorkflowEnvironment, sqlite_store: Store
) -> None:
    limits = POLICY.limits
    check_in = limits.check_in.model_copy(update={"asked_within": limit(hours=2)})
    changed = limits.model_copy(update={"check_in": check_in})
    near = POLICY.model_copy(update={"version": "near", "limits": changed})

    def asking(hours: int) -> dict[str, Any]:
        return CALL | {"requested_check_in_at": (datetime.now(UTC) + timedelta(hours=hours)).isoformat()}

    async with open_house(real_server, sqlite_store, district=district(policy=near)) as house:
        response = await house.post("town-officer", "/cases", asking(3))
        assert problem(response, 422) == "check_in_too_late"
        assert "吹哨后2小时" in response.json()["detail"]
        assert (await house.post("town-officer", "/cases", asking(1))).status_code == 201
        told = (await house.get("town-officer", "/policy")).json()["policy"]["limits"]["check_in"]
        assert told["asked_within"]["time"] == "PT2H"


async def test_bodies_that_are_no_json_or_no_object_are_refused(house: House) -> None:
    headers = house.headers("town-officer")
    for content, status, code in (
        (b"{", 400, "malformed_json"),
        (b"[]", 422, "invalid_field"),
        (b"", 422, "missing_field"),
        (b'"x"', 422, "invalid_field"),
    ):
        response = await house.client.post(
            "/api/v1/cases", content=content, headers=headers | {"Content-Type": "application/json"}
        )
        assert problem(response, status) == code


async def test_a_body_over_a_megabyte_is_refused_whether_it_says_so_or_not(house: House) -> None:
    large = json.dumps(CALL | {"description": "x" * 1_000_001}).encode()
    headers = house.headers("town-officer") | {"Content-Type": "application/json"}
    response = await house.client.post("/api/v1/cases", content=large, headers=headers)
    assert problem(response, 413) == "body_too_large"

    async def chunks() -> Any:
        for start in range(0, len(large), 65536):
            yield large[start : start + 65536]

    try:
        response = await house.client.post("/api/v1/cases", content=chunks(), headers=headers)
    except httpx2.WriteError:
        return  # the door hung up while we were still sending, having refused
    assert problem(response, 413) == "body_too_large"


async def test_a_refused_act_leaves_nothing_in_the_history_and_says_why(house: House) -> None:
    case_id = await house.call()
    await house.dispatch(case_id)
    await house.do("ecology-officer", case_id, "sign")
    before = await house.history_length(case_id)
    now = datetime.now(UTC)
    officers = [{"name": "王示例"}]
    refused: list[tuple[str, str, dict[str, Any], int, str]] = [
        ("dispatcher", "dispatch", {"lead": "ecology"}, 409, "wrong_stage"),
        ("ecology-head", "sign", {}, 409, "already_signed"),
        ("ecology-officer", "sign", {"department": "police"}, 403, "not_your_department"),
        ("dispatcher", "sign", {"department": "police"}, 403, "role_may_not"),
        ("town-officer", "refuse", {"reason": "x"}, 403, "role_may_not"),
        (
            "ecology-officer",
            "action",
            {"kind": "fine", "description": "x", "result": "x"},
            409,
            "not_checked_in",
        ),
        ("ecology-officer", "done", {"result": "x"}, 409, "not_checked_in"),
        (
            "town-officer",
            "rate",
            {"department": "ecology", "grade": "satisfied", "solved": True},
            409,
            "not_all_done",
        ),
        (
            "ecology-officer",
            "check-in",
            {"officers": officers, "arrived_at": (now + timedelta(hours=1)).isoformat()},
            422,
            "time_in_future",
        ),
        (
            "ecology-officer",
            "check-in",
            {"officers": officers, "arrived_at": (now - timedelta(days=1)).isoformat()},
            422,
            "time_before_dispatch",
        ),
        ("ecology-officer", "check-in", {"officers": []}, 422, "invalid_field"),
        ("ecology-officer", "check-in", {"officers": officers, "arrived_at": "nine"}, 422, "malformed_time"),
        ("town-officer", "confirm-check-in", {"department": "nobody"}, 409, "not_assigned"),
        (
            "town-officer",
            "rate",
            {"department": "ecology", "grade": "great", "solved": True},
            422,
            "unknown_value",
        ),
    ]
    for person, act, body, status, code in refused:
        response = await house.post(person, f"/cases/{case_id}/{act}", body)
        assert problem(response, status) == code, (act, response.text)
    assert await house.history_length(case_id) == before
    await house.do("police-officer", case_id, "sign")


async def test_unknown_addresses_and_methods_are_problems_too(house: House) -> None:
    headers = house.headers("town-officer")
    assert problem(await house.client.get("/api/v1/nothing", headers=headers), 404) == "not_found"
    assert problem(await house.client.delete("/api/v1/cases", headers=headers), 405) == "method_not_allowed"
    case_id = await house.call()
    assert problem(await house.post("town-officer", f"/cases/{case_id}/fly"), 404) == "not_found"


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"cursor": "x"}, "bad_cursor"),
        ({"limit": 0}, "invalid_field"),
        ({"limit": "many"}, "invalid_field"),
        ({"stage": "nowhere"}, "unknown_value"),
        ({"sort": "title"}, "invalid_field"),
        ({"called_from": "yesterday"}, "malformed_time"),
    ],
)
async def test_a_bad_list_query_is_refused(house: House, query: dict[str, Any], code: str) -> None:
    assert problem(await house.get("leader", "/cases", **query), 422) == code


# --- once and only once ------------------------------------------------------------------------------------


async def test_the_same_key_again_gives_the_same_answer_and_no_second_case(either_house: House) -> None:
    house = either_house
    first = await house.post("town-officer", "/cases", CALL, key="call-1")
    again = await house.post("town-officer", "/cases", CALL, key="call-1")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["idempotent-replay"] == "true"
    assert len((await house.get("leader", "/cases")).json()["items"]) == 1
    other = await house.post("town-approver", "/cases", CALL, key="call-1")
    assert other.json()["case_id"] != first.json()["case_id"]


async def test_one_key_opens_one_case_however_often_it_is_sent_at_once(either_house: House) -> None:
    house = either_house
    answers = await asyncio.gather(*(house.post("town-officer", "/cases", CALL, key="k") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len((await house.get("leader", "/cases")).json()["items"]) == 1


async def test_the_same_key_with_another_body_is_refused(house: House) -> None:
    await house.post("town-officer", "/cases", CALL, key="k")
    response = await house.post("town-officer", "/cases", CALL | {"title": "另一件"}, key="k")
    assert problem(response, 422) == "idempotency_key_reused"
    case_id = await house.call()
    await house.do("dispatcher", case_id, "dispatch", lead="ecology")
    signed = await house.post("ecology-officer", f"/cases/{case_id}/sign", {}, key="s")
    assert signed.status_code == 200
    before = await house.history_length(case_id)
    again = await house.post("ecology-officer", f"/cases/{case_id}/sign", {}, key="s")
    assert (again.status_code, again.content) == (200, signed.content)
    body = {"department": "ecology"}
    assert problem(await house.post("ecology-officer", f"/cases/{case_id}/sign", body, key="s"), 422) == (
        "idempotency_key_reused"
    )
    assert await house.history_length(case_id) == before


async def test_an_act_sent_many_times_at_once_with_one_key_happens_once(house: House) -> None:
    case_id = await house.call()
    await house.dispatch(case_id)
    answers = await asyncio.gather(
        *(house.post("ecology-officer", f"/cases/{case_id}/sign", {}, key="k") for _ in range(6))
    )
    assert {answer.status_code for answer in answers} == {200}
    timeline = (await house.get("town-officer", f"/cases/{case_id}/timeline")).json()["items"]
    assert [line["kind"] for line in timeline].count("signed") == 1


async def test_the_last_act_of_a_case_sent_again_is_answered_as_done_even_if_the_answer_was_not_kept(
    house: House,
) -> None:
    case_id = await house.call()
    await house.until_done(case_id, "ecology")
    body = {"department": "ecology", "grade": "satisfied", "solved": True}
    first = await house.post("town-officer", f"/cases/{case_id}/rate", body, key="last")
    assert first.json()["stage"] == "closed"
    await house.until(lambda: _completed(house, case_id))
    async with house.store._database.write() as connection:
        await connection.execute(text("DELETE FROM answers"))
    again = await house.post("town-officer", f"/cases/{case_id}/rate", body, key="last")
    assert (again.status_code, again.json()["stage"]) == (200, "closed")
    assert problem(await house.post("town-officer", f"/cases/{case_id}/rate", body), 409) == "case_over"


async def test_a_bad_key_is_refused(house: House) -> None:
    headers = house.headers("town-officer") | {"Idempotency-Key": "x" * 201}
    response = await house.client.post("/api/v1/cases", json=CALL, headers=headers)
    assert problem(response, 422) == "invalid_field"


# --- lists, inbox, reference -------------------------------------------------------------------------------


async def test_a_department_finds_exactly_the_cases_that_it_has_still_to_sign(either_house: House) -> None:
    house = either_house
    signed, both, untouched = [await house.call(title=f"案件{number}") for number in range(3)]
    for case_id in (signed, both):
        await house.dispatch(case_id, "ecology", "police")
    await house.do("ecology-officer", signed, "sign")

    async def awaiting(department: str) -> set[str]:
        listed = await house.get("leader", "/cases", awaiting_sign=department)
        found = {line["case_id"] for line in listed.json()["items"]}
        view = f'AwaitingSign = "{department}" AND ExecutionStatus = "Running"'  # as docs/operators.md has it

        async def shown_alike() -> bool:
            runs = {run.id async for run in house.doors.cases.client.list_workflows(view)}
            ours = {f"case/{case_id}" for case_id in (signed, both, untouched)}
            return runs & ours == {f"case/{case_id}" for case_id in found}

        await house.until(shown_alike)
        return found

    assert await awaiting("ecology") == {both}
    assert await awaiting("police") == {signed, both}
    at_work = {"kind": "demolition", "description": "拆", "result": "已拆"}
    await house.do("ecology-officer", signed, "check-in", officers=[{"name": "王示例"}])
    await house.do("town-officer", signed, "confirm-check-in", department="ecology")
    case = await house.do("ecology-officer", signed, "action", **at_work)
    assert case["stage"] == "enforcing"
    assert await awaiting("police") == {signed, both}
    await house.do("town-officer", both, "cancel", reason="误报")
    assert await awaiting("police") == {signed}


async def test_lists_are_filtered_sorted_and_paged(house: House) -> None:
    case_ids = [await house.call(title=f"案件{number}") for number in range(5)]
    await house.dispatch(case_ids[2], "police")
    found: list[str] = []
    cursor = None
    while True:
        query = {"limit": 2, "sort": "called_at"} | ({"cursor": cursor} if cursor else {})
        page = (await house.get("leader", "/cases", **query)).json()
        found += [line["case_id"] for line in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == case_ids
    mine = (await house.get("police-officer", "/cases")).json()["items"]
    assert [line["case_id"] for line in mine] == [case_ids[2]]
    assert mine[0]["stage_label"] == "待签收"
    assert mine[0]["township_name"] == "示例镇"
    searched = (await house.get("leader", "/cases", text="案件3")).json()["items"]
    assert [line["case_id"] for line in searched] == [case_ids[3]]


async def test_notices_reach_the_inbox_and_leave_the_outbox(house: House) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    inbox = (await house.get("ecology-officer", "/inbox")).json()["items"]
    assert [(each["title"], each["case_id"]) for each in inbox] == [("新派单待签收", case_id)]
    marked = await house.post("ecology-officer", "/inbox/read", {"ids": [inbox[0]["id"]]})
    assert marked.json() == {"marked": 1}
    unread = (await house.get("ecology-officer", "/inbox", unread_only=True)).json()["items"]
    assert unread == []
    stolen = await house.post("police-officer", "/inbox/read", {"ids": [inbox[0]["id"]]})
    assert stolen.json() == {"marked": 0}

    async def all_sent() -> bool:
        return not await house.store.unsent("sample", 10, datetime.now(UTC))

    await house.until(all_sent)


async def test_reference_data_has_versions_and_another_district_is_not_found(house: House) -> None:
    items = (await house.get("town-officer", "/catalogue/items", text="造纸")).json()
    assert (items["version"], [item["code"] for item in items["items"]]) == ("sample-1", ["paper-mill"])
    one = (await house.get("town-officer", "/catalogue/items/paper-mill")).json()
    assert one["item"]["primary"] == "ecology"
    assert problem(await house.get("town-officer", "/catalogue/items/nothing"), 404) == "unknown_item"
    organisations = (await house.get("town-officer", "/organisations")).json()
    assert {"code": "police", "name": "公安分局", "kind": "department", "tier": "resident"} in organisations[
        "items"
    ]
    assert (await house.get("town-officer", "/policy")).json()["policy"]["version"] == "sample-1"
    response = await house.get("town-officer", "/policy", district="elsewhere")
    assert problem(response, 404) == "district_not_found"
    me = (await house.get("police-resident", "/me")).json()
    assert me["posts"][0]["role_label"] == "常驻执法人员"


async def test_the_api_page_loads_nothing_from_elsewhere(house: House) -> None:
    for path in ("/", "/docs"):
        page = await house.client.get(path)
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert not re.search(r"""(src|href)=["']https?://""", page.text)
    for path in ("/static/swagger/swagger-ui-bundle.js", "/static/swagger/swagger-ui.css", "/static/docs.js"):
        assert (await house.client.get(path)).status_code == 200


async def test_the_description_of_the_api_names_every_act(house: House) -> None:
    described = (await house.client.get("/openapi.json")).json()
    for act in set(Act) - {Act.ADOPT_TERMS}:
        path = f"/api/v1/cases/{{case_id}}/{act.value.replace('_', '-')}"
        assert re.search("[\u4e00-\u9fff]", described["paths"][path]["post"]["summary"])
    assert described["components"]["securitySchemes"]


async def test_rework_and_a_second_round_close_in_the_end(house: House) -> None:
    case_id = await house.call()
    await house.until_done(case_id, "ecology", "police")
    case = await house.rate(case_id, "ecology", solved=False)
    assert case["stage"] == "enforcing"
    about = {"department": "ecology"}
    await house.do(
        "ecology-officer", case_id, "action", kind="sealing", description="封", result="已封", **about
    )
    await house.do("ecology-officer", case_id, "done", result="完成", **about)
    case = await house.rate(case_id, "ecology", "police")
    assert case["stage"] == "closed"
    assert [each["round"] for each in case["assignments"]] == [2, 1]


async def test_lists_and_pages_show_the_next_limit_that_is_still_to_come_and_since_when_one_is_passed(
    either_house: House,
) -> None:
    house = either_house
    case_id = CaseId(await house.call())
    await house.dispatch(case_id, "ecology")
    state = await house.store.case(case_id)
    assert state is not None
    first, *others = sorted(clock.due_at for clock in state.running)
    terms = district().terms()
    moment = timedelta(seconds=1)
    for now, coming, since in (
        (state.acted_at, first, None),
        (first, first, None),
        (first + moment, others[0], first),
        (others[-1] + moment, None, first),
    ):
        page = await house.store.cases(CaseQuery(), Sight(home="sample", everything=True), now)
        ((line,)) = page.items
        shown = case_view(state, DISPATCHER, now, terms, contact=None)
        assert (line.next_due_at, line.overdue_since) == (coming, since)
        assert (shown.next_due_at, shown.overdue_since) == (coming, since)
    listed = (await house.get("leader", "/cases")).json()["items"][0]
    assert (datetime.fromisoformat(listed["next_due_at"]), listed["overdue_since"]) == (first, None)

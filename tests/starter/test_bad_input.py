"""Whatever is sent, the answer is a problem of the sender's and never a fault of ours, on either database."""

import asyncio
import json
import re
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import structlog
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.routing import Mount
from structlog.testing import capture_logs

from adapters.logs import without_words
from starter import problems
from starter.api import PUBLIC, create_api, identify
from starter.bodies import BODIES
from starter.codec_routes import identify_for_codec
from starter.limits import BodyLimit, RequestLog
from tests.starter.conftest import CALL, House, serve
from tests.starter.test_api import problem
from tests.starter.test_ops import shaodao

HUGE = 10**60


def sent(**changes: Any) -> bytes:
    """Return a call as it goes over the wire, whatever is in it."""
    return json.dumps(CALL | changes).encode()


async def post(house: House, path: str, content: bytes, **headers: str) -> httpx2.Response:
    """Send these very bytes."""
    given = house.headers("town-officer") | {"Content-Type": "application/json"} | headers
    return await house.client.post(f"/api/v1{path}", content=content, headers=given)


async def test_bytes_that_are_no_json_are_malformed_whatever_is_wrong_with_them(house: House) -> None:
    deep, long = b'{"a":' * 50_000, b'{"ids": [1' + b"0" * 5000 + b"]}"
    for content in (b"{", b'{"title": "\xff"}', deep, b"[" * 50_000, long, b"\x00"):
        assert problem(await post(house, "/cases", content), 400) == "malformed_json"


async def test_a_body_that_is_not_declared_as_json_is_refused(house: House) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/octet-stream", ""):
        response = await post(house, "/cases", sent(), **{"Content-Type": kind})
        assert problem(response, 415) == "unsupported_media_type"
    declared = await post(house, "/cases", sent(), **{"Content-Type": "application/json; charset=utf-8"})
    assert declared.status_code == 201


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"title": "a\x00b"}, "invalid_field"),
        ({"description": "a\x1bb"}, "invalid_field"),
        ({"departments": ["eco\x00logy"]}, "invalid_field"),
        ({"location": {"address": "\x00"}}, "invalid_field"),
        ({"title": "a\ud800b"}, "invalid_field"),
        ({"\ud800": 1}, "invalid_field"),
        ({"title": {"$ne": 1}}, "invalid_field"),
        ({"requested_check_in_at": "9999-12-31T23:00:00-08:00"}, "malformed_time"),
        ({"requested_check_in_at": "9999-12-31T23:00:00+08:00"}, "malformed_time"),
        ({"requested_check_in_at": "0001-01-01T00:00:00+08:00"}, "malformed_time"),
        ({"requested_check_in_at": HUGE}, "malformed_time"),
        ({"location": {"address": "x", "longitude": "NaN"}}, "invalid_field"),
        ({"location": {"address": "x", "longitude": HUGE}}, "invalid_field"),
        ({"attachments": [{"name": "a", "sha256": "0" * 64, "size": HUGE}]}, "invalid_field"),
        ({"attachments": [{"name": "a", "sha256": "0" * 64, "size": -1}]}, "invalid_field"),
    ],
)
async def test_values_that_no_database_or_calendar_could_take_are_refused(
    either_house: House, changes: dict[str, Any], code: str
) -> None:
    assert problem(await post(either_house, "/cases", sent(**changes)), 422) == code
    assert (await either_house.get("leader", "/cases")).json()["items"] == []


OF_ANOTHER_TYPE: tuple[tuple[str, str, Any, str], ...] = (
    ("rate", "solved", "yes", "是否解决(solved):应为 true 或 false"),
    ("rate", "solved", 1, "是否解决(solved):应为 true 或 false"),
    ("rate", "response", "3", "响应评分(response):应为整数"),
    ("rate", "action", True, "处置评分(action):应为整数"),
    ("rate", "result", 5.0, "结果(result):应为整数"),
    ("decide-suspension", "approve", "true", "是否同意(approve):应为 true 或 false"),
    ("extend", "add", {"days": "2"}, "日数(add.days):应为整数"),
    ("suspend", "until", 20261201, "截止时间(until):时间格式有误"),
    ("suspend", "until", "1900000000", "截止时间(until):时间格式有误"),
    ("suspend", "until", "2027-02-20", "截止时间(until):时间须带时区"),
    ("action", "follow_up_on", "2027-02-20T00:00:00+08:00", "后续跟踪日期(follow_up_on):日期格式有误"),
    ("action", "follow_up_on", 1900000000, "后续跟踪日期(follow_up_on):日期格式有误"),
    (
        "action",
        "attachments",
        [{"name": "a", "sha256": "0" * 64, "size": "12"}],
        "文件大小(attachments.0.size):应为整数",
    ),
)


async def test_a_value_of_another_type_than_is_asked_is_refused_and_its_field_named(house: House) -> None:
    for act, field, value, told in OF_ANOTHER_TYPE:
        response = await house.post("ecology-officer", f"/cases/x/{act}", {field: value})
        assert problem(response, 422) in {"missing_field", "invalid_field", "malformed_time"}
        wrong = [each["field"] for each in response.json()["errors"] if each["code"] != "missing_field"]
        assert (wrong, told in response.json()["detail"]) == ([re.findall(r"\((.*?)\)", told)[0]], True), told


async def test_an_empty_text_and_a_value_that_is_none_of_those_allowed_are_told_in_chinese(
    house: House,
) -> None:
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"title": " "}, "标题(title):不能为空,请填写"),
        ({"location": {"address": ""}}, "地点(location.address):不能为空,请填写"),
        ({"urgency": "x"}, "紧急程度(urgency):取值不在允许范围内,应为:routine(一般)、urgent(紧急)"),
        ({"direction": "x"}, "方向(direction):取值不在允许范围内,应为:up(镇街吹哨)、down(部门交办)"),
        ({"category": 1}, "应为:livelihood(民生)、enforcement(执法)、development(发展)"),
    )
    for changes, told in refused:
        response = await post(house, "/cases", sent(**changes))
        assert problem(response, 422) in {"invalid_field", "unknown_value"}
        assert response.json()["detail"].endswith(told), response.json()["detail"]


def test_every_value_of_a_body_that_is_one_of_several_has_a_chinese_name() -> None:
    for act, body in BODIES.items():
        for name, field in body.model_json_schema().get("$defs", {}).items():
            values = field.get("enum", ())
            told = problems._with_labels("、".join(f"'{value}'" for value in values))
            assert all(f"{value}(" in told for value in values), (act, name)


async def test_a_call_with_a_time_in_seconds_is_refused(house: House) -> None:
    for seconds in (1900000000, "1900000000", 1900000000.5, True):
        response = await post(house, "/cases", sent(requested_check_in_at=seconds))
        assert problem(response, 422) == "malformed_time"
        assert "要求报到时间(requested_check_in_at)" in response.json()["detail"]


async def test_texts_that_nobody_sees_are_blank_and_signs_that_turn_a_text_about_are_refused(
    house: House,
) -> None:
    for blank in ("\u200b", "\u200b \u2060", "\u200d", "\u3164", "\ufe0f", "\u202e"):
        response = await post(house, "/cases", sent(title=blank))
        assert problem(response, 422) == "invalid_field"
        assert "标题(title):不能只有空白" in response.json()["detail"], ascii(blank)
    for hidden in ("违法\u202e排污", "\u200b排污", "\ufeff排污", "排\u00ad污", "排\x7f污", "排\x85污"):
        for changes in ({"title": hidden}, {"location": {"address": hidden}}, {"contact": {"name": hidden}}):
            response = await post(house, "/cases", sent(**changes))
            assert problem(response, 422) == "invalid_field"
            assert "不可见的格式字符" in response.json()["detail"], ascii(hidden)


async def test_joiners_within_a_text_are_kept(house: House) -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467一家"
    case_id = await house.call(title=family)
    assert (await house.get("town-officer", f"/cases/{case_id}")).json()["title"] == family


async def test_lines_and_tabs_in_a_description_are_kept(house: House) -> None:
    case_id = await house.call(description="一\n二\t三\r\n四")
    case = (await house.get("town-officer", f"/cases/{case_id}")).json()
    assert case["description"] == "一\n二\t三\r\n四"


async def test_addresses_and_queries_that_no_database_could_take_are_refused(either_house: House) -> None:
    house = either_house
    refused = (
        ("/cases/%00", 404, "case_not_found"),
        ("/cases/%FF", 404, "case_not_found"),
        ("/cases/%F0%9F%98%80/timeline", 404, "case_not_found"),
        ("/cases/" + "x" * 3000, 404, "case_not_found"),
        ("/catalogue/items/%00", 404, "unknown_item"),
        ("/policy?district=%00", 404, "district_not_found"),
        ("/cases?text=%00", 422, "invalid_field"),
        ("/cases?township=%00", 422, "invalid_field"),
        ("/cases?nonsense=1", 422, "unknown_field"),
        ("/cases?called_from=0001-01-01T00:00:00%2B08:00", 422, "malformed_time"),
        ("/cases?called_before=9999-12-31T23:59:59-08:00", 422, "malformed_time"),
        (f"/inbox?before={HUGE}", 422, "invalid_field"),
        ("/inbox?before=0", 422, "invalid_field"),
    )
    for path, status, code in refused:
        response = await house.client.get(f"/api/v1{path}", headers=house.headers("town-officer"))
        assert problem(response, status) == code, path
    body = json.dumps({"ids": [HUGE]}).encode()
    assert problem(await post(house, "/inbox/read", body), 422) == "invalid_field"
    slash = await post(house, "/cases/", sent())
    assert problem(slash, 404) == "not_found"


async def test_officers_named_by_id_must_be_people_of_the_district(house: House) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    await house.do("ecology-officer", case_id, "sign")
    before = await house.history_length(case_id)
    unknown = {"officers": [{"name": "某人", "id": "nobody"}]}
    response = await house.post("ecology-officer", f"/cases/{case_id}/check-in", unknown)
    assert problem(response, 422) == "unknown_person"
    later = {"officers": [{"name": "某人"}], "arrived_at": "9999-12-31T23:00:00-08:00"}
    response = await house.post("ecology-officer", f"/cases/{case_id}/check-in", later)
    assert problem(response, 422) == "malformed_time"
    assert await house.history_length(case_id) == before
    await house.do(
        "ecology-officer", case_id, "check-in", officers=[{"name": "某人", "id": "ecology-officer"}]
    )


# --- keys --------------------------------------------------------------------------------------------------


async def test_a_replayed_call_says_again_where_the_case_is(house: House) -> None:
    first = await house.post("town-officer", "/cases", CALL, key="k")
    again = await house.post("town-officer", "/cases", CALL, key="k")
    assert again.headers["location"] == first.headers["location"]


async def test_reading_notices_takes_a_key_like_every_post(house: House) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    ids = [each["id"] for each in (await house.get("ecology-officer", "/inbox")).json()["items"]]
    first = await house.post("ecology-officer", "/inbox/read", {"ids": ids}, key="k")
    again = await house.post("ecology-officer", "/inbox/read", {"ids": ids}, key="k")
    assert (first.json(), again.content) == ({"marked": 1}, first.content)
    assert again.headers["idempotent-replay"] == "true"
    other = await house.post("ecology-officer", "/inbox/read", {"ids": [1]}, key="k")
    assert problem(other, 422) == "idempotency_key_reused"


# --- the ledger as it stands ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{}", "no json", '{"sequence": 2, "previous": "x"}'])
async def test_a_ledger_that_was_tampered_with_is_shown_as_it_stands_and_said_to_be_broken(
    house: House, text: str
) -> None:
    case_id = await house.call()
    await house.dispatch(case_id, "ecology")
    real = await house.store.raw_entries(case_id)  # type: ignore[arg-type]

    async def tampered(_: str) -> list[tuple[str, str]]:
        return [real[0], (text, real[1][1])]

    house.store.raw_entries = tampered  # type: ignore[method-assign, assignment]
    audit = (await house.get("auditor", f"/cases/{case_id}/audit")).json()
    assert audit["chain_whole"] is False
    assert audit["entries"][1]["entry"] == text


# --- bugs of ours --------------------------------------------------------------------------------------------


async def test_a_bug_tells_outsiders_a_number_only_and_the_log_no_words_of_it() -> None:
    words = "张三丰 19912340001"

    async def broken(*_: Any) -> None:
        raise RuntimeError(words) from ValueError(words)

    transport = httpx2.ASGITransport(app=RequestLog(BodyLimit(broken, 1000)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars, without_words]) as logged:
            response = await client.get("/")
    assert problem(response, 500) == "internal_error"
    number = response.headers["x-request-id"]
    assert response.json()["request"] == number
    assert {line["request"] for line in logged} == {number}
    assert "builtins.RuntimeError" in logged[0]["exception"]
    assert "builtins.ValueError" in logged[0]["exception"]
    assert __name__.rpartition(".")[2] in logged[0]["exception"]
    assert words not in json.dumps(logged, ensure_ascii=False, default=str) + response.text


# --- every route ---------------------------------------------------------------------------------------------


def routes_of(app: FastAPI) -> list[APIRoute]:
    """Return every route with what its routers add to it."""
    found: list[APIRoute] = []
    for route in app.routes:
        if isinstance(route, APIRoute):
            found.append(route)
        elif not isinstance(route, Mount):
            found += [each for each in route.original_router.routes if isinstance(each, APIRoute)]  # type: ignore[attr-defined]
    return found


async def test_every_route_needs_a_person_unless_it_is_on_the_list(house: House) -> None:
    routes = routes_of(create_api(house.doors))
    assert len(routes) > 25
    for route in routes:
        asked = {each.dependency for each in route.dependencies}
        assert bool(asked & {identify, identify_for_codec}) != (route.path in PUBLIC), route.path


async def test_every_operation_is_described_in_chinese_with_its_problems(house: House) -> None:
    described = (await house.client.get("/openapi.json")).json()
    assert described["components"]["schemas"]["Problem"]["required"]
    for path, methods in described["paths"].items():
        for operation in methods.values():
            assert any("\u4e00" <= sign <= "\u9fff" for sign in operation["summary"]), path
            assert operation["tags"]
            assert {"401", "403", "404", "409", "413", "415", "422", "503"} <= set(operation["responses"])
            content = operation["responses"]["422"]["content"]
            assert list(content) == ["application/problem+json"]
            assert content["application/problem+json"]["schema"]["$ref"] == "#/components/schemas/Problem"


@pytest.mark.parametrize("trickles", [False, True])
async def test_a_body_that_does_not_come_is_refused_and_the_connection_is_closed(
    house: House, monkeypatch: pytest.MonkeyPatch, *, trickles: bool
) -> None:
    monkeypatch.setattr("starter.api.BODY_WITHIN", timedelta(milliseconds=300))
    async with serve(house.doors) as url:
        address = httpx2.URL(url)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        head = "POST /api/v1/cases HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100000"
        bearer = house.headers("town-officer")["Authorization"]
        writer.write(f"{head}\r\nAuthorization: {bearer}\r\n\r\n{{".encode())
        answer = asyncio.create_task(reader.read())  # to the end: it never comes while the connection is open
        while trickles and not answer.done():
            writer.write(b" ")
            await asyncio.wait([answer], timeout=0.05)
        status, _, body = (await answer).partition(b"\r\n")
        writer.close()
    assert (status, b"body_too_slow" in body) == (b"HTTP/1.1 408 Request Timeout", True)
    assert (await house.get("leader", "/cases")).json()["items"] == []


# --- operators, lists, the command line ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("reconcile", {"restart_many": "true"}, "restart_many"),
        ("reconcile", {"restart_many": 1}, "restart_many"),
        ("archive", {"renew_many": "yes"}, "renew_many"),
        ("resend", {"notice_id": "7"}, "notice_id"),
        ("resend", {"notice_id": 7.0}, "notice_id"),
        ("reset", {"case_id": "x", "reason": "y", "from_ledger": "on"}, "from_ledger"),
        (
            "reset",
            {"case_id": "x", "reason": "y", "from_ledger": True, "despite_anchor": 1},
            "despite_anchor",
        ),
        ("reset", {"case_id": "x", "reason": "y", "to_event": "12"}, "to_event"),
        ("rebuild", {"case_ids": [1]}, "case_ids.0"),
    ],
)
async def test_a_value_of_another_type_is_refused_of_operators_as_of_everybody(
    house: House, path: str, body: dict[str, Any], field: str
) -> None:
    response = await house.post("administrator", f"/ops/{path}", body)
    assert problem(response, 422) == "invalid_field"
    assert [each["field"] for each in response.json()["errors"]] == [field]


@pytest.mark.parametrize(
    ("path", "body", "field", "right"),
    [
        ("/ops/resend", {"notice": 7}, "notice", "通知编号(notice_id)、案件编号(case_id)"),
        ("/ops/reset", {"case_id": "x", "reason": "y", "from_leger": True}, "from_leger", "from_ledger"),
        ("/cases", CALL | {"place": "x"}, "place", "位置(location)"),
        ("/cases", CALL | {"location": {"address": "x", "lat": 1}}, "location.lat", "纬度(latitude)"),
        ("/cases/x/extend", {"reason": "y", "add": {"weeks": 1}}, "add.weeks", "工作日数(working_days)"),
        (
            "/cases",
            CALL | {"attachments": [{"name": "a", "sha256": "0" * 64, "size": 1, "hash": ""}]},
            "attachments.0.hash",
            "文件摘要(sha256)",
        ),
    ],
)
async def test_who_sends_a_field_that_there_is_not_is_told_which_there_are(
    house: House, path: str, body: dict[str, Any], field: str, right: str
) -> None:
    response = await house.post("administrator", path, body)
    assert problem(response, 422) == "unknown_field"
    (told,) = response.json()["errors"]
    assert (told["field"], right in told["detail"]) == (field, True), told


@pytest.mark.parametrize(
    ("name", "value", "code", "told"),
    [
        ("stage", "dispached", "unknown_value", "dispatched("),
        ("urgency", "soon", "unknown_value", "urgent(紧急)"),
        ("level", "3", "unknown_field", "level"),
        ("district", "nowhere", "unknown_district", "应为:sample("),
        ("township", "ecology", "unknown_township", "town("),
        ("department", "ecologie", "unknown_department", "ecology("),
        ("item", "NO-1", "unknown_item", "/catalogue/items"),
    ],
)
async def test_a_list_by_a_value_that_does_not_exist_is_refused_with_those_that_do(
    house: House, name: str, value: str, code: str, told: str
) -> None:
    response = await house.get("town-officer", "/cases", **{name: value})
    assert problem(response, 422) == code
    assert told in response.json()["detail"]


async def test_a_list_by_a_value_that_exists_may_be_empty(house: House) -> None:
    for query in ({"township": "town"}, {"department": "ecology"}, {"district": "sample"}):
        response = await house.get("town-officer", "/cases", **query)
        assert (response.status_code, response.json()["items"]) == (200, []), query


@pytest.mark.parametrize(
    "arguments",
    [
        ("case", "show", "a/b"),
        ("case", "sign", "../ops/stuck"),
        ("case", "show", ""),
        ("archive", "show", "a/timeline"),
        ("archive", "show", "a-1", "--run", ".."),
        ("archive", "verify", "a/../b"),
    ],
)
async def test_a_number_that_would_be_another_address_is_refused_on_the_command_line(
    house: House, arguments: tuple[str, ...]
) -> None:
    status, said = await shaodao(house, "auditor", *arguments)
    assert (status, "编号“" in said, "”有误" in said) == (2, True, True), said

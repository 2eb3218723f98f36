"""Each further act over real HTTP, done and refused; and what may still be done when the workflow has ended."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.testing import WorkflowEnvironment

from adapters.anchors import AnchorKeeper
from adapters.archive import DirectoryArchive
from adapters.signing import SigningKey
from adapters.store import Store
from domain.case import CaseId, Grade, OrganisationCode
from domain.commands import Rate, Reopen
from tests.sample import FULL_POLICY, LISTED, district
from tests.starter.conftest import CALL, House, open_house
from tests.starter.keeping import rewritten
from tests.starter.test_api import problem
from tests.starter.test_relay import actor, defer, stage

ABOUT = {"department": "ecology"}
OBJECTION = {"basis": "law", "reason": "非我职责", "proposed": "housing"}


@pytest.fixture
async def full(real_server: WorkflowEnvironment, sqlite_store: Store) -> AsyncIterator[House]:
    """The product in a district that uses every step."""
    async with open_house(real_server, sqlite_store, district=district(policy=FULL_POLICY)) as house:
        yield house


async def called(house: House, **changes: Any) -> str:
    """Call as the township's approver: nothing to release."""
    response = await house.post("town-approver", "/cases", CALL | changes)
    assert response.status_code == 201, response.text
    return str(response.json()["case_id"])


async def closed(house: House) -> str:
    """A case whose workflow has ended."""
    case_id = await called(house)
    await house.until_done(case_id, "ecology")
    await house.rate(case_id, "ecology")

    async def ended() -> bool:
        handle = house.doors.cases.client.get_workflow_handle(f"case/{case_id}")
        status = (await handle.describe()).status
        return status is not None and status.name == "COMPLETED"

    await house.until(ended)
    return case_id


async def refused(house: House, person: str, case_id: str, act: str, **body: Any) -> str:
    """Return the code with which an act is refused."""
    response = await house.post(person, f"/cases/{case_id}/{act}", body)
    return problem(response, response.status_code)


# --- opening -----------------------------------------------------------------------------------------------


async def test_a_call_is_released_by_the_approver_and_shows_evidence_before_it_is_done(full: House) -> None:
    case_id = await full.call(item_code="scattered")
    assert await refused(full, "dispatcher", case_id, "dispatch") == "wrong_stage"
    assert await refused(full, "town-officer", case_id, "release") == "role_may_not"
    case = await full.do("town-approver", case_id, "release", note="属实")
    assert case["stage_label"] == "待派单"
    assert await refused(full, "dispatcher", case_id, "dispatch", lead="housing") == "reason_missing"
    case = await full.do("dispatcher", case_id, "dispatch")
    assert [each["department"] for each in case["assignments"]] == ["ecology", "police", "market"]
    assert case["responsibility"]["missing_evidence"] == list(LISTED.evidence)
    await full.do("ecology-officer", case_id, "sign")
    await full.do("ecology-officer", case_id, "check-in", officers=[{"name": "王示例"}])
    photo = {"name": "a.jpg", "sha256": "0" * 64, "size": 1, "evidence": "现场照片"}
    action = {"kind": "sealing", "description": "查封", "result": "已查封", "attachments": [photo]}
    case = await full.do("ecology-officer", case_id, "action", **action)
    assert case["responsibility"]["missing_evidence"] == ["处置文书"]
    assert await refused(full, "ecology-officer", case_id, "done", result="完成") == "evidence_missing"
    paper = photo | {"evidence": "处置文书"}
    case = await full.do("ecology-officer", case_id, "done", result="完成", attachments=[paper])
    assert case["assignments"][0]["status"] == "done"


async def test_what_a_citizen_reports_waits_for_the_township_and_is_theirs_to_see(full: House) -> None:
    response = await full.post("citizen", "/cases", CALL)
    assert response.status_code == 201
    case_id = response.json()["case_id"]
    assert response.json()["stage"] == "awaiting_release"
    assert (await full.get("citizen", f"/cases/{case_id}")).status_code == 200
    assert [line["case_id"] for line in (await full.get("citizen", "/cases")).json()["items"]] == [case_id]
    assert problem(await full.get("grid-worker", f"/cases/{case_id}"), 404) == "case_not_found"
    case = await full.do("town-approver", case_id, "refuse", reason="本镇办理", self_handled=True)
    assert case["stage"] == "refused"


async def test_a_downward_call_waits_for_the_group_and_is_done_by_the_township(full: House) -> None:
    body = CALL | {"direction": "down"}
    assert problem(await full.post("town-officer", "/cases", body), 422) == "unknown_department"
    stolen = await full.post("ecology-officer", "/cases", body | {"caller_office": "housing"})
    assert problem(stolen, 403) == "role_may_not"
    up = await full.post("town-officer", "/cases", CALL | {"caller_office": "housing"})
    assert problem(up, 422) == "caller_office_not_for_up"
    response = await full.post("housing-officer", "/cases", body)
    assert response.status_code == 201, response.text
    case_id = response.json()["case_id"]
    assert (response.json()["stage"], response.json()["caller_office"]) == ("awaiting_admission", "housing")
    assert (await full.get("housing-head", f"/cases/{case_id}")).status_code == 200
    assert await refused(full, "town-approver", case_id, "release") == "role_may_not"
    await full.do("coordinator", case_id, "release")
    case = await full.do("dispatcher", case_id, "dispatch")
    assert [each["department"] for each in case["assignments"]] == ["town"]
    town = {"department": "town"}
    await full.do("town-officer", case_id, "sign", **town)
    await full.do("town-officer", case_id, "action", kind="other", description="核查", result="属实", **town)
    await full.do("town-officer", case_id, "done", result="完成", **town)
    case = await full.do("housing-officer", case_id, "rate", grade="satisfied", solved=True, **town)
    assert case["stage"] == "closed"


async def test_the_same_item_and_place_again_is_linked_and_raised(full: House) -> None:
    first = await called(full, item_code="paper-mill")
    response = await full.post("town-approver", "/cases", CALL | {"item_code": "paper-mill"})
    assert response.json()["recurs"] == [first]
    elsewhere = CALL | {"item_code": "paper-mill", "location": {"address": "别处"}}
    assert (await full.post("town-approver", "/cases", elsewhere)).json()["recurs"] == []


# --- whose job it is, and more time ------------------------------------------------------------------------


async def test_an_objection_is_ruled_on_and_a_case_transferred(full: House) -> None:
    case_id = await called(full)
    await full.dispatch(case_id, "ecology", "police")
    assert await refused(full, "police-officer", case_id, "object", **ABOUT, **OBJECTION) == (
        "not_your_department"
    )
    case = await full.do("ecology-officer", case_id, "object", **OBJECTION)
    assert case["objections"][0]["basis_label"]
    ruling = {"uphold": True, "reason": "依清单", **ABOUT}
    assert await refused(full, "coordinator", case_id, "adjudicate", **ruling) == "role_may_not"
    case = await full.do("dispatcher", case_id, "adjudicate", **ruling)
    assert [each["department"] for each in case["assignments"]] == ["police", "housing"]
    assert (case["former"][0]["department"], case["former"][0]["in_figures"]) == ("ecology", False)
    moved = {"department": "police", "to": "market", "reason": "职责调整"}
    assert await refused(full, "coordinator", case_id, "transfer", **moved) == "role_may_not"
    case = await full.do("dispatcher", case_id, "transfer", **moved)
    assert [each["in_figures"] for each in case["former"]] == [False, True]
    for person in ("ecology-officer", "police-officer", "police-resident"):
        assert (await full.get(person, f"/cases/{case_id}")).json()["allowed_acts"] == []
        assert case_id in {line["case_id"] for line in (await full.get(person, "/cases")).json()["items"]}


async def test_an_extension_needs_both_and_a_suspension_the_group(full: House) -> None:
    case_id = await called(full)
    await full.dispatch(case_id, "ecology")
    too_much = {"reason": "鉴定", "add": {"working_days": 30}}
    assert await refused(full, "ecology-officer", case_id, "extend", **too_much) == "extension_too_long"
    await full.do("ecology-officer", case_id, "extend", reason="鉴定", add={"working_days": 2})
    await full.do("town-approver", case_id, "decide-extension", approve=True)
    case = await full.do("coordinator", case_id, "decide-extension", approve=True)
    assert case["extensions"][0]["granted"] is True
    until = (datetime.now(UTC) + timedelta(days=30)).isoformat()
    await full.do("ecology-officer", case_id, "suspend", reason="鉴定", until=until)
    assert await refused(full, "town-approver", case_id, "decide-suspension", approve=True) == "role_may_not"
    case = await full.do("coordinator", case_id, "decide-suspension", approve=True)
    assert (case["stage"], case["assignments"][0]["clocks"][0]["light"]) == ("suspended", "paused")
    assert await refused(full, "ecology-officer", case_id, "sign") == "suspended"
    case = await full.do("coordinator", case_id, "resume", reason="鉴定完成")
    assert case["stage"] == "dispatched"


# --- attention ---------------------------------------------------------------------------------------------


async def test_leaders_follow_instruct_and_get_answers(full: House) -> None:
    case_id, other = await called(full), await called(full)
    await full.dispatch(case_id, "ecology")
    case = await full.do("leader", case_id, "watch")
    assert (case["watching"], case["watchers"]) == (True, 1)
    watched = (await full.get("leader", "/cases", watched=True)).json()["items"]
    assert [line["case_id"] for line in watched] == [case_id]
    assert (await full.get("supervisor", "/cases", watched=True)).json()["items"] == []
    assert await refused(full, "leader", case_id, "watch") == "watching_already"
    await full.do("leader", case_id, "instruct", text="依法从快")
    case = await full.do("coordinator", case_id, "instruct", text="今日办结", answer_required=True, **ABOUT)
    assert case["orders"][0]["answered_at"] is None
    assert await refused(full, "ecology-officer", case_id, "answer-order", text="x") == "not_your_department"
    case = await full.do("ecology-head", case_id, "answer-order", text="已派人")
    assert case["orders"][0]["answer"] == "已派人"
    linked = {"other": other, "kind": "related"}
    assert await refused(full, "leader", case_id, "link", **linked) == "role_may_not"
    case = await full.do("dispatcher", case_id, "link", **linked)
    assert case["links"][0]["other"] == other
    unknown = {"other": "sample-20260304-zzzzzz", "kind": "related"}
    assert await refused(full, "dispatcher", case_id, "link", **unknown) == "case_not_found"
    case = await full.do("dispatcher", other, "link", other=case_id, kind="duplicate")
    assert case["stage"] == "merged"


# --- after the end -----------------------------------------------------------------------------------------


async def test_a_case_is_reopened_after_its_workflow_has_ended(full: House) -> None:
    case_id = await closed(full)
    assert await refused(full, "ecology-officer", case_id, "reopen", reason="x") == "role_may_not"
    assert await refused(full, "dispatcher", case_id, "dispatch", lead="ecology") == "case_over"
    case = await full.do("town-officer", case_id, "reopen", reason="违建复建")
    assert (case["stage"], len(case["past_closures"])) == ("enforcing", 1)
    await full.do("ecology-officer", case_id, "action", kind="demolition", description="拆", result="已拆")
    await full.do("ecology-officer", case_id, "done", result="完成")
    case = await full.rate(case_id, "ecology")
    assert case["stage"] == "closed"
    assert (await full.get("auditor", f"/cases/{case_id}/audit")).json()["chain_whole"]
    assert await refused(full, "town-officer", case_id, "reopen", reason="x") == "reopen_needs_approval"


@pytest.mark.parametrize("anchored", [True, False])
async def test_an_ended_case_whose_ledger_is_not_what_was_anchored_or_acknowledged_is_not_taken_up_again(
    full: House, *, anchored: bool
) -> None:
    case_id = CaseId(await closed(full))
    if anchored:
        await AnchorKeeper(full.store, SigningKey.new(), None).anchor("sample", datetime.now(UTC))
    await rewritten(full.store, case_id)
    assert await refused(full, "town-officer", case_id, "reopen", reason="违建复建") == "ledger_rewritten"
    assert await stage(full, case_id) == "closed"


async def test_a_case_is_reopened_later_when_the_archive_cannot_be_asked(
    full: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    case_id = await closed(full)
    archive = (tmp_path / "archive").as_uri()
    full.doors.settings = full.doors.settings.model_copy(update={"archive": archive})

    async def away(_: object, under: str) -> list[str]:
        raise OSError(under)

    with monkeypatch.context() as patched:
        patched.setattr(DirectoryArchive, "names", away)
        response = await full.post("town-officer", f"/cases/{case_id}/reopen", {"reason": "违建复建"})
    assert (response.status_code, [each["act"] for each in response.json()["pending_acts"]]) == (
        202,
        ["reopen"],
    )

    async def reopened() -> bool:
        return await stage(full, case_id) == "enforcing"

    await full.until(reopened)


async def test_an_appeal_is_decided_after_the_workflow_has_ended(full: House) -> None:
    case_id = await closed(full)
    appeal = {"about": "rating", "reason": "与事实不符"}
    assert await refused(full, "ecology-officer", case_id, "appeal", **appeal) == "not_your_department"
    assert await refused(full, "ecology-head", case_id, "appeal", about="lateness", reason="x") == "not_late"
    await full.do("ecology-head", case_id, "appeal", **appeal)
    upheld = {"uphold": True, "grade": "basically_satisfied", "reason": "属实", **ABOUT}
    await full.do("supervisor", case_id, "decide-appeal", **upheld)
    assert await refused(full, "supervisor", case_id, "decide-appeal", **upheld) == "same_reviewer"
    case = await full.do("second-supervisor", case_id, "decide-appeal", **upheld)
    rated = case["assignments"][0]
    assert (rated["rating"]["grade"], rated["corrected_rating"]["grade"]) == (
        "satisfied",
        "basically_satisfied",
    )


async def test_a_case_is_reopened_later_when_the_engine_is_away(
    real_server: WorkflowEnvironment, sqlite_store: Store
) -> None:
    policy = district(policy=FULL_POLICY)
    async with open_house(real_server, sqlite_store, within=1.5, district=policy) as house:
        case_id = await closed(house)
        await house.stop_worker()
        response = await house.post("town-officer", f"/cases/{case_id}/reopen", {"reason": "复建"}, key="k")
        assert response.status_code == 202, response.text
        assert [each["act"] for each in response.json()["pending_acts"]] == ["reopen"]
        await house.start_worker()

        async def reopened() -> bool:
            return await stage(house, case_id) == "enforcing"

        await house.until(reopened)
        kinds = [line.kind for line in await house.store.timeline(CaseId(case_id))]
        assert kinds.count("reopened") == 1


async def test_an_act_that_had_arrived_in_an_earlier_run_is_not_told_as_refused_when_it_is_repeated(
    full: House,
) -> None:
    case_id = await closed(full)
    (rated,) = [e for e in await full.store.entries(CaseId(case_id)) if e.event.kind == "rated"]
    await full.do("ecology-head", case_id, "appeal", about="rating", reason="不符")
    await full.do("supervisor", case_id, "decide-appeal", uphold=False, reason="属实", **ABOUT)

    async def ended() -> bool:
        handle = full.doors.cases.client.get_workflow_handle(f"case/{case_id}")
        status = (await handle.describe()).status
        return status is not None and status.name == "COMPLETED"

    async def settled() -> bool:
        return not await full.store.pending_of(CaseId(case_id))

    await full.until(ended)
    by, about = actor(full, "town-officer"), OrganisationCode("ecology")
    again = Rate(by=by, key=rated.key, department=about, grade=Grade.SATISFIED, solved=True)
    for command in (again, Reopen(by=by, key="reopen", reason="x", departments=(OrganisationCode("x"),))):
        await defer(full, case_id, command)
        full.doors.relay.kick()
        await full.until(settled)
        told = [each["title"] for each in (await full.get("town-officer", "/inbox")).json()["items"]]
        assert ("您的操作未被受理" in told) is (command is not again)


# --- newer terms -------------------------------------------------------------------------------------------


async def test_newer_terms_reach_every_running_case_of_the_district(full: House) -> None:
    running, over = await called(full), await closed(full)
    await full.dispatch(running, "ecology")
    watched = await called(full)
    await full.dispatch(watched, "ecology")
    await full.do("ecology-officer", watched, "sign")
    await full.do("ecology-officer", watched, "check-in", officers=[{"name": "王示例"}])
    notice = {"kind": "demolition_notice", "description": "限期", "result": "送达"}
    on = (datetime.now(UTC) + timedelta(days=5)).date().isoformat()
    await full.do("ecology-officer", watched, "action", follow_up_on=on, **notice)
    await full.do("ecology-officer", watched, "done", result="完成")
    await full.rate(watched, "ecology")
    body = {"scope": "policy", "reason": "政策调整"}
    newer = FULL_POLICY.model_copy(update={"version": "sample-9"})
    await full.store.load_district(district(policy=newer), datetime.now(UTC))
    await full.doors.directory.refresh()
    for person in ("town-approver", "leader", "dispatcher"):
        assert problem(await full.post(person, "/policy/adoptions", body), 403) == "role_may_not"
    taken = await full.post("administrator", "/policy/adoptions", body, key="k")
    assert (taken.status_code, taken.json()["cases"]) == (202, 2), taken.text
    assert (await full.post("administrator", "/policy/adoptions", body, key="k")).json() == taken.json()

    async def adopted() -> bool:
        states = [await full.store.case(CaseId(each)) for each in (running, watched)]
        return {state.policy_version for state in states if state} == {"sample-9"}

    await full.until(adopted)
    untouched = await full.store.case(CaseId(over))
    assert untouched is not None
    assert untouched.policy_version == "sample-2"
    assert (await full.post("administrator", "/policy/adoptions", body)).json()["cases"] == 0
    assert (await full.get("administrator", "/inbox")).json()["items"] == []

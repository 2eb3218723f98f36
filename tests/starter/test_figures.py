"""The figures over HTTP, on each kind of database, and on the command line."""

import asyncio
import csv
import io
import json
import os
from typing import Any

import pytest

from adapters.store import Store
from domain.case import Grade
from domain.commands import Rate
from domain.policy import Ranking
from starter.identity import issue
from tests.adapters.test_store import keep
from tests.conftest import BIN
from tests.sample import (
    ECOLOGY,
    FULL_TERMS,
    OTHER_TOWN,
    POLICE,
    POLICY,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    district,
    shanghai,
)
from tests.starter.conftest import SECRET, House
from tests.starter.test_api import problem


async def three_months(store: Store) -> None:
    """Keep a case of February and two of March, one of which nobody answers and nobody is sent."""
    for number, (at, police) in enumerate(
        [("2026-02-04 09:00", Grade.DISSATISFIED), ("2026-03-04 09:00", Grade.BASICALLY_SATISFIED)]
    ):
        play = Play(
            at,
            terms=FULL_TERMS,
            case_id=f"sample-20260331-figure{number}",
            caller=TOWN_APPROVER,
            channel="grid",
        )
        play.dispatch(ECOLOGY, POLICE).sign().check_in().act().done().rate(ECOLOGY)
        play.do(Rate(by=TOWN_OFFICER, department=POLICE, grade=police, solved=True))
        await keep(store, play)
    waiting = Play(
        "2026-03-31 09:00", terms=FULL_TERMS, case_id="sample-20260331-figure2", caller=TOWN_APPROVER
    )
    await keep(store, waiting)


MARCH = {"from": "2026-03-01T00:00:00+08:00", "before": "2026-04-01T00:00:00+08:00"}


async def page(house: House, person: str, path: str = "/figures", **query: str) -> dict[str, Any]:
    """Ask for figures that must come."""
    response = await house.get(person, path, **query)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def test_every_rate_comes_with_its_denominator_for_a_period_and_by_department(
    either_house: House,
) -> None:
    house = either_house
    await three_months(house.store)
    found = await page(house, "coordinator", by="department", **MARCH)
    assert found["total"]["cases"] == 2
    assert found["total"]["satisfaction"] == {"numerator": 1.9, "n": 2, "value": 0.95}
    assert found["total"]["closed"] == {"numerator": 1.0, "n": 2, "value": 0.5}
    assert found["total"]["channels"]["grid"] == {"numerator": 1.0, "n": 2, "value": 0.5}
    assert found["total"]["objection_upheld"] == {"numerator": 0.0, "n": 0, "value": None}
    rows = {row["code"]: row for row in found["rows"]}
    assert [(code, row["name"]) for code, row in rows.items()] == [
        ("", "未派单"),
        ("ecology", "生态环境分局"),
        ("police", "公安分局"),
    ]
    assert rows["police"]["figures"]["satisfaction"] == {"numerator": 0.9, "n": 1, "value": 0.9}
    assert rows["police"]["figures"]["check_in"]["n"] == 1
    assert rows["police"]["ranks"] == {}
    assert found["called_from"] == MARCH["from"]
    everything = await page(house, "coordinator")
    assert (everything["total"]["cases"], everything["rows"]) == (3, [])
    steps = {each["step"]: each for each in everything["total"]["steps"]}
    assert steps["sign"]["gross"] == {"n": 4, "median": 0.0, "p90": 0.0}


@pytest.mark.parametrize(
    ("by", "codes"),
    [
        ("township", ["town"]),
        ("item", [""]),
        ("field", [""]),
        ("channel", ["api", "grid"]),
        ("month", ["2026-02", "2026-03"]),
        ("district", ["sample"]),
    ],
)
async def test_figures_are_told_apart_by_what_one_asks_for(house: House, by: str, codes: list[str]) -> None:
    await three_months(house.store)
    found = await page(house, "dispatcher", by=by)
    assert [row["code"] for row in found["rows"]] == codes
    assert sum(row["figures"]["cases"] for row in found["rows"]) == 3


async def test_who_reads_the_whole_district_reads_its_figures_and_nobody_else(house: House) -> None:
    for person in ("leader", "supervisor", "coordinator", "dispatcher", "auditor"):
        await page(house, person, by="township")
        await page(house, person, "/figures/assessment")
    for person in ("town-officer", "ecology-officer", "police-resident", "citizen", "grid-worker", "channel"):
        assert problem(await house.get(person, "/figures"), 403) == "role_may_not"
        assert problem(await house.get(person, "/figures/assessment"), 403) == "role_may_not"
    assert problem(await house.get("administrator", "/figures"), 403) == "role_may_not"
    assert (
        problem(await house.get("coordinator", "/figures", district="elsewhere"), 404) == "district_not_found"
    )


async def test_the_head_of_an_office_sees_its_own_row_and_no_other(house: House) -> None:
    await three_months(house.store)
    own = await page(house, "police-head", **MARCH)
    assert [row["code"] for row in own["rows"]] == ["police"]
    assert own["total"] == own["rows"][0]["figures"]
    assert own["total"]["satisfaction"]["n"] == 1
    assert own["rating_flags"] == []
    nothing = await page(house, "housing-head")
    assert [(row["code"], row["figures"]["dispatched"]) for row in nothing["rows"]] == [("housing", 0)]
    town = await page(house, "town-approver", by="township")
    assert [(row["code"], row["figures"]["cases"]) for row in town["rows"]] == [("town", 3)]
    for person, by in (
        ("police-head", "township"),
        ("town-approver", "department"),
        ("police-head", "month"),
    ):
        assert problem(await house.get(person, "/figures", by=by), 403) == "role_may_not"
    assert problem(await house.get("town-approver", "/figures/assessment"), 403) == "role_may_not"
    scores = await page(house, "police-head", "/figures/assessment")
    assert {each["department"] for each in scores["departments"]} == {"police"}
    assert {each["department"] for each in scores["resident_units"]} == {"police"}


async def test_the_assessment_names_the_ratings_part_its_weight_and_the_version(house: House) -> None:
    await three_months(house.store)
    found = await page(house, "supervisor", "/figures/assessment", **MARCH)
    police = next(each for each in found["departments"] if each["department"] == "police")
    assert police["rating"] == {"numerator": 0.9, "n": 1, "value": 0.9}
    assert (police["weight"], police["points"], police["imported_weight"]) == (0.3333, 29.997, 0.6667)
    assert police["policy_version"] == POLICY.version
    (unit,) = found["resident_units"]
    assert (unit["department"], unit["township"], unit["weight"], unit["points"]) == (
        "police",
        "town",
        0.6,
        54.0,
    )


async def test_rank_lists_are_shown_where_the_policy_says_so_and_never_of_fewer_than_ten(
    house: House,
) -> None:
    for number in range(10):
        play = Play(
            f"2026-03-04 1{number % 2}:00",
            terms=FULL_TERMS,
            case_id=f"sample-20260304-ranked{number}",
            caller=TOWN_APPROVER,
        )
        await keep(house.store, play.dispatch(ECOLOGY).sign().check_in().act().done().rate())
    unranked = await page(house, "coordinator", by="department")
    assert unranked["rows"][0]["ranks"] == {}
    shown = POLICY.model_copy(update={"version": "sample-ranked", "ranking": Ranking(shown=True)})
    await house.store.load_district(district(policy=shown), shanghai("2026-03-05 09:00"))
    await house.doors.directory.refresh()
    ranked = await page(house, "coordinator", by="department")
    assert ranked["rows"][0]["ranks"] == {"check_in": 1, "on_time": 1, "satisfaction": 1}
    assert {flag["pattern"] for flag in ranked["rating_flags"]} == {"uniform", "too_fast"}
    assert ranked["rating_flags"][0]["ratings"][0]["grade_label"] == "满意"


async def test_a_period_that_is_none_and_a_grouping_that_does_not_exist_are_refused(house: House) -> None:
    backwards = {"from": MARCH["before"], "before": MARCH["from"]}
    assert problem(await house.get("coordinator", "/figures", **backwards), 422) == "empty_period"
    assert problem(await house.get("coordinator", "/figures/assessment", **backwards), 422) == "empty_period"
    assert problem(await house.get("coordinator", "/figures", by="caller"), 422) == "unknown_value"
    assert problem(await house.get("coordinator", "/figures", rank="calls"), 422) == "unknown_field"
    assert problem(await house.get("coordinator", "/figures", before="gestern"), 422) == "malformed_time"


async def test_the_command_line_prints_figures_as_a_table_as_csv_and_as_json(house: House) -> None:
    await three_months(house.store)
    settings = {"SHAODAO_TOKEN": issue("coordinator", secret=SECRET), "COLUMNS": "200"}

    async def say(*arguments: str) -> str:
        asked = ["figures", "--url", house.url, "--by", "department", *arguments]
        running = await asyncio.create_subprocess_exec(
            str(BIN / "shaodao"), *asked, env={**os.environ, **settings}, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await running.communicate()
        assert running.returncode == 0
        return said.decode()

    table = await say("--from", "2026-03-01", "--before", "2026-04-01")
    assert "生态环境分局" in table
    assert "合计" in table
    assert "95.0%(2)" in table
    assert "—(0)" in table
    lines = list(csv.DictReader(io.StringIO(await say("--format", "csv"))))
    assert [line["名称"] for line in lines] == ["未派单", "生态环境分局", "公安分局", "合计"]
    assert (lines[2]["满意率"], lines[2]["满意率·分子"], lines[2]["满意率·分母"]) == ("0.45", "0.9", "2")
    assert lines[0]["满意率"] == ""
    found = json.loads(await say("--format", "json", "--before", "2026-03-01"))
    assert found["total"]["cases"] == 1
    assert OTHER_TOWN not in {row["code"] for row in found["rows"]}

"""The responsibility list at the doors: HTTP and the command line."""

import asyncio
import random
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adapters.catalogue_files import COLUMNS, table_of
from adapters.district import read_district, read_items, version_of
from adapters.store import Store
from bench.catalogue import many_items
from bench.catalogue import run as measure
from domain.case import OrganisationCode
from domain.district import District, Item
from domain.policy import LimitClass
from starter.cli import app
from tests.sample import district
from tests.starter.conftest import House
from tests.starter.test_api import problem

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "districts" / "yicheng"
NEW = "sample-2/22222222"


def two_items() -> tuple[Item, ...]:
    """Return the sample's list with another lead and one item more."""
    old = district().items[0]
    straw = {"code": "straw", "name": "露天焚烧秸秆", "keywords": ("秸秆",), "evidence": ("照片",)}
    return (
        old.model_copy(update={"primary": OrganisationCode("market"), "limit_class": LimitClass.SIMPLE}),
        old.model_copy(update={**straw, "cooperating": (), "field": "农业农村"}),
    )


async def load_new(house: House) -> None:
    """Load the new list, and let the door know."""
    await house.store.load_catalogue("sample", two_items(), NEW, datetime.now(UTC))
    await house.doors.directory.refresh()


async def codes(house: House, **query: Any) -> list[str]:
    """Return the codes of the items that the query finds."""
    answer = (await house.get("town-officer", "/catalogue/items", **query)).json()
    return [item["code"] for item in answer["items"]]


# --- HTTP --------------------------------------------------------------------------------------------------


async def test_items_are_listed_with_the_words_that_people_read(house: House) -> None:
    answer = (await house.get("town-officer", "/catalogue/items")).json()
    assert (answer["version"], len(answer["items"])) == ("sample-1", len(district().items))
    item = answer["items"][0]
    assert (item["primary_name"], item["cooperating_names"]) == ("生态环境分局", ["公安分局"])
    assert (item["category_label"], item["limit_class_label"]) == ("执法", "疑难")
    assert (item["score"], item["matched"]) == (None, [])


async def test_items_are_found_by_field_department_and_words_with_a_slip(house: House) -> None:
    await load_new(house)
    assert await codes(house) == ["paper-mill", "straw"]
    assert await codes(house, field="农业农村") == ["straw"]
    assert await codes(house, department="police") == ["paper-mill"]
    assert await codes(house, department="ecology", text="秸杆") == ["straw"]
    assert await codes(house, department="police", text="秸杆") == []
    assert await codes(house, limit=1) == ["paper-mill"]
    found = (await house.get("town-officer", "/catalogue/items", text="造纸广排污")).json()["items"][0]
    assert found["code"] == "paper-mill"
    assert 0 < found["score"] < 100
    assert found["matched"] == [{"column": "name", "text": "小造纸厂排污", "how": "near"}]


async def test_a_call_in_the_callers_words_is_answered_with_likely_items(house: House) -> None:
    await load_new(house)
    asked = {"text": "地里有人烧秸秆,浓烟滚滚"}
    answer = (await house.get("town-officer", "/catalogue/suggestions", **asked)).json()
    assert [item["code"] for item in answer["items"]] == ["straw"]
    nothing = (await house.get("town-officer", "/catalogue/suggestions", text="今天天气很好")).json()
    assert nothing["items"] == []


async def test_every_version_can_be_read_and_two_be_compared(house: House) -> None:
    await load_new(house)
    listed = (await house.get("town-officer", "/catalogue/versions")).json()["items"]
    assert [(each["version"], each["current"], each["items"]) for each in listed] == [
        (NEW, True, 2),
        ("sample-1", False, len(district().items)),
    ]
    assert await codes(house, version="sample-1") == [item.code for item in district().items]
    old = (await house.get("town-officer", "/catalogue/items/paper-mill", version="sample-1")).json()
    new = (await house.get("town-officer", "/catalogue/items/paper-mill")).json()
    assert (old["item"]["primary"], new["item"]["primary"]) == ("ecology", "market")
    query = {"from": "sample-1"}
    told = (await house.get("town-officer", "/catalogue/diff", **query)).json()
    assert (told["from_version"], told["to_version"]) == ("sample-1", NEW)
    assert [item["code"] for item in told["difference"]["added"]] == ["straw"]
    assert told["difference"]["changed"][0]["changes"] == [
        {"column": "primary", "old": "ecology", "new": "market"},
        {"column": "limit_class", "old": "hard", "new": "simple"},
    ]


async def test_a_case_opened_under_an_older_list_is_dispatched_by_it(house: House) -> None:
    case_id = await house.call(item_code="paper-mill")
    await load_new(house)
    later = await house.call(item_code="paper-mill")
    for each, lead in ((case_id, "ecology"), (later, "market")):
        case = await house.do("dispatcher", each, "dispatch")
        assert next(one["department"] for one in case["assignments"] if one["role"] == "lead") == lead


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
async def test_what_is_exported_can_be_loaded_again(house: House, tmp_path: Path, kind: str) -> None:
    await load_new(house)
    response = await house.get("town-officer", "/catalogue/export", format=kind)
    assert response.status_code == 200
    assert f"catalogue-sample.{kind}" in response.headers["content-disposition"]
    path = tmp_path / f"list.{kind}"
    path.write_bytes(response.content)
    assert read_items(path) == two_items()
    assert kind != "csv" or response.content.startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/items?nonsense=1", 422, "unknown_field"),
        ("/items?limit=0", 422, "invalid_field"),
        ("/items?text=" + "x" * 101, 422, "invalid_field"),
        ("/items?text=%00", 422, "invalid_field"),
        ("/items?department=navy", 422, "unknown_department"),
        ("/items?version=sample-9", 404, "unknown_version"),
        ("/items?version=%00", 422, "invalid_field"),
        ("/items?district=elsewhere", 404, "district_not_found"),
        ("/items/nothing", 404, "unknown_item"),
        ("/items/paper-mill?version=sample-9", 404, "unknown_version"),
        ("/suggestions", 422, "missing_field"),
        ("/suggestions?text=", 422, "invalid_field"),
        ("/suggestions?text=x&limit=21", 422, "invalid_field"),
        ("/diff", 422, "missing_field"),
        ("/diff?from=sample-9", 404, "unknown_version"),
        ("/diff?from=sample-1&to=sample-9", 404, "unknown_version"),
        ("/export?format=pdf", 422, "unknown_value"),
        ("/versions?district=elsewhere", 404, "district_not_found"),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused_in_chinese(
    house: House, path: str, status: int, code: str
) -> None:
    response = await house.client.get(f"/api/v1/catalogue{path}", headers=house.headers("town-officer"))
    assert problem(response, status) == code
    assert any("\u4e00" <= sign <= "\u9fff" for sign in response.json()["detail"])


async def test_nobody_reads_the_list_without_a_token(house: House) -> None:
    for path in ("items", "items/x", "suggestions?text=x", "versions", "diff?from=x", "export"):
        assert (await house.client.get(f"/api/v1/catalogue/{path}")).status_code == 401


# --- command line ------------------------------------------------------------------------------------------


@pytest.fixture
def installed(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The sample, loaded; the command line finds it."""
    monkeypatch.setenv("SHAODAO_DATABASE_URL", database_url)
    monkeypatch.setenv("SHAODAO_SECRET", "x" * 40)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    assert shaodao("district", "load", str(SAMPLE))[0] == 0
    return database_url


def shaodao(*arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its status and what it said."""
    result = CliRunner().invoke(app, list(arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.output


def changed(tmp_path: Path, column: str, value: str, *, name: str = "changed.csv") -> Path:
    """Return a file with the sample's list in which the first item's column says something else."""
    path = tmp_path / name
    assert shaodao("catalogue", "export", str(path), "--in", str(SAMPLE))[0] == 0
    before = table_of(read_items(SAMPLE)[:1])[1][COLUMNS.index(column)]
    path.write_text(path.read_text("utf-8").replace(before, value, 1), "utf-8")
    return path


def stored(url: str) -> tuple[str, int]:
    """Return the stored list's version and length."""

    async def read() -> tuple[str, int]:
        store = Store(url)
        (standing,) = await store.standing_districts()
        await store.close()
        found = District.model_validate_json(standing.document)
        return found.catalogue_version, len(found.items)

    return asyncio.run(read())


@pytest.mark.usefixtures("installed")
def test_the_list_is_searched_and_suggested_from_on_the_command_line() -> None:
    status, said = shaodao("catalogue", "search", "散乱屋")
    assert status == 0
    assert "scattered-polluters" in said
    status, said = shaodao("catalogue", "suggest", "楼上装修把承重墙砸了", "--in", str(SAMPLE))
    assert status == 0
    assert "load-bearing-doorway" in said
    assert shaodao("catalogue", "search", "云计算")[0] == 1
    status, said = shaodao("catalogue", "search", "秸秆", "--district", "elsewhere")
    assert (status, "yicheng" in said) == (1, True)


def test_only_the_list_is_replaced_and_its_versions_stay(installed: str, tmp_path: Path) -> None:
    before = read_district(SAMPLE)
    path = changed(tmp_path, "name", "散乱污整治[新]")
    status, said = shaodao("catalogue", "load", str(path), "--district", "yicheng", "--label", "示例-2")
    assert status == 0, said
    assert "散乱污整治[新]" in said
    version = version_of("示例-2", read_items(path))
    assert stored(installed) == (version, 105)
    status, said = shaodao("catalogue", "versions")
    assert before.catalogue_version in said
    assert version in said
    status, said = shaodao("catalogue", "diff", before.catalogue_version)
    assert (status, "修改 1 项" in said) == (0, True)
    assert "内容相同" in shaodao("catalogue", "diff", version, str(path))[1]
    status, said = shaodao(
        "catalogue", "export", str(tmp_path), "--format", "xlsx", "--in", before.catalogue_version
    )
    assert (status, read_items(tmp_path / "catalogue.xlsx")) == (0, before.items)
    status, said = shaodao("catalogue", "load", str(tmp_path / "catalogue.xlsx"), "--label", "示例-2026.1")
    assert stored(installed) == (before.catalogue_version, 105)


def test_a_list_with_a_mistake_is_not_loaded_and_the_mistake_is_named(installed: str, tmp_path: Path) -> None:
    before = stored(installed)
    path = changed(tmp_path, "primary", "navy")
    path.write_text(path.read_text("utf-8").replace(",enforcement,“", ",law,“", 1), "utf-8")
    for command in (("load", str(path)), ("check", str(path), "--organisations", str(SAMPLE))):
        status, said = shaodao("catalogue", *command)
        assert status == 1
        assert "changed.csv 第 2 行 category 列" in said
    assert stored(installed) == before
    status, said = shaodao("catalogue", "check", str(path))
    assert "未装载" in said
    assert shaodao("catalogue", "check", str(SAMPLE))[0] == 0


@pytest.mark.usefixtures("installed")
def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    alone = tmp_path / "alone.csv"
    assert shaodao("catalogue", "export", str(alone))[0] == 0
    status, said = shaodao("catalogue", "check", str(alone))
    assert (status, "没有核对部门编号" in said) == (0, True)
    for label in ("", " ", "a\nb", "x" * 101):
        assert shaodao("catalogue", "load", str(alone), "--label", label)[0] == 2
    assert shaodao("catalogue", "export", str(tmp_path / "x.pdf"), "--format", "pdf")[0] == 2
    assert shaodao("catalogue", "export", str(tmp_path / "nowhere" / "x.csv"))[0] == 1
    status, said = shaodao("catalogue", "diff", "no-such-version")
    assert (status, "shaodao catalogue versions" in said) == (1, True)


def test_the_commands_of_the_page_for_administrators_work_as_they_stand(
    installed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "districts.md").read_text("utf-8")
    written = re.findall(r"^shaodao (catalogue .*?)\s*(?:#.*)?$", page, re.MULTILINE)
    assert len(written) == 7
    (tmp_path / "districts").symlink_to(ROOT / "districts")
    monkeypatch.chdir(tmp_path)
    for command in written:
        status, said = shaodao(*command.split())
        assert status == 0, (command, said)
    assert stored(installed)[0].startswith("示例-2026.2/")


def test_the_measuring_of_search_runs(capsys: pytest.CaptureFixture[str]) -> None:
    measure(count=300, each=3)
    said = capsys.readouterr().out
    for words in ("catalogue of 300 items", "one letter missing", "difflib", "ratio"):
        assert words in said


def test_the_items_that_are_measured_are_as_many_as_wanted_and_differ() -> None:
    items = many_items(read_items(SAMPLE), 10_000, random.Random(1))  # noqa: S311 - the same items every time
    assert len({item.code for item in items}) == len({item.name for item in items}) == 10_000

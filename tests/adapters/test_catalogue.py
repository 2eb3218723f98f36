"""The list as a file and in the store: what is written is read back, and every version stays what it was."""

import csv
import io
import shutil
from collections import Counter
from pathlib import Path

import pytest
import xlsxwriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from python_calamine import CalamineWorkbook

from adapters.catalogue_files import COLUMNS, FORMATS, csv_of, neutralised, plain, table_of, xlsx_of
from adapters.district import DistrictInvalid, read_items, read_organisations, version_of
from adapters.store import NotFound, Store
from domain.case import Category, OrganisationCode
from domain.catalogue import Index
from domain.district import District, Item
from domain.errors import Invalid
from domain.policy import LimitClass
from tests.sample import district, shanghai

SAMPLE = Path(__file__).parent.parent.parent / "districts" / "yicheng"
NOW, LATER = shanghai("2026-03-04 09:00"), shanghai("2026-03-05 09:00")


def problems(path: Path, *, organisations: Path | None = SAMPLE) -> list[str]:
    """Return what is wrong, as people read it."""
    with pytest.raises(DistrictInvalid) as invalid:
        read_items(path, read_organisations(organisations) if organisations else None)
    return [str(problem) for problem in invalid.value.problems]


# --- the sample --------------------------------------------------------------------------------------------


def test_the_sample_has_105_items_fifteen_in_each_of_seven_fields() -> None:
    items = read_items(SAMPLE, read_organisations(SAMPLE))
    assert len({item.code for item in items}) == len({item.name for item in items}) == 105
    assert set(Counter(item.field for item in items).values()) == {15}
    assert {"自然资源", "生态环境", "城乡建设", "综合执法"} < {item.field for item in items}
    for item in items:
        assert item.note == "示例"
        assert all((item.township_duty, item.basis, item.closing_condition, item.evidence, item.keywords)), (
            item
        )
        assert item.flow[0] == "镇街吹哨", item
        assert item.flow[-1] == "镇街评价", item
        assert item.basis.startswith("《"), item


def test_every_keyword_of_the_sample_finds_its_items_among_the_first() -> None:
    items = read_items(SAMPLE)
    index = Index(items)
    for item in items:
        for word in (item.name, *item.keywords):
            same = sum(word in (each.name, *each.keywords) for each in items)
            assert item in [hit.item for hit in index.search(word, 20 + same)], (item.code, word)
        assert index.search(item.name, 1)[0].item == item


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("辖区内有非法畜牧养殖厂、小造纸厂、小颗粒厂,乱排乱放,业主拒不执行关停通知", "scattered-polluters"),
        ("君山路一处多年违建", "illegal-building"),
        ("网格员巡查发现居民私开门洞,破坏承重墙", "load-bearing-doorway"),
        ("玉米地里有人烧秸杆,浓烟滚滚", "straw-burning"),
        ("包工头拖欠农民工工资跑了", "migrant-wages"),
        ("学校门口小卖部卖烟给学生", "campus-surroundings"),
        ("小区楼道里给电瓶车飞线充电", "ebike-charging"),
        ("有个黑诊所给人打吊针", "unlicensed-clinic"),
    ],
)
def test_what_the_stories_tell_suggests_the_item_that_they_were_dealt_with_under(
    text: str, code: str
) -> None:
    assert Index(read_items(SAMPLE)).suggest(text)[0].item.code == code


# --- files -------------------------------------------------------------------------------------------------

CELL = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="\ufffe\uffff")
    | st.sampled_from("=+-@'\"\n,_x"),
    max_size=30,
).map(str.strip)
FORMULA = st.sampled_from(
    ("=1+1", "+1", "-1", "@SUM(A1)", "'=1", "''@x", "\N{FULLWIDTH EQUALS SIGN}1", "_x0041_")
)
TEXT = CELL | FORMULA
NAMES = st.lists(
    TEXT.map(
        lambda text: "".join(sign for sign in text if sign not in ";、\n\N{FULLWIDTH SEMICOLON}").strip()
    ).filter(bool),
    max_size=3,
).map(tuple)
ITEM = st.builds(
    Item,
    code=st.from_regex(r"[a-z0-9][a-z0-9_-]{0,39}", fullmatch=True),
    field=TEXT.filter(bool),
    category=st.sampled_from(Category),
    name=TEXT.filter(bool),
    keywords=NAMES,
    primary=st.just(OrganisationCode("ecology")),
    cooperating=st.sampled_from([(), (OrganisationCode("police"), OrganisationCode("market"))]),
    township_duty=TEXT,
    basis=TEXT,
    limit_class=st.sampled_from(LimitClass),
    closing_condition=TEXT,
    evidence=NAMES,
    flow=NAMES,
    note=TEXT,
)
ITEMS = st.lists(ITEM, min_size=1, max_size=4, unique_by=lambda item: item.code).map(tuple)


@given(ITEMS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60)
def test_csv_to_xlsx_to_csv_keeps_every_cell(tmp_path: Path, items: tuple[Item, ...]) -> None:
    first, book = tmp_path / "first.csv", tmp_path / "book.xlsx"
    first.write_bytes(csv_of(items))
    assert read_items(first) == items
    book.write_bytes(xlsx_of(read_items(first)))
    assert read_items(book) == items
    assert csv_of(read_items(book)) == first.read_bytes()


@given(TEXT)
def test_no_cell_of_a_csv_begins_as_a_formula_and_each_is_read_as_it_was(cell: str) -> None:
    assert not neutralised(cell).startswith(("=", "+", "-", "@"))
    assert plain(neutralised(cell)) == cell


def test_a_workbook_holds_text_only_and_a_csv_is_marked_as_utf_8(tmp_path: Path) -> None:
    item = read_items(SAMPLE)[0].model_copy(
        update={"note": '=HYPERLINK("http://example.org")', "basis": "007"}
    )
    path = tmp_path / "book.xlsx"
    path.write_bytes(xlsx_of([item]))
    sheet = CalamineWorkbook.from_path(path).get_sheet_by_name("catalogue")
    assert sheet.to_python()[1] == table_of([item])[1]
    assert csv_of([item]).startswith(b"\xef\xbb\xbf")
    rows = list(csv.reader(io.StringIO(csv_of([item]).decode("utf-8-sig"))))
    assert rows[0] == list(COLUMNS)
    assert rows[1][-1].startswith("'=")


def test_the_sample_comes_back_from_either_format(tmp_path: Path) -> None:
    for kind, written in FORMATS.items():
        path = tmp_path / f"list.{kind}"
        path.write_bytes(written(read_items(SAMPLE)))
        assert read_items(path, read_organisations(SAMPLE)) == read_items(SAMPLE)


def test_a_workbook_of_one_sheet_may_call_it_anything_and_of_several_must_name_it(tmp_path: Path) -> None:
    def workbook(*sheets: str) -> Path:
        path = tmp_path / f"{len(sheets)}.xlsx"
        with xlsxwriter.Workbook(path) as book:
            for name in sheets:
                sheet = book.add_worksheet(name)
                for number, row in enumerate(table_of(read_items(SAMPLE))):
                    sheet.write_row(number, 0, row)
        return path

    assert read_items(workbook("事项")) == read_items(SAMPLE)
    assert "没有名为 catalogue 的工作表" in problems(workbook("事项", "说明"))[0]


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("primary", "nobody", "list.csv 第 3 行 primary 列:“nobody”不是 organisations 中的部门。"),
        ("cooperating", "eshan", "list.csv 第 3 行 cooperating 列"),
        ("code", "scattered-polluters", "list.csv 第 3 行 code 列:编号“scattered-polluters”重复。"),
        ("name", "长" * 101, "list.csv 第 3 行 name 列:不能超过 100 字,现有 101 字。"),
        ("basis", "法\x07律", "list.csv 第 3 行 basis 列:含有控制字符"),
        ("category", "law", "list.csv 第 3 行 category 列"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_a_mistake_in_a_list_is_named_by_file_row_and_column(
    tmp_path: Path, column: str, value: str, told: str, kind: str
) -> None:
    rows = table_of(read_items(SAMPLE))
    rows[2][COLUMNS.index(column)] = value
    path = tmp_path / f"list.{kind}"
    if kind == "csv":
        with path.open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows(rows)
    else:
        with xlsxwriter.Workbook(path) as book:
            sheet = book.add_worksheet("catalogue")
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    found = problems(path)
    assert any(each.startswith(told.replace("list.csv", path.name)) for each in found), found


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("list.csv", b"", "list.csv 第 1 行 code 列:缺少该列。"),
        ("list.csv", ",".join(COLUMNS).encode(), "没有任何事项"),
        ("list.csv", ",".join((*COLUMNS, "name")).encode(), "list.csv 第 1 行 name 列:列名重复。"),
        ("list.csv", b"code\n" + b"x" * 200_000, "list.csv 第 2 行:无法读取"),
        ("list.csv", "编号".encode("gb18030"), "不是 UTF-8 编码"),
        ("list.xlsx", b"PK nothing", "list.xlsx:不是有效的 .xlsx 文件。"),
    ],
)
def test_a_file_that_is_no_list_is_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert any(told in each for each in problems(path)), problems(path)


def test_a_file_that_is_not_there_is_named_and_departments_are_left_unchecked_without_offices(
    tmp_path: Path,
) -> None:
    assert "没有该文件" in problems(tmp_path / "nothing.csv")[0]
    rows = table_of(read_items(SAMPLE)[:1])
    rows[1][COLUMNS.index("primary")] = "elsewhere"
    path = tmp_path / "list.csv"
    path.write_text("\n".join(",".join(f'"{cell}"' for cell in row) for row in rows), "utf-8")
    assert read_items(path)[0].primary == "elsewhere"
    assert problems(path)


def test_offices_with_mistakes_are_named_before_the_list_is_looked_at(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SAMPLE, tmp_path / "copy"))
    path = folder / "organisations.csv"
    path.write_text(path.read_text("utf-8").replace("department", "bureau"), "utf-8")
    with pytest.raises(DistrictInvalid):
        read_organisations(folder)


def test_other_content_under_the_same_label_is_another_version() -> None:
    items = read_items(SAMPLE)
    assert version_of("2026", items) == version_of("2026", read_items(SAMPLE))
    assert version_of("2026", items) != version_of("2026", items[1:])


# --- the store ---------------------------------------------------------------------------------------------


def changed_items() -> tuple[Item, ...]:
    """Return the sample's list with another lead."""
    return tuple(
        item.model_copy(update={"primary": OrganisationCode("market"), "evidence": ("照片", "文书")})
        for item in district().items
    )


async def loaded(store: Store) -> District:
    """Return the sample as it stands."""
    (standing,) = await store.standing_districts()
    assert standing.wrong == ""
    return District.model_validate_json(standing.document)


async def test_every_version_stays_what_it_was(store: Store) -> None:
    before = district()
    await store.load_district(before, NOW)
    await store.load_catalogue(before.code, changed_items(), "sample-2", LATER)
    after = await loaded(store)
    assert (after.items, after.catalogue_version) == (changed_items(), "sample-2")
    assert after.model_copy(update={"items": before.items, "catalogue_version": "sample-1"}) == before
    assert await store.catalogue(before.code, "sample-1") == before.items
    assert await store.catalogue(before.code, "sample-2") == changed_items()
    assert await store.catalogue(before.code, "sample-3") is None
    assert await store.catalogue("elsewhere", "sample-1") is None
    versions = await store.catalogue_versions(before.code)
    assert [(each.version, each.items, each.loaded_at) for each in versions] == [
        ("sample-2", len(before.items), LATER),
        ("sample-1", len(before.items), NOW),
    ]


async def test_going_back_to_an_older_version_makes_no_new_one(store: Store) -> None:
    before = district()
    await store.load_district(before, NOW)
    await store.load_catalogue(before.code, changed_items(), "sample-2", LATER)
    await store.load_catalogue(before.code, before.items, "sample-1", LATER)
    assert (await loaded(store)).items == before.items
    assert {each.version: each.loaded_at for each in await store.catalogue_versions(before.code)} == {
        "sample-1": NOW,
        "sample-2": LATER,
    }


async def test_a_list_with_a_department_that_the_district_does_not_have_is_not_loaded(store: Store) -> None:
    await store.load_district(district(), NOW)
    stranger = district().items[0].model_copy(update={"cooperating": (OrganisationCode("navy"),)})
    with pytest.raises(Invalid, match="unknown_department"):
        await store.load_catalogue(district().code, (stranger,), "sample-2", LATER)
    assert await loaded(store) == district()
    assert [each.version for each in await store.catalogue_versions(district().code)] == ["sample-1"]
    with pytest.raises(NotFound):
        await store.load_catalogue("elsewhere", district().items, "sample-2", LATER)

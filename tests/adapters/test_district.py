"""A district's folder is taken whole, or every mistake in it is named with file, row and column."""

import csv
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import xlsxwriter

from adapters.district import DistrictInvalid, read_district
from domain.case import Role
from starter.demo import stories

SAMPLE = Path(__file__).parent.parent.parent / "districts" / "yicheng"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the sample that may be spoiled."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "yicheng"))


def spoil(folder: Path, file: str, change: Callable[[list[list[str]]], None]) -> None:
    """Change a table."""
    path = folder / file
    rows = list(csv.reader(path.read_text("utf-8").splitlines()))
    change(rows)
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows)


def problems(folder: Path) -> list[str]:
    """Return what is wrong, as people read it."""
    with pytest.raises(DistrictInvalid) as invalid:
        read_district(folder)
    return [str(problem) for problem in invalid.value.problems]


def test_nobody_who_comes_in_the_stories_has_the_name_of_somebody_else_in_the_sample() -> None:
    come = {name for story in stories(datetime.now(UTC)) for work in story.works for name in work.officers}
    assert come
    assert come.isdisjoint(person.name for person in read_district(SAMPLE).people)


def test_the_sample_has_everybody_and_everything_that_the_stories_need() -> None:
    district = read_district(SAMPLE)
    assert (district.code, district.name) == ("yicheng", "峄城区")
    assert {post.role for person in district.people for post in person.posts} == set(Role)
    items = {item.code: item for item in district.items}
    assert len({item.field for item in district.items}) == 7
    story = items["scattered-polluters"]
    assert (story.primary, story.cooperating) == (
        "ecology",
        ("enforcement", "police", "market", "natural_resources"),
    )
    assert items["illegal-building"].primary == "enforcement"
    assert set(items["load-bearing-doorway"].cooperating) == {"market", "police"}
    assert all(item.note == "示例" for item in district.items)
    assert district.policy.limits.check_in.cut_off.isoformat() == "15:30:00"
    assert any(post.city for person in district.people for post in person.posts)


def test_a_byte_order_mark_does_no_harm(folder: Path) -> None:
    path = folder / "people.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_district(folder).people == read_district(SAMPLE).people


def test_the_same_tables_in_a_workbook_give_the_same_district(folder: Path) -> None:
    book = xlsxwriter.Workbook(folder / "district.xlsx")
    for name in ("organisations", "people", "catalogue"):
        sheet = book.add_worksheet(name)
        for number, row in enumerate(csv.reader((folder / f"{name}.csv").read_text("utf-8").splitlines())):
            for column, cell in enumerate(row):
                if name == "people" and cell.isdigit():
                    sheet.write_number(number, column, int(cell))
                else:
                    sheet.write_string(number, column, cell)
        (folder / f"{name}.csv").unlink()
    book.close()
    assert read_district(folder) == read_district(SAMPLE)


def test_a_folder_with_nothing_in_it_names_every_missing_file(tmp_path: Path) -> None:
    found = problems(tmp_path)
    for file in ("organisations.csv", "people.csv", "catalogue.csv", "policy.toml"):
        assert any(each.startswith(file) and "缺少该文件" in each for each in found)


@pytest.mark.parametrize(
    ("file", "row", "column", "value", "told"),
    [
        ("organisations.csv", 1, "code", "Eshan Town", "organisations.csv 第 2 行 code 列"),
        ("organisations.csv", 1, "name", "", "organisations.csv 第 2 行 name 列:不能为空"),
        ("organisations.csv", 1, "kind", "village", "organisations.csv 第 2 行 kind 列"),
        ("organisations.csv", 9, "tier", "", "organisations.csv 第 10 行 tier 列"),
        ("organisations.csv", 2, "code", "eshan", "organisations.csv 第 3 行 code 列:编号“eshan”重复"),
        ("people.csv", 1, "role", "boss", "people.csv 第 2 行 role 列"),
        ("people.csv", 1, "organisation", "nowhere", "people.csv 第 2 行 organisation 列"),
        ("people.csv", 1, "organisation", "police", "people.csv 第 2 行 organisation 列"),
        ("people.csv", 1, "on_duty", "perhaps", "people.csv 第 2 行 on_duty 列"),
        ("people.csv", 1, "township", "eshan", "people.csv 第 2 行 township 列"),
        ("catalogue.csv", 1, "primary", "nobody", "catalogue.csv 第 2 行 primary 列"),
        ("catalogue.csv", 1, "cooperating", "ecology", "catalogue.csv 第 2 行 cooperating 列"),
        ("catalogue.csv", 1, "limit_class", "slow", "catalogue.csv 第 2 行 limit_class 列"),
        ("catalogue.csv", 1, "category", "", "catalogue.csv 第 2 行 category 列:不能为空"),
    ],
)
def test_each_mistake_is_named_where_it_stands(
    folder: Path, file: str, row: int, column: str, value: str, told: str
) -> None:
    def change(rows: list[list[str]]) -> None:
        rows[row][rows[0].index(column)] = value

    spoil(folder, file, change)
    assert any(told in each for each in problems(folder)), problems(folder)


def test_all_mistakes_are_named_at_once(folder: Path) -> None:
    spoil(folder, "people.csv", lambda rows: rows[1].__setitem__(3, "boss"))
    spoil(folder, "catalogue.csv", lambda rows: rows[3].__setitem__(9, "slow"))
    (folder / "policy.toml").write_text(
        (folder / "policy.toml").read_text("utf-8").replace("minutes = 15", "weeks = 2"), "utf-8"
    )
    found = problems(folder)
    for told in ("people.csv 第 2 行", "catalogue.csv 第 4 行", "policy.toml limits"):
        assert any(told in each for each in found), found
    assert not any("Input should" in each for each in found)


def test_offices_without_the_people_whom_the_mechanism_needs_are_named(folder: Path) -> None:
    def without_ecology(rows: list[list[str]]) -> None:
        rows[:] = [row for row in rows if row[2] != "ecology"]

    spoil(folder, "people.csv", without_ecology)
    found = problems(folder)
    assert sum("ecology" in each for each in found) == 3


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('version = "yicheng-2026.2"', "version = ", "不是有效的 TOML"),
        ("[district]", "[nothing]", "district.name"),
        ('["13:30", "17:30"]', '["11:30", "17:30"]', "office.hours"),
        ("years = [2025, 2026, 2027]", 'years = "2026"', "calendar.years"),
        ("level = 2", "level = 1", "逐级递增"),
        ("complex = { working_days = 15 }", "", "时限类别"),
    ],
)
def test_a_policy_that_makes_no_sense_is_named_by_its_key(
    folder: Path, old: str, new: str, told: str
) -> None:
    path = folder / "policy.toml"
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    assert any(told in each for each in problems(folder)), problems(folder)


def test_a_table_that_is_not_utf_8_or_has_other_columns_is_named(folder: Path) -> None:
    (folder / "people.csv").write_bytes("编号,姓名".encode("gb18030"))
    spoil(folder, "catalogue.csv", lambda rows: rows[0].__setitem__(0, "kode"))
    found = problems(folder)
    assert any("UTF-8" in each for each in found)
    assert any("catalogue.csv 第 1 行 code 列:缺少该列" in each for each in found)
    assert any("catalogue.csv 第 1 行 kode 列:没有这个列名" in each for each in found)


SPECIAL = """
[[calendar.special]]
date = 2026-07-25
kind = "emergency"
reason = "防汛一级应急响应"
hours = [["00:00", "24:00"]]

[[calendar.special]]
date = "2026-07-15"
kind = "off"
reason = "本地放假"
"""


def add_special_days(folder: Path, tables: str) -> None:
    """Put tables behind the calendar's own keys."""
    path = folder / "policy.toml"
    path.write_text(path.read_text("utf-8").replace("[office]", f"{tables}\n[office]"), "utf-8")


def test_special_days_are_read_and_show_in_the_calendars_version(folder: Path) -> None:
    add_special_days(folder, SPECIAL)
    calendar = read_district(folder).calendar
    assert [(day.on.isoformat(), day.kind, day.reason) for day in calendar.special_days] == [
        ("2026-07-15", "off", "本地放假"),
        ("2026-07-25", "emergency", "防汛一级应急响应"),
    ]
    assert calendar.special_days[1].hours == ((timedelta(0), timedelta(hours=24)),)
    assert calendar.version.startswith(read_district(SAMPLE).calendar.version + "/special-")
    assert read_district(SAMPLE).calendar.special_days == ()


def test_the_example_in_the_documents_is_right(folder: Path) -> None:
    document = (SAMPLE.parent.parent / "docs" / "districts.md").read_text("utf-8")
    _, _, rest = document.partition("```toml\n")
    example, _, _ = rest.partition("```")
    add_special_days(folder, example)
    assert [day.kind for day in read_district(folder).calendar.special_days] == [
        "off",
        "working",
        "emergency",
    ]


def test_every_mistake_in_special_days_is_named_by_position_and_key_all_at_once(folder: Path) -> None:
    path = folder / "policy.toml"
    path.write_text(path.read_text("utf-8").replace('"13:30"', '"11:30"'), "utf-8")
    add_special_days(
        folder,
        SPECIAL
        + """
[[calendar.special]]
date = "2026-07-32"
kind = "holiday"
reason = " "

[[calendar.special]]
date = 2026-07-15
kind = "off"
reason = "重复"

[[calendar.special]]
date = 2062-07-20
reason = "年份"
hour = "08:30"

[[calendar.special]]
date = 2026-07-20
kind = "off"
reason = "放假却有办公时段"
hours = [["08:30", "12:00"]]

[[calendar.special]]
date = 20260721
kind = "working"
reason = "时段颠倒"
hours = [["13:30", "12:00"]]

[[calendar.special]]
date = 2026-07-22T00:00:00
hours = [["8:30", "24:30"]]
""",
    )
    assert problems(folder) == [
        'policy.toml office.hours 列:应为先后有序、互不重叠的时段,例如 [["08:30", "12:00"], ["13:30", "17:30"]]。',
        "policy.toml calendar.special 第 3 项 date 列:应为日期,例如 2026-07-20。",
        "policy.toml calendar.special 第 3 项 kind 列:应为 off(放假)、working(上班)或 emergency(应急)。",
        "policy.toml calendar.special 第 3 项 reason 列:请写明原因。",
        "policy.toml calendar.special 第 4 项 date 列:2026-07-15 重复,同一天只能有一项。",
        "policy.toml calendar.special 第 5 项 hour 列:没有这一项,只有 date、kind、reason、hours。",
        "policy.toml calendar.special 第 5 项 date 列:2062-07-20 不在 calendar.years 所列年份之内。",
        "policy.toml calendar.special 第 5 项 kind 列:应为 off(放假)、working(上班)或 emergency(应急)。",
        "policy.toml calendar.special 第 6 项 hours 列:放假(off)的日子不能有办公时段。",
        "policy.toml calendar.special 第 7 项 date 列:应为日期,例如 2026-07-20。",
        "policy.toml calendar.special 第 7 项 hours 列:办公时段须先后有序、互不重叠。",
        "policy.toml calendar.special 第 8 项 date 列:应为日期,例如 2026-07-20。",
        "policy.toml calendar.special 第 8 项 kind 列:应为 off(放假)、working(上班)或 emergency(应急)。",
        "policy.toml calendar.special 第 8 项 reason 列:请写明原因。",
        "policy.toml calendar.special 第 8 项 hours 列:时刻应写成 00:00 至 24:00。",
    ]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("years = [2025, 2026, 2027]", "years = [226, 2026, 20226]", "calendar.years 列:226、20226 不在"),
        ("years = [2025, 2026, 2027]", "years = [true]", "calendar.years 列:应为年份列表"),
        (
            "years = [2025, 2026, 2027]",
            "years = [2026]\nspecial = 3",
            "calendar.special 列:应为 [[calendar.special]]",
        ),
        (
            "years = [2025, 2026, 2027]",
            'years = [2026]\nspecial = ["2026-07-20"]',
            "calendar.special 列:应为",
        ),
        ('version = "yicheng-2026.2"', 'version = "x"\ncalendar = 3', "calendar 列:应为 [calendar] 表"),
    ],
)
def test_a_calendar_that_makes_no_sense_is_named_by_its_key(
    folder: Path, old: str, new: str, told: str
) -> None:
    path = folder / "policy.toml"
    text = path.read_text("utf-8").replace(old, new)
    if "\ncalendar = 3" in text:
        text = text.replace("[calendar]\nyears = [2025, 2026, 2027]", "")
    path.write_text(text, "utf-8")
    assert any(told in each for each in problems(folder)), problems(folder)


def test_a_district_whose_appeals_too_few_people_could_decide_is_not_loaded(folder: Path) -> None:
    spoil(
        folder,
        "people.csv",
        lambda rows: rows.remove(next(row for row in rows if row[0] == "second-supervisor")),
    )
    assert ["复核人" in problem for problem in problems(folder)] == [True]

"""Reading a district's folder: every mistake is named with file, row and column, all at once, or the whole is taken."""

import csv
import hashlib
import io
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, time
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from python_calamine import CalamineError, CalamineWorkbook

from adapters.catalogue_files import COLUMNS as CATALOGUE_COLUMNS
from adapters.catalogue_files import SHEET, plain
from adapters.holidays import calendar_for
from domain.calendar import CalendarData, Limit, SpecialDay
from domain.case import Category, Post, Role
from domain.district import Code, District, Item, Organisation, OrganisationKind, Person, Tier, split_names
from domain.errors import DomainError
from domain.policy import LimitClass, Policy

WORKBOOK = "district.xlsx"
_E = TypeVar("_E", bound=StrEnum)
_COLUMNS = {
    "organisations": ("code", "name", "kind", "tier", "note"),
    "people": ("id", "name", "organisation", "role", "township", "squad", "on_duty", "phone", "note"),
    "catalogue": CATALOGUE_COLUMNS,
}
_MAY_BE_EMPTY = frozenset(
    {"tier", "note", "township", "squad", "on_duty", "phone", "keywords", "cooperating", "township_duty", "basis",
     "closing_condition", "evidence", "flow"}
)  # fmt: skip
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ufffe\uffff]")
_YES = frozenset({"yes", "是", "true", "1"})
_NO = frozenset({"no", "否", "false", "0", ""})
_LONGEST = {"name": 100, "field": 40}
_KINDS_OF_ROLE = {
    Role.CITIZEN: {OrganisationKind.TOWNSHIP},
    Role.GRID_WORKER: {OrganisationKind.TOWNSHIP},
    Role.TOWNSHIP_OFFICER: {OrganisationKind.TOWNSHIP},
    Role.TOWNSHIP_APPROVER: {OrganisationKind.TOWNSHIP},
    Role.DISPATCHER: {OrganisationKind.PLATFORM},
    Role.DEPARTMENT_OFFICER: {OrganisationKind.DEPARTMENT},
    Role.DEPARTMENT_HEAD: {OrganisationKind.DEPARTMENT},
    Role.RESIDENT_OFFICER: {OrganisationKind.DEPARTMENT},
    Role.COORDINATOR: {OrganisationKind.COORDINATION_GROUP, OrganisationKind.CITY},
    Role.LEADER: {OrganisationKind.GOVERNMENT, OrganisationKind.CITY},
    Role.SUPERVISOR: {OrganisationKind.GOVERNMENT, OrganisationKind.CITY},
    Role.AUDITOR: {OrganisationKind.GOVERNMENT, OrganisationKind.CITY},
    Role.ADMINISTRATOR: {OrganisationKind.PLATFORM, OrganisationKind.GOVERNMENT},
    Role.INTEGRATION: {OrganisationKind.PLATFORM},
}
_CODE: TypeAdapter[str] = TypeAdapter(Code)
_YEARS = range(2001, 2101)
"""From the first notice that is known to where the `holidays` library ends; anything else is a slip of the pen."""
_SPECIAL_KEYS = ("date", "kind", "reason", "hours")
_SPECIAL_MISTAKES = {
    "on": ("date", "应为日期,例如 2026-07-20。"),
    "kind": ("kind", "应为 off(放假)、working(上班)或 emergency(应急)。"),
    "reason": ("reason", "请写明原因。"),
    "hours": ("hours", '应为时段列表,例如 [["00:00", "24:00"]]。'),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake, where it stands. Rows are counted as a spreadsheet shows them: the heading is row 1."""

    file: str
    message: str
    row: int | None = None
    column: str | None = None

    def __str__(self) -> str:
        """Return it as people read it."""
        row = f" 第 {self.row} 行" if self.row else ""
        column = f" {self.column} 列" if self.column else ""
        return f"{self.file}{row}{column}:{self.message}"


class DistrictInvalid(DomainError):
    """The folder has mistakes; nothing of it was taken."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("district_invalid", "\n".join(map(str, problems)))
        self.problems = tuple(problems)


@dataclass(slots=True)
class _Row:
    """One row of a table, with where it stands."""

    file: str
    number: int
    cells: dict[str, str]
    problems: list[Problem]

    def __getitem__(self, column: str) -> str:
        return self.cells.get(column, "")

    def wrong(self, column: str | None, message: str) -> None:
        self.problems.append(Problem(file=self.file, row=self.number, column=column, message=message))

    def many(self, column: str) -> tuple[str, ...]:
        return split_names(self[column])

    def code(self, column: str) -> str:
        try:
            return _CODE.validate_python(self[column])
        except ValidationError:
            if self[column]:
                self.wrong(column, f"编号“{self[column]}”只能用小写字母、数字、- 和 _,以字母或数字开头。")
            return ""

    def choice(self, column: str, kind: type[_E]) -> _E | None:
        try:
            return kind(self[column])
        except ValueError:
            if self[column]:
                allowed = "、".join(kind)
                self.wrong(column, f"“{self[column]}”不在允许范围内:{allowed}。")
            return None

    def yes(self, column: str) -> bool:
        value = self[column].lower()
        if value not in _YES | _NO:
            self.wrong(column, f"“{self[column]}”应为 yes 或 no。")
        return value in _YES


@dataclass(slots=True)
class _Reading:
    """What has been read so far, and everything that was wrong."""

    folder: Path
    problems: list[Problem] = field(default_factory=list)


def read_district(folder: Path) -> District:
    """Return the district that the folder describes; its code is the folder's name.

    Raises:
        DistrictInvalid: with every mistake that was found.
    """
    reading = _Reading(folder)
    tables = {name: list(_table(reading, name)) for name in _COLUMNS}
    organisations = _organisations(tables["organisations"])
    people = _people(reading, tables["people"], organisations, folder.resolve().name)
    items = _items(tables["catalogue"], organisations)
    _require_staff(reading, organisations, people)
    policy, named, calendar = _policy(reading)
    _require_reviewers(reading, people, policy)
    if reading.problems or policy is None or calendar is None:
        raise DistrictInvalid(reading.problems)
    return District(
        code=folder.resolve().name,
        name=named["district"],
        policy=policy,
        calendar=calendar,
        organisations=tuple(organisations.values()),
        people=tuple(people),
        items=tuple(items),
        catalogue_version=version_of(named["catalogue"], items),
    )


def _digest(items: Iterable[Item]) -> str:
    return hashlib.sha256("\n".join(item.model_dump_json() for item in items).encode()).hexdigest()[:8]


# --- tables ------------------------------------------------------------------------------------------------


def _table(reading: _Reading, name: str) -> Iterator[_Row]:
    workbook, path = reading.folder / WORKBOOK, reading.folder / f"{name}.csv"
    if path.exists():
        yield from _rows(path.name, _csv_cells(path, reading.problems), name, reading.problems)
    elif (cells := _sheet_cells(workbook, name, reading.problems)) is not None:
        yield from _rows(f"{WORKBOOK} {name}", cells, name, reading.problems)
    else:
        missing = f"缺少该文件(或 {WORKBOOK} 中的 {name} 表)。"
        reading.problems.append(Problem(file=path.name, message=missing))


def _rows(file: str, raw: list[list[str]] | None, name: str, problems: list[Problem]) -> Iterator[_Row]:
    """Yield the rows below the heading; `raw` is None where the file could not be read."""
    if raw is None:
        return
    heading = [cell.strip() for cell in raw[0]] if raw else []
    expected = _COLUMNS[name]
    missing = [column for column in expected if column not in heading]
    problems += [Problem(file=file, row=1, column=column, message="缺少该列。") for column in missing]
    for column, times in Counter(heading).items():
        if column not in expected:
            problems.append(Problem(file=file, row=1, column=column or "(空)", message="没有这个列名。"))
        elif times > 1:
            problems.append(Problem(file=file, row=1, column=column, message="列名重复。"))
    for number, cells in enumerate(raw[1:], start=2):
        if not any(cell.strip() for cell in cells):
            continue
        tidy = [cell.replace("\r\n", "\n").replace("\r", "\n").strip() for cell in cells]
        row = _Row(file, number, dict(zip(heading, tidy, strict=False)), problems)
        if len(cells) != len(heading):
            row.wrong(None, f"应有 {len(heading)} 个单元格,实有 {len(cells)} 个。")
        for column in expected:
            if column in heading and column not in _MAY_BE_EMPTY and not row[column]:
                row.wrong(column, "不能为空。")
            if _UNPRINTABLE.search(row[column]):
                row.wrong(column, "含有控制字符,请删除后重新输入。")
        yield row


def _csv_cells(path: Path, problems: list[Problem]) -> list[list[str]] | None:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        problems.append(Problem(file=path.name, message="不是 UTF-8 编码,请另存为 UTF-8。"))
        return None
    reader = csv.reader(io.StringIO(text, newline=""))
    rows: list[list[str]] = []
    try:
        rows.extend([plain(cell.strip()) for cell in row] for row in reader)
    except csv.Error:
        problems.append(
            Problem(file=path.name, row=len(rows) + 1, message="无法读取:引号不成对,或单元格过长。")
        )
        return None
    return rows


def _sheet_cells(path: Path, name: str, problems: list[Problem]) -> list[list[str]] | None:
    """Return the cells of a sheet; None without the file, or without the sheet."""
    if not path.exists():
        return None
    try:
        book = CalamineWorkbook.from_path(path)
        if name not in book.sheet_names:
            return None
        rows = book.get_sheet_by_name(name).to_python(skip_empty_area=False)
    except CalamineError:
        problems.append(Problem(file=path.name, message="不是有效的 .xlsx 文件。"))
        return None
    return [[_cell(value) for value in row] for row in rows]


def _cell(value: object) -> str:
    """Return a spreadsheet's cell as text: a whole number without its fraction."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _organisations(rows: Iterable[_Row]) -> dict[str, Organisation]:
    found: dict[str, Organisation] = {}
    for row in rows:
        code, kind, tier = row.code("code"), row.choice("kind", OrganisationKind), row.choice("tier", Tier)
        if kind is OrganisationKind.DEPARTMENT and not row["tier"]:
            row.wrong("tier", "部门须注明 resident(常驻)或 on_call(随叫随到)。")
        if code in found:
            row.wrong("code", f"编号“{code}”重复。")
        if code and kind:
            found[code] = Organisation(code=code, name=row["name"], kind=kind, tier=tier)
    return found


def _people(
    reading: _Reading, rows: Iterable[_Row], organisations: dict[str, Organisation], district: str
) -> list[Person]:
    del reading
    found: dict[str, Person] = {}
    for row in rows:
        person, post = row.code("id"), _post(row, organisations)
        known = found.get(person)
        if known and (known.name, known.phone) != (row["name"], row["phone"]):
            row.wrong("name", f"编号“{person}”的姓名或电话与前面不一致。")
        if not person or post is None:
            continue
        if known and post in known.posts:
            row.wrong("role", f"“{person}”的该岗位重复。")
        found[person] = Person(
            id=person,
            name=row["name"],
            district=district,
            posts=(*(known.posts if known else ()), post),
            on_duty=row.yes("on_duty") or bool(known and known.on_duty),
            phone=row["phone"],
        )
    return list(found.values())


def _post(row: _Row, organisations: dict[str, Organisation]) -> Post | None:
    role, office = row.choice("role", Role), organisations.get(row["organisation"])
    if office is None:
        if row["organisation"]:
            row.wrong("organisation", f"机构“{row['organisation']}”不在 organisations 中。")
        return None
    if role is None:
        return None
    if office.kind not in _KINDS_OF_ROLE[role]:
        kinds = "、".join(sorted(_KINDS_OF_ROLE[role]))
        row.wrong(
            "organisation", f"岗位 {role.value} 须在 {kinds} 类机构,“{office.code}”是 {office.kind.value}。"
        )
        return None
    township = organisations.get(row["township"])
    if role is Role.RESIDENT_OFFICER:
        if office.tier is not Tier.RESIDENT:
            row.wrong("organisation", f"“{office.code}”不是常驻(resident)部门。")
        if township is None or township.kind is not OrganisationKind.TOWNSHIP:
            row.wrong("township", "常驻执法人员须注明所驻镇街。")
            return None
    elif row["township"]:
        row.wrong("township", "只有常驻执法人员填写所驻镇街。")
    return Post(
        role=role,
        organisation=office.code,
        township=township.code if township else None,
        city=office.kind is OrganisationKind.CITY,
        squad=_squad(row, role),
    )


def _squad(row: _Row, role: Role) -> bool:
    in_squad = row.yes("squad")
    if in_squad and role not in {Role.TOWNSHIP_OFFICER, Role.TOWNSHIP_APPROVER}:
        row.wrong("squad", "只有镇街人员可以属于镇街综合执法中队(squad)。")
    return in_squad


def read_items(path: Path, organisations: Iterable[Organisation] | None = None) -> tuple[Item, ...]:
    """Return the list that a CSV file, a workbook or a district's folder holds.

    In a workbook it is the sheet `catalogue`, or the only sheet.

    Args:
        organisations: the district's, among which every department must be; None leaves that unchecked.

    Raises:
        DistrictInvalid: with every mistake that was found.
    """
    reading = _Reading(path if path.is_dir() else path.parent)
    if path.is_dir():
        rows = list(_table(reading, SHEET))
    elif not path.exists():
        raise DistrictInvalid([Problem(file=str(path), message="没有该文件。")])
    elif path.suffix.lower() == ".csv":
        rows = list(_rows(path.name, _csv_cells(path, reading.problems), SHEET, reading.problems))
    else:
        cells = _sheet_cells(path, SHEET, reading.problems) or _only_sheet(path, reading.problems)
        rows = list(_rows(path.name, cells, SHEET, reading.problems))
    known = None if organisations is None else {office.code: office for office in organisations}
    items = _items(rows, known)
    if not rows and not reading.problems:
        reading.problems.append(Problem(file=path.name, message="没有任何事项。"))
    if reading.problems:
        raise DistrictInvalid(reading.problems)
    return tuple(items)


def read_organisations(folder: Path) -> tuple[Organisation, ...]:
    """Return the offices of a district's folder.

    Raises:
        DistrictInvalid: with every mistake that was found.
    """
    reading = _Reading(folder)
    found = _organisations(list(_table(reading, "organisations")))
    if reading.problems:
        raise DistrictInvalid(reading.problems)
    return tuple(found.values())


def version_of(label: str, items: Iterable[Item]) -> str:
    """Return a list's version: what people call it, and a digest, so that other content is another version."""
    return f"{label}/{_digest(items)}"


def _only_sheet(path: Path, problems: list[Problem]) -> list[list[str]] | None:
    if problems:
        return None
    sheets = CalamineWorkbook.from_path(path).sheet_names
    if len(sheets) == 1:
        return _sheet_cells(path, sheets[0], problems)
    problems.append(Problem(file=path.name, message=f"没有名为 {SHEET} 的工作表。"))
    return None


def _items(rows: Iterable[_Row], organisations: dict[str, Organisation] | None) -> list[Item]:
    found: dict[str, Item] = {}

    def departments(row: _Row, column: str, codes: Iterable[str]) -> None:
        for code in codes if organisations is not None else ():
            office = organisations.get(code) if organisations else None
            if office is None or office.kind is not OrganisationKind.DEPARTMENT:
                row.wrong(column, f"“{code}”不是 organisations 中的部门。")

    for row in rows:
        code, category = row.code("code"), row.choice("category", Category)
        limit_class = row.choice("limit_class", LimitClass)
        primary, cooperating = row["primary"], row.many("cooperating")
        departments(row, "primary", [primary] if primary else [])
        departments(row, "cooperating", cooperating)
        for column, most in _LONGEST.items():
            if len(row[column]) > most:
                row.wrong(column, f"不能超过 {most} 字,现有 {len(row[column])} 字。")
        if primary in cooperating:
            row.wrong("cooperating", f"“{primary}”已是主体责任部门,不能同时为配合部门。")
        if len(set(cooperating)) != len(cooperating):
            row.wrong("cooperating", "配合部门重复。")
        if code in found:
            row.wrong("code", f"编号“{code}”重复。")
        if code and category and limit_class:
            found[code] = Item(
                code=code,
                field=row["field"],
                category=category,
                name=row["name"],
                keywords=row.many("keywords"),
                primary=primary,
                cooperating=cooperating,
                township_duty=row["township_duty"],
                basis=row["basis"],
                limit_class=limit_class,
                closing_condition=row["closing_condition"],
                evidence=row.many("evidence"),
                flow=row.many("flow"),
                note=row["note"],
            )
    return list(found.values())


def _require_reviewers(reading: _Reading, people: Sequence[Person], policy: Policy | None) -> None:
    """An appeal that not enough different people can decide would stay open for ever."""
    appeal = policy.limits.appeal if policy else None
    found = sum(person.holds(Role.SUPERVISOR) for person in people)
    if appeal is not None and found < appeal.reviewers:
        message = f"申诉须由 {appeal.reviewers} 位不同的复核人(supervisor)复核,现有 {found} 位。"
        reading.problems.append(Problem(file="people.csv", message=message))


def _require_staff(
    reading: _Reading, organisations: dict[str, Organisation], people: Sequence[Person]
) -> None:
    """Nobody may be left without somebody to act: each office has the people that the mechanism needs."""
    held: Counter[tuple[Role, str]] = Counter(
        (post.role, str(post.organisation)) for person in people for post in person.posts
    )
    on_duty = {post.organisation for person in people if person.on_duty for post in person.posts}
    needed = {
        OrganisationKind.TOWNSHIP: (Role.TOWNSHIP_OFFICER, Role.TOWNSHIP_APPROVER),
        OrganisationKind.DEPARTMENT: (Role.DEPARTMENT_HEAD, Role.DEPARTMENT_OFFICER),
        OrganisationKind.PLATFORM: (Role.DISPATCHER,),
        OrganisationKind.COORDINATION_GROUP: (Role.COORDINATOR,),
    }

    def lacks(message: str) -> None:
        reading.problems.append(Problem(file="people.csv", message=message))

    for kind, roles in needed.items():
        offices = [office for office in organisations.values() if office.kind is kind]
        if not offices and organisations:
            reading.problems.append(Problem(file="organisations.csv", message=f"缺少 {kind.value} 类机构。"))
        for office in offices:
            for role in roles:
                if not held[role, office.code]:
                    lacks(f"“{office.name}”({office.code})没有 {role.value}。")
            if kind is OrganisationKind.DEPARTMENT and office.code not in on_duty:
                lacks(f"“{office.name}”({office.code})没有值班人员(on_duty=yes)。")


# --- policy ------------------------------------------------------------------------------------------------


def _policy(reading: _Reading) -> tuple[Policy | None, dict[str, str], CalendarData | None]:
    file = "policy.toml"

    def wrong(column: str | None, message: str) -> None:
        reading.problems.append(Problem(file=file, column=column, message=message))

    named: dict[str, str] = {}
    try:
        content: dict[str, Any] = tomllib.loads((reading.folder / file).read_text("utf-8"))
    except FileNotFoundError:
        wrong(None, "缺少该文件。")
        return None, named, None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        wrong(None, f"不是有效的 TOML(UTF-8):{error}。")
        return None, named, None
    for table, key in (("district", "name"), ("catalogue", "version")):
        value = content.get(table, {}).get(key)
        if not isinstance(value, str) or not value:
            wrong(f"{table}.{key}", "不能为空。")
        else:
            named[table] = value
    calendar = _calendar(content, wrong)
    for place in _unknown_keys(content, Policy, _BESIDE_POLICY):
        wrong(place, "没有这个设置项。")
    try:
        return Policy.model_validate(content), named, calendar
    except ValidationError as error:
        for each in error.errors():
            wrong(
                ".".join(map(str, each["loc"])),
                _in_chinese(each["type"], str(each.get("ctx", {}).get("error", ""))),
            )
        return None, named, calendar


_BESIDE_POLICY = frozenset({"district", "catalogue", "calendar", "office", "wake_spread_seconds"})
"""What stands in the file and is no part of the policy itself."""


def _unknown_keys(
    content: dict[str, Any], model: type[BaseModel], beside: frozenset[str] = frozenset(), at: str = ""
) -> Iterator[str]:
    """Yield the keys that the policy does not know: a slip of the pen must not silently switch something off."""
    for key, value in content.items():
        place = f"{at}{key}"
        field = model.model_fields.get(key)
        if field is None:
            if key not in beside:
                yield place
            continue
        inner = next((each for each in _models(field.annotation) if each is not Limit), None)
        if inner is None:
            continue
        for number, each in enumerate(value if isinstance(value, list) else [value]):
            if isinstance(each, dict):
                suffix = f".{number}" if isinstance(value, list) else ""
                yield from _unknown_keys(each, inner, at=f"{place}{suffix}.")


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models that a field's type names. `Any`: a type is whatever typing makes of it."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from _models(each)


def _calendar(content: dict[str, Any], wrong: Any) -> CalendarData | None:
    told: list[str] = []

    def say(column: str, message: str) -> None:
        told.append(column)
        wrong(column, message)

    tables: dict[str, dict[str, Any]] = {}
    for key in ("calendar", "office"):
        table = content.get(key, {})
        if not isinstance(table, dict):
            say(key, f"应为 [{key}] 表。")
        tables[key] = table if isinstance(table, dict) else {}
    years = tables["calendar"].get("years")
    if not isinstance(years, list) or not years or not all(type(year) is int for year in years):
        say("calendar.years", "应为年份列表,例如 [2026, 2027]。")
        years = []
    elif unheard := sorted({year for year in years if year not in _YEARS}):
        say("calendar.years", f"{'、'.join(map(str, unheard))} 不在 {_YEARS[0]} 至 {_YEARS[-1]} 年之间。")
    office_hours: tuple[tuple[time, time], ...] = ()
    try:
        office_hours = CalendarData.model_validate(
            {
                "version": "-",
                "office_hours": tables["office"].get("hours"),
                "days_off": (),
                "make_up_days": (),
                "published_until": "2000-01-01",
            }
        ).office_hours
    except ValidationError:
        say("office.hours", '应为先后有序、互不重叠的时段,例如 [["08:30", "12:00"], ["13:30", "17:30"]]。')
    special = _special_days(tables["calendar"].get("special", []), years, say)
    return None if told else calendar_for(years, office_hours, special)


def _special_days(written: Any, years: Sequence[int], say: Callable[[str, str], None]) -> list[SpecialDay]:
    """Read the district's own days; each mistake is named with the position of its table, counted from 1, and its key."""
    if not isinstance(written, list) or not all(isinstance(each, dict) for each in written):
        say("calendar.special", "应为 [[calendar.special]] 表。")
        return []
    found: list[SpecialDay] = []
    seen: set[date] = set()
    for position, each in enumerate(written, start=1):
        place, on = f"calendar.special 第 {position} 项", _plain_date(each.get("date"))
        for key in sorted(each.keys() - set(_SPECIAL_KEYS)):
            say(f"{place} {key}", f"没有这一项,只有 {'、'.join(_SPECIAL_KEYS)}。")
        if on in seen:
            say(f"{place} date", f"{on} 重复,同一天只能有一项。")
        if on and years and on.year not in range(min(years), max(years) + 1):
            say(f"{place} date", f"{on} 不在 calendar.years 所列年份之内。")
        seen |= {on} if on else set()
        try:
            found.append(SpecialDay.model_validate({**each, "on": on}))
        except ValidationError as error:
            mistakes: dict[str, str] = {}
            for mistake in error.errors():
                key, words = _SPECIAL_MISTAKES[str(mistake["loc"][0])]
                ours = mistake["type"] == "value_error"  # our own validators already speak Chinese
                mistakes.setdefault(key, f"{mistake['ctx']['error']}。" if ours else words)
            for key, message in mistakes.items():
                say(f"{place} {key}", message)
    return found


def _plain_date(value: Any) -> date | None:
    """Return a date that is written as one; numbers and moments are none."""
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            return None
    return value if type(value) is date else None


def _in_chinese(kind: str, told: str) -> str:
    """Say what is wrong; our own validators already speak Chinese."""
    if kind == "value_error" and told:
        return told
    words = {
        "missing": "缺少该项。",
        "enum": "不在允许范围内。",
        "too_short": "不能为空。",
        "string_too_short": "不能为空。",
    }
    return words.get(kind, "取值有误。")

"""Binds what a district was loaded as, and says whether its rows are still that: who may do what stands in them.

Each load is a line of the operators' journal, with the digests of what was loaded and a code that the database alone
cannot make. From the document as it was loaded follow people, posts and name.
"""

import hashlib
import json
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, func, null, select, text, union_all

from adapters.database import Database
from adapters.journals import NUMBER, append_row
from adapters.raw import Row, read_rows, texts
from adapters.sealing import Binding, Seal
from adapters.tables import LOADS, CatalogueRow, DistrictRow, JournalRow, OperationRow, PersonRow, PostRow
from domain.district import District, Item
from domain.journal import Journal
from domain.verify import Check, Finding

NAME = "load_district"
"""Of these lines in the operators' journal."""
_AT_ONCE = 500
_PURPOSE = "loaded districts"
_PERSON = ("name", "phone", "on_duty", "active")
_POST = ("person", "role", "organisation", "township", "city", "squad")
ITEMS: TypeAdapter[tuple[Item, ...]] = TypeAdapter(tuple[Item, ...])
"""A responsibility list as `catalogues` holds it."""

CHANGED, NEVER_LOADED, OTHER_KEY, MISSING = "changed", "never_loaded", "other_key", "missing"
UNREADABLE, TAKEN_BACK = "unreadable", "taken_back"
WHY = {
    CHANGED: "资料在最近一次装载之后被改动",
    NEVER_LOADED: "没有有效的装载记录",
    OTHER_KEY: "最近一次装载由另一密钥(SHAODAO_SECRET)认证",
    MISSING: "已装载的资料被删除",
    UNREADABLE: "资料由另一版本的程序装载,无法读取",
    TAKEN_BACK: "更晚的装载记录缺失,资料可能被换回此前的内容",
}
"""What is wrong with a district's row, for people."""


def record_load(
    connection: Connection, database: Database, district: District, at: datetime, seal: Seal
) -> None:
    """Write that the district, as it stands in this transaction, was loaded.

    A list that is in the table and that no load of ours has brought is not taken up: only the first load of all takes
    what stands, for whoever upgrades has lists from before.

    Args:
        at: aware; when. Moved past the load before, where a clock was set back: the newest load is the one that counts.
    """
    before = _bound_loads(connection, district.code, seal)
    documents = select(CatalogueRow.version, CatalogueRow.document).where(
        CatalogueRow.district == district.code
    )
    standing = select(DistrictRow.document).where(DistrictRow.code == district.code)
    known = _known_catalogues(before) or {
        row.version: _digest(row.document) for row in connection.execute(documents)
    }
    load = {
        "document": _digest(connection.execute(standing).scalar_one()),
        "catalogues": {district.catalogue_version: _digest(ITEMS.dump_json(district.items).decode())} | known,
    }
    at = max([at, *(each.at + timedelta(microseconds=1) for each in before)])
    operation = secrets.token_hex(16)
    row = {
        "operation": operation,
        "at": at,
        "person": "",
        "person_name": "命令行",
        "district": district.code,
        "name": NAME,
        "arguments": _canonical(
            {**load, "code": seal.code(_PURPOSE, _text(district.code, operation, at, load))}
        ),
        "outcome": "done",
        "detail": f"政策 {district.policy.version},清单 {district.catalogue_version},人员 {len(district.people)} 名",
    }
    append_row(database, connection, Journal.OPERATIONS, row)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingDistrict:
    """A district's row as it stands, held against its newest load.

    Attributes:
        document: empty where the row is gone.
        wrong: why nobody may have rights by it, one of `WHY`; empty where it is what was loaded last.
        loaded_at: when it was loaded, as its newest load says; None where something is wrong.
    """

    code: str
    document: str
    wrong: str = ""
    loaded_at: datetime | None = None

    @property
    def told(self) -> str:
        """What is wrong and how it is put right, for people."""
        mend = "请核对 SHAODAO_SECRET 与装载时是否相同;确已更换的," if self.wrong == OTHER_KEY else "请"
        return f"{self.code}:{WHY[self.wrong]}。{mend}重新执行 shaodao district load 目录。"


@dataclass(slots=True)
class LoadCheck:
    """What an auditor finds of a district as it stands.

    Attributes:
        loaded_at: when it was last loaded, as far as that can be told.
    """

    findings: list[Finding] = field(default_factory=list)
    loaded_at: datetime | None = None


class LoadStore:
    """Reads for doors and auditors; writes nothing."""

    _database: Database
    _seal: Seal | None

    async def standing_districts(self) -> list[StandingDistrict]:
        """Return every district that stands or was ever loaded, by code. Without a seal none is what was loaded."""
        async with self._database.read() as connection:
            return await connection.run_sync(_standing, self._seal)

    async def district_of_person(self, person: str) -> str | None:
        """Return whose `people` says that somebody is: good for a refusal, and for no right."""
        async with self._database.read() as connection:
            query = select(PersonRow.district).where(PersonRow.id == person)
            return next(iter(await connection.run_sync(texts, query)), None)

    async def check_load(self, district: str) -> LoadCheck | None:
        """Hold the rows of a district against its loads; None where it was never loaded at all."""
        async with self._database.read() as connection:
            return await connection.run_sync(_check, district, self._seal)

    async def never_loaded(self) -> list[str]:
        """Return the districts of which no load is known to be ours: their people have rights all the same."""
        async with self._database.read() as connection:
            return await connection.run_sync(_never_loaded, self._seal)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    at: datetime
    document: str
    catalogues: Mapping[str, str]


def _standing(connection: Connection, seal: Seal | None) -> list[StandingDistrict]:
    """Read the newest load of each district; further ones only of necessity, for somebody has written a line."""
    documents, written = _read_standing(connection, 1)
    if any(_read(lines[0], code, seal)[1] is Binding.UNBOUND for code, lines in written.items()):
        documents, written = _read_standing(connection, None)
    return [
        _judged(connection, code, documents.get(code), written.get(code, ()), seal)
        for code in sorted({*documents, *written})
    ]


def _judged(
    connection: Connection, code: str, document: str | None, lines: Sequence[Row], seal: Seal | None
) -> StandingDistrict:
    """Hold a row against its loads, the newest first."""
    wrong, loaded_at = NEVER_LOADED, None
    for line in lines:
        load, binding = _read(line, code, seal)
        if binding is Binding.OTHER_KEY:
            wrong = OTHER_KEY
            break
        if load is not None and binding is Binding.BOUND:
            if document is None:
                wrong = MISSING
            elif _digest(document) != load.document:
                wrong = CHANGED
            elif _misses_later_lines(connection, code, line.values["id"]):
                wrong = TAKEN_BACK
            else:
                wrong, loaded_at = "", load.at
            break
    return StandingDistrict(code=code, document=document or "", wrong=wrong, loaded_at=loaded_at)


def _misses_later_lines(connection: Connection, district: str, newest: object) -> bool:
    """Whether the journal's chain has links after that of the newest load, or instead of it, of which the line is gone.

    What was in such a line nobody knows: it may have been a later load, which took rights away.
    """
    links = (JournalRow.journal == Journal.OPERATIONS.value, JournalRow.district == district)
    place = select(JournalRow.sequence).where(*links, JournalRow.key == str(newest)).scalar_subquery()
    later = select(JournalRow.key).where(*links, JournalRow.sequence > func.coalesce(place, 0))
    keys = texts(connection, later)
    stands = select(OperationRow.id).where(OperationRow.district == district)
    for first in range(0, len(keys), _AT_ONCE):
        some = set(keys[first : first + _AT_ONCE])
        numbers = [int(key) for key in some if NUMBER.fullmatch(key)]
        if some != set(map(str, connection.execute(stands.where(OperationRow.id.in_(numbers))).scalars())):
            return True
    return False


def _read_standing(connection: Connection, most: int | None) -> tuple[dict[str, str], dict[str, list[Row]]]:
    """Return documents and loads, the newest first, by district; in one statement, so that no load comes in between.

    Args:
        most: how many loads of each district; None for all.
    """
    newest_first = (OperationRow.at.desc(), OperationRow.id.desc())
    number = func.row_number().over(partition_by=OperationRow.district, order_by=newest_first)
    numbered = (
        select(
            OperationRow.district,
            OperationRow.arguments,
            OperationRow.operation,
            OperationRow.at,
            OperationRow.id,
            number.label("number"),
        )
        .where(text(LOADS))
        .subquery()
    )
    loads = select(numbered)
    if most is not None:
        loads = loads.where(numbered.c.number <= most)
    rows = select(DistrictRow.code, DistrictRow.document, null(), null(), null(), null())
    both = union_all(loads, rows).subquery()
    documents: dict[str, str] = {}
    written: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows(connection, select(both).order_by(both.c.number)):
        code = str(row.values["district"])
        if row.values["number"] is None:
            documents[code] = str(row.values["arguments"])
        else:
            written[code].append(row)
    return documents, written


def _lines_of(connection: Connection, district: str) -> list[Row]:
    """Return the loads of a district in the order in which they were made, whatever numbers somebody gave them."""
    columns = (OperationRow.id, OperationRow.operation, OperationRow.at, OperationRow.arguments)
    lines = select(*columns).where(OperationRow.district == district, text(LOADS))
    return list(read_rows(connection, lines.order_by(OperationRow.at, OperationRow.id)))


def _bound_loads(connection: Connection, district: str, seal: Seal) -> list[_Load]:
    read = (_read(line, district, seal) for line in _lines_of(connection, district))
    return [load for load, binding in read if load is not None and binding is Binding.BOUND]


def _known_catalogues(loads: Sequence[_Load]) -> dict[str, str]:
    """Return the digests of all versions that were ever loaded."""
    known: dict[str, str] = {}
    for load in loads:
        known = {**load.catalogues, **known}  # a version never changes: its first digest counts
    return known


def is_bound(connection: Connection, district: str, document: str, seal: Seal) -> bool:
    """Whether a document is what its district was last loaded as."""
    return not _judged(connection, district, document, _lines_of(connection, district)[::-1], seal).wrong


def _check(connection: Connection, district: str, seal: Seal | None) -> LoadCheck | None:
    written = _lines_of(connection, district)
    row = next(read_rows(connection, select(*_DISTRICT).where(DistrictRow.code == district)), None)
    if row is None and not written:
        return None
    check, loads = LoadCheck(), list[_Load]()
    bindings: dict[int, Binding] = {}
    seen: set[object] = set()
    for line in written:
        load, binding = _read(line, district, seal)
        if line.values["operation"] in seen:
            detail = "装载记录与更早的一条相同:同一次装载不会记录两次。"
            check.findings.append(_found("load_unbound", "operations", f"编号{line.values['id']}", detail))
            continue
        seen.add(line.values["operation"])
        if isinstance(number := line.values["id"], int):
            bindings[number] = binding
        if load is not None and binding is Binding.BOUND:
            loads.append(load)
        elif binding is Binding.UNBOUND:
            detail = "装载记录没有有效的认证码:不是由本系统写入的,或写入后被改动。"
            check.findings.append(_found("load_unbound", "operations", f"编号{line.values['id']}", detail))
    # What a line of a strange key says of its moment is not believed: it may be the newest by its number as well.
    newest = {bindings[max(bindings)], *list(bindings.values())[-1:]} if bindings else set()
    is_strange = Binding.OTHER_KEY in newest
    if not loads or is_strange:
        why = (
            "最近的装载记录由另一密钥(SHAODAO_SECRET)认证,无法核对。"
            if is_strange
            else "没有可核对的装载记录;重新执行 shaodao district load 后即可核对。"
        )
        check.findings.append(_found("load_unknown", "districts", district, why, proven=False))
    if not loads:
        return check
    check.loaded_at = loads[-1].at
    if row is None:
        check.findings.append(_found("row_missing", "districts", district, "已装载的区(市)被删除。"))
        return check
    # Whoever verifies with a secret of before is told what differs, and accuses nobody.
    differ = _compare(connection, row.values, loads)
    check.findings += (replace(each, proven=each.proven and not is_strange) for each in differ)
    return check


def _never_loaded(connection: Connection, seal: Seal | None) -> list[str]:
    columns = (OperationRow.id, OperationRow.operation, OperationRow.at, OperationRow.arguments)
    codes = texts(connection, select(DistrictRow.code).order_by(DistrictRow.code))
    lines = select(*columns, OperationRow.district).where(text(LOADS))
    ours = {
        line.values["district"]
        for line in read_rows(connection, lines)
        if _read(line, str(line.values["district"]), seal)[1] is Binding.BOUND
    }
    return [code for code in codes if code not in ours]


_DISTRICT = (DistrictRow.code, DistrictRow.name, DistrictRow.document)


def _compare(connection: Connection, stands: Mapping[str, Any], loads: Sequence[_Load]) -> Iterator[Finding]:
    code, document = stands["code"], str(stands["document"])
    yield from _compare_catalogues(connection, code, loads)
    if _digest(document) != loads[-1].document:
        detail = "与最近一次装载的内容不符:人员、岗位、机构、政策、清单中有改动。重新执行 shaodao district load 即可恢复。"
        yield _found("column_differs", "districts", code, detail, column="document")
        return  # what the other rows must be follows from it
    try:
        loaded = District.model_validate_json(document)
    except ValidationError:
        return  # written by another version, and unchanged
    if stands["name"] != loaded.name:
        yield _differs("districts", code, "name", stands["name"], loaded.name)
    yield from _compare_people(connection, loaded)
    yield from _compare_posts(connection, loaded)


def _compare_catalogues(connection: Connection, code: str, loads: Sequence[_Load]) -> Iterator[Finding]:
    known = _known_catalogues(loads)
    query = select(CatalogueRow.version, CatalogueRow.document).where(CatalogueRow.district == code)
    found = {str(row.values["version"]): str(row.values["document"]) for row in read_rows(connection, query)}
    for version in sorted({*known, *found}):
        place = f"{code}/{version}"
        if version not in found:
            yield _found("row_missing", "catalogues", place, "已装载的清单版本被删除。")
        elif version not in known:
            yield _found("row_added", "catalogues", place, "从未装载过的清单版本。")
        elif _digest(found[version]) != known[version]:
            yield _found("column_differs", "catalogues", place, "清单与装载时的内容不符。", column="document")


def _compare_people(connection: Connection, loaded: District) -> Iterator[Finding]:
    query = select(PersonRow.id, PersonRow.district, *(getattr(PersonRow, name) for name in _PERSON))
    rows = {str(row.values["id"]): row.values for row in read_rows(connection, query)}
    expected = {
        str(each.id): {"name": each.name, "phone": each.phone, "on_duty": each.on_duty, "active": True}
        for each in loaded.people
    }
    for person, right in expected.items():
        if (row := rows.get(person)) is None:
            yield _found("row_missing", "people", person, "已装载的人员被删除。")
        elif row["district"] != loaded.code:  # another district has loaded this person since, if it has
            if not _names(connection, str(row["district"]), person):
                yield _differs("people", person, "district", row["district"], loaded.code)
        else:
            for column in _PERSON:
                if row[column] != right[column]:
                    yield _differs("people", person, column, row[column], right[column])
    for person, row in rows.items():
        if row["district"] == loaded.code and row["active"] and person not in expected:
            yield _found("row_added", "people", person, "不在装载内容中的人员处于启用状态。")


def _names(connection: Connection, district: str, person: str) -> bool:
    """Whether the document of a district has this person."""
    query = select(DistrictRow.document).where(DistrictRow.code == district)
    row = next(read_rows(connection, query), None)
    try:
        loaded = District.model_validate_json(str(row.values["document"])) if row is not None else None
    except ValidationError:
        return True  # which is said of that district
    return loaded is not None and any(each.id == person for each in loaded.people)


def _compare_posts(connection: Connection, loaded: District) -> Iterator[Finding]:
    query = select(*(getattr(PostRow, name) for name in _POST)).join(
        PersonRow, PersonRow.id == PostRow.person
    )
    rows = read_rows(connection, query.where(PersonRow.district == loaded.code))
    stands = Counter(tuple(row.values[name] for name in _POST) for row in rows)
    people = select(PersonRow.id).where(PersonRow.district == loaded.code)
    here = set(connection.execute(people).scalars())
    expected = Counter(
        (each.id, post.role.value, post.organisation, post.township, post.city, post.squad)
        for each in loaded.people
        if each.id in here
        for post in each.posts
    )
    for post in stands - expected:
        yield _found("row_added", "posts", _place(post), "不在装载内容中的岗位:增加,或被改动。")
    for post in expected - stands:
        yield _found("row_missing", "posts", _place(post), "已装载的岗位不存在:被删除,或被改动。")


def _read(line: Row, district: str, seal: Seal | None) -> tuple[_Load | None, Binding]:
    """Return what a line says, and whether it is ours; without a seal nobody is accused."""
    try:
        said = dict(json.loads(line.values["arguments"]))
        code, at = str(said.pop("code")), line.values["at"]
        load = _Load(at=at, document=str(said["document"]), catalogues=dict(said["catalogues"]))
        text = _text(district, str(line.values["operation"]), at, said)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None, Binding.UNBOUND
    return load, seal.binding(_PURPOSE, text, code) if seal is not None else Binding.OTHER_KEY


def _text(district: str, operation: str, at: datetime, load: Mapping[str, object]) -> str:
    return _canonical([district, operation, at.astimezone(UTC).isoformat(), load])


def _canonical(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _place(post: Sequence[object]) -> str:
    return "/".join(str(part) for part in post[:4] if part)


def _differs(table: str, row: str, column: str, stands: object, right: object) -> Finding:
    return _found("column_differs", table, row, f"为“{stands}”,装载时为“{right}”。", column=column)


def _found(code: str, table: str, row: str, detail: str, *, column: str = "", proven: bool = True) -> Finding:
    return Finding(
        check=Check.DIRECTORY, code=code, table=table, row=row, field=column, detail=detail, proven=proven
    )

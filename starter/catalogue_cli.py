"""`shaodao catalogue`: search, compare, export, check and load the responsibility list.

A list is named by a file (CSV or .xlsx), by a district's folder, or by a version that was loaded once.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.markup import escape
from rich.table import Table

from domain.calendar import SHANGHAI
from domain.catalogue import Difference, Hit, Index, diff
from domain.district import District, Item, Organisation
from domain.words import LIMIT_CLASSES
from starter.local import DEFAULT_DATA, open_store, use_data
from starter.screen import console

if TYPE_CHECKING:
    from adapters.store import Store

app = typer.Typer(
    help="事项清单:查找、推荐、比较、导出、检查、装载。", no_args_is_help=True, rich_markup_mode=None
)
out = console()
err = console(stderr=True)

DataOption = Annotated[Path, typer.Option("--data", help="内置服务的数据目录。")]
DistrictOption = Annotated[str | None, typer.Option("--district", help="区(市)编号;只有一个时可省略。")]
SourceOption = Annotated[
    str | None, typer.Option("--in", help="文件、目录或清单版本;缺省为已装载的现行清单。")
]
_T = TypeVar("_T")
Limit = Annotated[int, typer.Option(min=1, max=1000, help="条数。")]
COLUMNS = {
    "field": "领域",
    "category": "诉求类别",
    "name": "名称",
    "keywords": "关键词",
    "primary": "主体责任",
    "cooperating": "配合责任",
    "township_duty": "镇街职责",
    "basis": "依据",
    "limit_class": "时限类别",
    "closing_condition": "办结条件",
    "evidence": "办结佐证",
    "flow": "运行流程",
    "note": "备注",
    "code": "编号",
}


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="要找的词,可容一个错字。")],
    source: SourceOption = None,
    district: DistrictOption = None,
    limit: Limit = 20,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """按文字查找事项,最相符的在前。"""
    _show(Index(_items(source, district, data)).search(text, limit))


@app.command()
def suggest(
    text: Annotated[str, typer.Argument(help="诉求的标题和内容。")],
    source: SourceOption = None,
    district: DistrictOption = None,
    limit: Limit = 5,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """根据诉求的文字推荐可能的事项。"""
    _show(Index(_items(source, district, data)).suggest(text, limit))


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="CSV、.xlsx 文件或区(市)数据目录。")],
    organisations: Annotated[
        Path | None, typer.Option(help="organisations.csv 所在目录;缺省为清单所在目录。")
    ] = None,
) -> None:
    """检查清单,一次列出全部问题(文件、行、列)。"""
    from adapters.district import read_items, read_organisations

    folder = organisations or (path if path.is_dir() else path.parent)
    known: Sequence[Organisation] | None = None
    if organisations or (folder / "organisations.csv").exists():
        known = _read_or_leave(lambda: read_organisations(folder))
    items = _read_or_leave(lambda: read_items(path, known))
    out.print(f"[green]✓[/green] {escape(str(path))}:事项 {len(items)} 项,领域 {len(_fields(items))} 个。")
    if known is None:
        out.print("未找到 organisations.csv,没有核对部门编号;可用 --organisations 指定目录。")


@app.command("diff")
def compare(
    old: Annotated[str, typer.Argument(help="旧清单:文件、目录或版本。")],
    new: Annotated[str | None, typer.Argument(help="新清单;缺省为已装载的现行清单。")] = None,
    district: DistrictOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """比较两份清单:新增、删除和修改的事项,修改的逐栏列出。"""
    _tell(diff(_items(old, district, data), _items(new, district, data)))


@app.command()
def versions(district: DistrictOption = None, data: DataOption = DEFAULT_DATA) -> None:
    """列出历次装载的清单版本,最新的在前。"""
    use_data(data)

    async def run() -> None:
        async with open_store() as store:
            found = await _district(store, district)
            table = Table()
            for column in ("版本", "现行", "首次装载", "事项"):
                table.add_column(column, overflow="fold")
            for each in await store.catalogue_versions(found.code):
                current = "是" if each.version == found.catalogue_version else ""
                loaded = each.loaded_at.astimezone(SHANGHAI).strftime("%Y-%m-%d %H:%M")
                table.add_row(escape(each.version), current, loaded, str(each.items))
            out.print(table)

    asyncio.run(run())


@app.command()
def export(
    target: Annotated[Path, typer.Argument(help="写入的文件;目录则写入其中的 catalogue.csv 或 .xlsx。")],
    file_format: Annotated[
        str | None, typer.Option("--format", help="csv 或 xlsx;缺省依文件名,否则 csv。")
    ] = None,
    source: SourceOption = None,
    district: DistrictOption = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """导出清单,可在电子表格中修改后重新装载。"""
    from adapters.catalogue_files import FORMATS

    named = target.suffix.lower().removeprefix(".")
    kind = file_format or (named if named in FORMATS else "csv")
    if kind not in FORMATS:
        err.print(f"[red]不支持的格式“{escape(kind)}”,应为 csv 或 xlsx。[/red]")
        raise typer.Exit(2)
    items = _items(source, district, data)
    file = target / f"catalogue.{kind}" if target.is_dir() else target
    if not file.parent.is_dir():
        err.print(f"[red]目录不存在:{escape(str(file.parent))}[/red]")
        raise typer.Exit(1)
    file.write_bytes(FORMATS[kind](items))
    out.print(f"已导出 {len(items)} 项:{escape(str(file))}")


@app.command()
def load(
    path: Annotated[Path, typer.Argument(help="CSV、.xlsx 文件或区(市)数据目录。")],
    district: DistrictOption = None,
    label: Annotated[
        str | None, typer.Option(help="新版本的名称;缺省沿用现行名称,内容摘要自动附后。")
    ] = None,
    data: DataOption = DEFAULT_DATA,
) -> None:
    """只更换事项清单:按已装载的机构核对,有任何问题则一概不装载。在办案件沿用立案时的版本。"""
    from adapters.district import read_items, version_of

    if label is not None and not (label.isprintable() and 0 < len(label.strip()) <= 100):
        err.print("[red]版本名称(--label)须为 1 至 100 个可见字符。[/red]")
        raise typer.Exit(2)
    use_data(data)

    async def run() -> tuple[str, Difference]:
        async with open_store() as store:
            found = await _district(store, district)
            items = read_items(path, found.organisations)
            name = label or found.catalogue_version.rpartition("/")[0] or found.catalogue_version
            version = version_of(name, items)
            await store.load_catalogue(found.code, items, version, datetime.now(UTC))
            return version, diff(found.items, items)

    version, difference = _read_or_leave(lambda: asyncio.run(run()))
    _tell(difference)
    out.print(f"已装载,版本 {escape(version)}。新案件适用新清单,在办案件沿用立案时的版本。")


# --- reading -----------------------------------------------------------------------------------------------


def _items(source: str | None, district: str | None, data: Path) -> tuple[Item, ...]:
    from adapters.district import read_items

    if source is not None and Path(source).exists():
        return _read_or_leave(lambda: read_items(Path(source)))
    use_data(data)

    async def run() -> tuple[Item, ...] | None:
        async with open_store() as store:
            found = await _district(store, district)
            if source is None or source == found.catalogue_version:
                return found.items
            return await store.catalogue(found.code, source)

    items = asyncio.run(run())
    if items is None:
        err.print(
            f"[red]没有文件、目录或清单版本“{escape(str(source))}”;版本见 shaodao catalogue versions。[/red]"
        )
        raise typer.Exit(1)
    return items


async def _district(store: "Store", code: str | None) -> District:
    from starter.identity import Directory

    directory = Directory(store, tells=False)
    await directory.refresh()
    for each in directory.refused() if code is None else [code]:
        directory.require_bound(each)
    found = directory.districts()
    chosen = [district for district in found if code in {None, district.code}]
    if len(chosen) == 1:
        return chosen[0]
    known = "、".join(district.code for district in found) or "(无)"
    err.print(f"[red]请用 --district 指定已装载的区(市):{escape(known)}。[/red]")
    raise typer.Exit(1)


def _read_or_leave(read: Callable[[], _T]) -> _T:
    """Return what is read, or name every mistake and leave."""
    from adapters.district import DistrictInvalid

    try:
        return read()
    except DistrictInvalid as invalid:
        for problem in invalid.problems:
            err.print(f"[red]✗[/red] {escape(str(problem))}")
        err.print(f"共 {len(invalid.problems)} 处问题,未装载任何内容。")
        raise typer.Exit(1) from None


# --- telling -----------------------------------------------------------------------------------------------


def _fields(items: Sequence[Item]) -> set[str]:
    return {item.field for item in items}


def _show(hits: Sequence[Hit]) -> None:
    if not hits:
        out.print("没有找到相符的事项。")
        raise typer.Exit(1)
    table = Table()
    table.add_column("编号", no_wrap=True)  # people copy it
    for column in ("领域", "名称", "主体责任", "时限类别", "相符", "相符之处"):
        table.add_column(column, overflow="fold")
    for hit in hits:
        item = hit.item
        why = "、".join(f"{COLUMNS[each.column]}:{each.text}" for each in hit.matched)
        cells = (item.code, item.field, item.name, item.primary, LIMIT_CLASSES[item.limit_class])
        table.add_row(*map(escape, cells), f"{hit.score:.0f}", escape(why))
    out.print(table)


def _tell(difference: Difference) -> None:
    if difference.is_empty:
        out.print("两份清单内容相同。")
        return
    for sign, colour, items in (("+", "green", difference.added), ("-", "red", difference.removed)):
        for item in items:
            out.print(f"[{colour}]{sign} {escape(item.code)}[/{colour}] {escape(item.name)}")
    for each in difference.changed:
        out.print(f"[yellow]~ {escape(each.code)}[/yellow] {escape(each.name)}")
        for change in each.changes:
            old, new = (
                escape(value if isinstance(value, str) else ";".join(value) or "(空)")
                for value in (change.old or "(空)", change.new or "(空)")
            )
            out.print(f"    {COLUMNS[change.column]}:{old} → {new}")
    out.print(
        f"新增 {len(difference.added)} 项,删除 {len(difference.removed)} 项,修改 {len(difference.changed)} 项。"
    )

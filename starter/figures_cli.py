"""`shaodao figures`: the figures of domain.md §6 on the command line, over HTTP."""

import csv
import io
import json
import sys
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from domain.calendar import SHANGHAI
from domain.figures import By
from starter.screen import console

figures_app = typer.Typer(rich_markup_mode=None)


class Format(StrEnum):
    """How it is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


RATES = {
    "sign_for": "签收率",
    "timely_sign_for": "及时签收率",
    "check_in": "报到率",
    "same_day": "当日报到率",
    "on_time": "按时报到率",
    "closed": "办结率",
    "closed_on_time": "按期办结率",
    "rework": "重办率",
    "reopened": "重新打开率",
    "objection": "异议率",
    "objection_upheld": "异议成立率",
    "satisfaction": "满意率",
    "satisfaction_as_given": "满意率(更正前)",
    "unrated": "未评价率",
    "resolution": "解决率",
}
_SHOWN = ("sign_for", "check_in", "same_day", "on_time", "closed", "satisfaction", "unrated", "resolution")
_DATE = len("2026-03-04")


@figures_app.command("figures")
def figures(
    by: Annotated[By | None, typer.Option(help="按何分组。")] = None,
    begin: Annotated[str | None, typer.Option("--from", help="吹哨时间不早于,如 2026-03-01。")] = None,
    before: Annotated[str | None, typer.Option(help="吹哨时间早于,如 2026-04-01。")] = None,
    district: Annotated[str | None, typer.Option(help="区(市);市级不填则为全市。")] = None,
    format_: Annotated[Format, typer.Option("--format", help="输出格式。")] = Format.TABLE,
    url: Annotated[str, typer.Option(envvar="SHAODAO_URL", help="服务地址。")] = "http://127.0.0.1:8030",
) -> None:
    """统计指标:每项均附分母,没有分母即无数值。"""
    from starter.cli import _request  # it takes this module in

    query = {"by": by, "from": _moment(begin), "before": _moment(before), "district": district}
    page = _request(url, "GET", "/figures", query=query)
    match format_:
        case Format.JSON:
            sys.stdout.write(json.dumps(page, ensure_ascii=False, indent=2) + "\n")
        case Format.CSV:
            sys.stdout.write(_csv(page))
        case Format.TABLE:
            console().print(_table(page))


def _moment(text: str | None) -> str | None:
    """A date alone is its first moment in Asia/Shanghai; anything else goes as it is, and the service judges it."""
    if text is None or len(text) != _DATE:
        return text
    try:
        return datetime.fromisoformat(text).replace(tzinfo=SHANGHAI).isoformat()
    except ValueError:
        return text


def _lines(page: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        *((row["code"], row["name"], row["figures"]) for row in page["rows"]),
        ("", "合计", page["total"]),
    ]


def _table(page: dict[str, Any]) -> Table:
    table = Table(title="统计指标(括号内为分母)", title_justify="left")
    for column in ("分组", "案件", *(RATES[name] for name in _SHOWN)):
        table.add_column(column, overflow="fold")
    for _, name, found in _lines(page):
        table.add_row(name, str(found["cases"]), *(_percent(found[each]) for each in _SHOWN))
    return table


def _percent(rate: dict[str, Any]) -> str:
    return f"{rate['value']:.1%}({rate['n']})" if rate["value"] is not None else "—(0)"


def _csv(page: dict[str, Any]) -> str:
    """Return every rate with numerator and denominator; counts of what is left out are in the JSON."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parts = [f"{label}{part}" for label in RATES.values() for part in ("", "·分子", "·分母")]
    writer.writerow(["编号", "名称", "案件", "派单", "应报到", *parts])
    for code, name, found in _lines(page):
        cells = [found[rate][part] for rate in RATES for part in ("value", "numerator", "n")]
        writer.writerow([code, name, found["cases"], found["dispatched"], found["due"], *cells])
    return text.getvalue()

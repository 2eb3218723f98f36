"""`shaodao ops` and `shaodao archive`: over HTTP, with the operator's own token, so that the journal knows who it was."""

import json
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from domain.district import AdoptionScope
from domain.words import local
from starter.journal import paragraphs

_Request: TypeAlias = Callable[..., Any]
_POLL = 0.5
_PATIENCE = 600
_PAGE = 1000

out = Console()
err = Console(stderr=True)
ops_app = typer.Typer(
    help="运维:查找受阻的案件,重发、重建、重置、核对、归档;均记入运维日志。", no_args_is_help=True
)
archive_app = typer.Typer(help="查阅、校验归档。", no_args_is_help=True)

Url = Annotated[str, typer.Option(envvar="SHAODAO_URL", help="服务地址。")]
LOCAL = "http://127.0.0.1:8030"


def add_to(app: typer.Typer, request: _Request) -> None:
    """Add both groups; `request` sends one request with the token of the environment, and leaves on a refusal."""
    _Sending.request = staticmethod(request)
    app.add_typer(ops_app, name="ops")
    app.add_typer(archive_app, name="archive")


class _Sending:
    """How requests are sent: the command line's own way."""

    request: _Request


def _get(url: str, path: str, **query: Any) -> Any:
    return _Sending.request(url, "GET", path, query=query)


def _post(url: str, path: str, **body: Any) -> Any:
    sent = {key: value for key, value in body.items() if value is not None}
    return _Sending.request(url, "POST", path, body=sent)


def _table(*columns: str) -> Table:
    table = Table()
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _local(moment: str | None) -> str:
    return local(datetime.fromisoformat(moment)) if moment else "—"


def _paragraph(head: str, below: Iterable[str]) -> None:
    """Print what fits any width: a table of six columns does not fit eighty."""
    out.print(Text(head, style="bold"))
    for line in below:
        out.print(Padding(Text(line, overflow="fold"), (0, 0, 0, 4), expand=False))


# --- ops ---------------------------------------------------------------------------------------------------


@ops_app.command()
def stuck(
    case_id: Annotated[str | None, typer.Argument(help="案件编号;不填则列出全部。")] = None,
    url: Url = LOCAL,
) -> None:
    """列出受阻的事项:原因与处理办法。有受阻的,退出状态为 1。"""
    items = _get(url, "/ops/stuck", case_id=case_id)["items"]
    if not items:
        out.print("没有受阻的事项。")
        return
    for each in items:
        where = f"案件 {each['case_id']}" if each["case_id"] else "全部案件"
        notice = f"(通知编号 {each['notice_id']})" if each["kind"] == "notice" else ""
        since = f",自 {_local(each['since'])}" if each["since"] else ""
        tried = f",已试 {each['attempts']} 次" if each["attempts"] else ""
        below = [f"处理:{each['advice']}", f"程序报告:{each['error']}" if each["error"] else ""]
        _paragraph(f"✗ {where}  {each['cause']}{notice}{since}{tried}", filter(None, below))
    raise typer.Exit(1)


@ops_app.command()
def resend(
    what: Annotated[str, typer.Argument(help="通知编号或案件编号。")],
    url: Url = LOCAL,
) -> None:
    """重发一条通知,或一个案件的全部通知。"""
    body: dict[str, Any] = {"notice_id": int(what)} if what.isdecimal() else {"case_id": what}
    count = _post(url, "/ops/resend", **body)["count"]
    out.print(f"将重发 {count} 条通知。")


@ops_app.command()
def rebuild(
    case_ids: Annotated[list[str] | None, typer.Argument(help="案件编号;不填则全部重建。")] = None,
    url: Url = LOCAL,
) -> None:
    """按台账重建读模型(列表、时钟、时间线)。"""
    count = _post(url, "/ops/rebuild", case_ids=case_ids or [])["count"]
    out.print(f"已按台账重建,共 {count} 条记录。")


@ops_app.command()
def reset(
    case_id: Annotated[str, typer.Argument(help="案件编号。")],
    reason: Annotated[str, typer.Option(help="原因,记入运维日志。")],
    before_deploy: Annotated[str | None, typer.Option(help="退回到该版本(build id)之前。")] = None,
    to_event: Annotated[int | None, typer.Option(help="退回到该历史事件之前。")] = None,
    *,
    from_ledger: Annotated[bool, typer.Option("--from-ledger", help="按台账继续。")] = False,
    despite_anchor: Annotated[
        bool, typer.Option("--despite-anchor", help="台账与锚定或归档不符,已由审计人员查明,仍按台账继续。")
    ] = False,
    url: Url = LOCAL,
) -> None:
    """重置案件的办理流程;台账只增不改。"""
    outcome = _post(
        url,
        "/ops/reset",
        case_id=case_id,
        reason=reason,
        before_deploy=before_deploy,
        to_event=to_event,
        from_ledger=from_ledger,
        despite_anchor=despite_anchor,
    )
    if outcome["mode"] == "history":
        out.print("已退回,其后的操作自动重新办理。")
    else:
        out.print(
            f"案件已按台账继续:其后已记入台账的 {outcome['kept']} 条保持原样,"
            f"台账没有的 {outcome['repeated']} 项操作交由补办。"
        )


@ops_app.command()
def reconcile(
    *,
    now: Annotated[bool, typer.Option("--now", help="立即核对并等待结果。")] = False,
    restart_many: Annotated[bool, typer.Option("--restart-many", help="缺失很多时也恢复。")] = False,
    url: Url = LOCAL,
) -> None:
    """查看最近一次核对:在办案件与办理流程的差异。有未处理的差异,退出状态为 1。"""
    begun = _post(url, "/ops/reconcile", restart_many=restart_many)["begun_at"] if now else None
    report = _get(url, "/ops/reconciliation")
    patience = time.monotonic() + _PATIENCE
    while begun and (report["at"] or "") < begun and time.monotonic() < patience:
        time.sleep(_POLL)
        report = _get(url, "/ops/reconciliation")
    if report["at"] is None:
        out.print("尚未核对过。")
        return
    out.print(f"核对时间 {_local(report['at'])},在办 {report['open_cases']} 件。")
    if report["held"]:
        err.print("[red]缺失的案件过多,未自动恢复:请先核对命名空间是否正确,再加 --restart-many。[/red]")
    table = _table("案件", "差异", "说明", "已处理")
    for each in report["items"]:
        table.add_row(each["case_id"], each["kind"], each["detail"], each["done"] or "—")
    out.print(table if report["items"] else "没有差异。")
    raise typer.Exit(1 if any(not each["done"] for each in report["items"]) else 0)


@ops_app.command("archive")
def archive_now(
    *,
    now: Annotated[bool, typer.Option("--now", help="立即开始归档。")] = False,
    url: Url = LOCAL,
) -> None:
    """查看归档进度。"""
    if now:
        _post(url, "/ops/archive")
        out.print("已开始归档。")
    lag = _get(url, "/ops/archive")
    out.print(f"归档位置:{lag['location'] or '未设置(SHAODAO_ARCHIVE)'}")
    out.print(f"待归档 {lag['unarchived']} 件,最早办结于 {_local(lag['oldest_closed_at'])}。")


@ops_app.command()
def journal(
    limit: Annotated[int, typer.Option(help="行数(每项操作两行)。", min=1, max=1000)] = 100, url: Url = LOCAL
) -> None:
    """运维日志,最新的在前:何时、结果、何事、何人;其后为内容与说明。"""
    for head, below in paragraphs(_get(url, "/ops/journal", limit=limit)["items"]):
        _paragraph(head, below)


@ops_app.command()
def reproject(
    reason: Annotated[str, typer.Option(help="依据,记入每个案件的台账和运维日志。")],
    scope: Annotated[
        AdoptionScope, typer.Option(help="calendar 工作日历、policy 政策、all 二者。")
    ] = AdoptionScope.CALENDAR,
    district: Annotated[str | None, typer.Option(help="区(市)代码;默认为本人所在区(市)。")] = None,
    url: Url = LOCAL,
) -> None:
    """按新装载的工作日历(或政策)重算全部在办案件的时限;同 district apply。"""
    done = _post(url, "/policy/adoptions", scope=scope, reason=reason, district=district)
    out.print(
        f"已受理:{done['cases']} 件在办案件将适用政策 {done['policy_version']}、日历 {done['calendar_version']}。"
    )


# --- archive -----------------------------------------------------------------------------------------------


@archive_app.command("list")
def archive_list(
    after: Annotated[str, typer.Option(help="从该案件编号之后开始。")] = "",
    limit: Annotated[int, typer.Option(help="条数。", min=1, max=1000)] = 100,
    url: Url = LOCAL,
) -> None:
    """列出已归档的案件。"""
    table = _table("案件", "归档时间", "台账条数", "运行数", "完整", "位置")
    for each in _get(url, "/archive", after=after, limit=limit)["items"]:
        table.add_row(
            each["case_id"],
            _local(each["archived_at"]),
            str(each["entries"]),
            str(each["runs"]),
            "是" if each["complete"] else "否",
            each["location"],
        )
    out.print(table)


@archive_app.command("show")
def archive_show(
    case_id: str,
    save: Annotated[Path | None, typer.Option(help="把清单、台账和运行历史存入该目录。")] = None,
    url: Url = LOCAL,
) -> None:
    """从归档读出一个案件;不依赖办理引擎。"""
    found = _get(url, f"/cases/{case_id}/archive")
    table = _table("条", "时间", "事项", "办理人", "哈希")
    for line in found["ledger"]:
        entry = json.loads(line["entry"])
        by = (entry.get("by") or {}).get("name", "时钟")
        table.add_row(
            str(entry["sequence"]), _local(entry["at"]), entry["event"]["kind"], by, line["hash"][:12]
        )
    out.print(table)
    for run in found["manifest"]["runs"]:
        out.print(f"运行 {run['run_id']}:{run['status']},{run['events']} 个事件,{run['kept']['location']}")
    if save is not None:
        _save(url, case_id, found, save)
        out.print(f"已存入 {save.resolve()}")


def _save(url: str, case_id: str, found: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    manifest = json.dumps(found["manifest"], ensure_ascii=False, indent=1)
    (folder / "manifest.json").write_text(manifest, "utf-8")
    ledger = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found["ledger"])
    (folder / "ledger.jsonl").write_text(ledger, "utf-8")
    for run in found["manifest"]["runs"]:
        history = _get(url, f"/cases/{case_id}/archive/runs/{run['run_id']}")
        (folder / f"{run['run_id']}.json").write_text(
            json.dumps(history, ensure_ascii=False, indent=1), "utf-8"
        )


@archive_app.command("verify")
def archive_verify(
    case_id: Annotated[str | None, typer.Argument(help="案件编号。")] = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="校验全部。")] = False,
    url: Url = LOCAL,
) -> None:
    """重新读出归档的每个文件,核对摘要与哈希链。有问题的,退出状态为 1。"""
    if (case_id is None) == (not everything):
        err.print("[red]请指明案件编号,或用 --all 校验全部。[/red]")
        raise typer.Exit(2)
    wrong = checked = 0
    for each in [case_id] if case_id else _all(url):
        checked += 1
        problem = _get(url, f"/cases/{each}/archive", check=True)["problem"]
        if problem:
            wrong += 1
            err.print(f"[red]✗ {each}:{problem}[/red]")
    out.print(f"已校验 {checked} 件,有问题 {wrong} 件。")
    raise typer.Exit(1 if wrong else 0)


def _all(url: str) -> list[str]:
    found: list[str] = []
    while True:
        page = _get(url, "/archive", after=found[-1] if found else "", limit=_PAGE)["items"]
        found += [each["case_id"] for each in page if each["case_id"] not in found[-1:]]
        if len(page) < _PAGE:
            return list(dict.fromkeys(found))

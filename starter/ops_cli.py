"""`shaodao ops` and `shaodao archive`: over HTTP, with the operator's own token, so that the journal knows who it was."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote

import typer
from rich.padding import Padding
from rich.text import Text

from domain.calendar import SHANGHAI
from domain.district import AdoptionScope
from domain.words import local
from starter.journal import paragraphs
from starter.screen import console

_Request: TypeAlias = Callable[..., Any]
_POLL = 0.5
_PATIENCE = 600
_PAGE = 1000

out = console()
err = console(stderr=True)
ops_app = typer.Typer(
    help="运维:查找受阻的案件,重发、重建、重置、核对、归档;均记入运维日志。",
    no_args_is_help=True,
    rich_markup_mode=None,
)
archive_app = typer.Typer(help="查阅、校验归档。", no_args_is_help=True, rich_markup_mode=None)

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


def at(*parts: str) -> str:
    """Return the path to something by its number, as it was typed; leave in Chinese on what would be another address.

    A slash is one even when it is escaped: servers decode it before they look for the address.
    """
    for part in parts:
        if "/" in part or part in {"", ".", ".."}:
            err.print(Text(f"编号“{part}”有误:不能为空、为点号或含“/”,请核对后重试。", style="red"))
            raise typer.Exit(2)
    return "".join(f"/{quote(part, safe='')}" for part in parts)


def _local(moment: str | None) -> str:
    return local(datetime.fromisoformat(moment)) if moment else "—"


def _paragraph(head: str, below: Iterable[str], *, prose: bool = False) -> None:
    """Print what fits any width: a table of six columns does not fit eighty.

    Args:
        prose: broken and indented at the width of the terminal; else left whole, to be copied.
    """
    out.print(Text(head, style="bold"))
    for line in below:
        if prose:
            out.print(
                Padding(Text(line, overflow="fold"), (0, 0, 0, 4), expand=False),
                soft_wrap=False,
                no_wrap=False,
            )
        else:
            out.print(Text(f"    {line}"))


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
        where = f"案件 {each['case_id']}" if each["case_id"] else "全局"
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
    reason: Annotated[str, typer.Option(help="为什么重置;记入运维日志。")],
    before_deploy: Annotated[
        str | None,
        typer.Option(help="方式一:退到该版本(build id)办理本案之前,其后的操作由现行版本重新办理。"),
    ] = None,
    to_event: Annotated[
        int | None,
        typer.Option(help="方式二:退到 Temporal 历史中该编号的事件之前,其后的操作重新办理。"),
    ] = None,
    *,
    from_ledger: Annotated[
        bool, typer.Option("--from-ledger", help="方式三:不看历史,结束当前运行,按台账现状继续。")
    ] = False,
    despite_anchor: Annotated[
        bool,
        typer.Option(
            "--despite-anchor",
            help="台账与锚定、归档或已结束运行的历史中台账确认过的记录不符,已由审计人员查明,仍按台账继续。",
        ),
    ] = False,
    url: Url = LOCAL,
) -> None:
    """让卡住的案件重新继续办理。

    三种方式选一种:版本有问题用 --before-deploy,只退几步用 --to-event,运行已终止或历史不可用用 --from-ledger。

    台账只增不改:退回之后的操作若已记入台账,不会重来,案件改为按台账现状继续;台账没有的操作自动补办。
    """
    if sum((before_deploy is not None, to_event is not None, from_ledger)) != 1:
        err.print("[red]请指明且只指明一项:--before-deploy 版本、--to-event 事件编号、--from-ledger。[/red]")
        raise typer.Exit(2)
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
        kept = f"退回点之后已记入台账的 {outcome['kept']} 条保持原样," if outcome["kept"] else ""
        out.print(f"案件已按台账继续:{kept}台账没有的操作 {outcome['repeated']} 项,自动补办。")


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
    for each in report["items"]:
        done = f"已处理({each['done']})" if each["done"] else "未处理"
        _paragraph(f"案件 {each['case_id']}  {each['kind']}  {done}", filter(None, [each["detail"]]))
    if not report["items"]:
        out.print("没有差异。")
    raise typer.Exit(1 if any(not each["done"] for each in report["items"]) else 0)


@ops_app.command("archive")
def archive_now(
    *,
    now: Annotated[bool, typer.Option("--now", help="立即开始归档。")] = False,
    renew_many: Annotated[
        bool, typer.Option("--renew-many", help="归档中缺失很多时也重新归档;须与 --now 同用。")
    ] = False,
    url: Url = LOCAL,
) -> None:
    """查看归档进度。"""
    if now:
        _post(url, "/ops/archive", renew_many=renew_many)
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
        _paragraph(head, below, prose=True)


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
    for each in _get(url, "/archive", after=after, limit=limit)["items"]:
        whole = "完整" if each["complete"] else "不完整(归档之前,Temporal 已遗忘部分运行)"
        _paragraph(
            f"{each['case_id']}  {_local(each['archived_at'])} 归档",
            [
                f"台账 {each['entries']} 条,运行 {each['runs']} 个,{whole}",
                each["location"],
                f"SHA-256 {each['sha256']}",
            ],
        )


@archive_app.command("runs")
def archive_runs(
    case_id: Annotated[str | None, typer.Argument(help="案件编号;不填则列出全部。")] = None,
    after: Annotated[str, typer.Option(help="从该运行编号之后开始。")] = "",
    limit: Annotated[int, typer.Option(help="条数。", min=1, max=1000)] = 100,
    url: Url = LOCAL,
) -> None:
    """列出已归档的运行,含未办结案件中先行结束的(续接、终止、重置)。"""
    for each in _get(url, "/archive/runs", case_id=case_id, after=after, limit=limit)["items"]:
        _show_run(each)


def _show_run(run: dict[str, Any]) -> None:
    ended = f"{_STATUSES.get(run['status'], run['status'])},{run['events']} 个事件,{run['size']:,} 字节"
    lasted = f"{_local(run['started_at'])} 至 {_local(run['closed_at'])}"
    below = [f"{ended},{lasted}", run["location"], f"SHA-256 {run['sha256']}"]
    _paragraph(f"{run['case_id']}  运行 {run['run_id']}", below)


_STATUSES = {
    "COMPLETED": "正常结束",
    "CONTINUED_AS_NEW": "转入新的运行",
    "TERMINATED": "被终止",
    "FAILED": "失败",
    "CANCELED": "被取消",
    "TIMED_OUT": "超时",
}


@archive_app.command("show")
def archive_show(
    case_id: Annotated[str, typer.Argument(help="案件编号。")],
    run: Annotated[str | None, typer.Option(help="运行编号,见 archive runs:只看这一次运行。")] = None,
    save: Annotated[Path | None, typer.Option(help="把清单、台账和运行历史存入该目录。")] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="输出运行历史(JSON),载荷保持密文。")] = False,
    url: Url = LOCAL,
) -> None:
    """从归档读出一个案件,或其中一次运行;不依赖办理引擎。"""
    if run is not None and not as_json and save is None:
        _show_timeline(_get(url, at("cases", case_id, "archive", "runs", run, "timeline")))
        return
    found = _get(url, at("cases", case_id, "archive"))
    found["runs"] = [each for each in found["runs"] if run in {None, each["run_id"]}]
    if as_json:
        histories = {each["run_id"]: _history(url, case_id, each["run_id"]) for each in found["runs"]}
        out.print_json(json.dumps(histories[run] if run else histories, ensure_ascii=False))
    else:
        _show_ledger(found["ledger"])
        for each in found["runs"]:
            _show_run(each)
    if save is not None:
        _save(url, case_id, found, save)
        err.print(f"已存入 {save.resolve()}")


def _history(url: str, case_id: str, run_id: str) -> Any:
    return _get(url, at("cases", case_id, "archive", "runs", run_id))


def _show_timeline(found: dict[str, Any]) -> None:
    _show_run(found["run"])
    for line in found["items"]:
        at = datetime.fromisoformat(line["at"]).astimezone(SHANGHAI)
        who = f"{line['who']}:" if line["who"] else ""
        out.print(Text(f"{at:%m-%d %H:%M:%S}  {who}{line['text']}(事件 {line['event_id']})"))


def _show_ledger(ledger: list[dict[str, str]]) -> None:
    if not ledger:
        out.print("案件尚未归档(未办结),归档中只有先行结束的运行:")
        return
    for line in ledger:
        entry = json.loads(line["entry"])
        by = (entry.get("by") or {}).get("name", "系统时钟")
        head = f"{entry['sequence']:>3}  {_local(entry['at'])}  {by}:{line['text']}"
        out.print(Text(f"{head}  {line['hash'][:12]}"))


def _save(url: str, case_id: str, found: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if found["manifest"]:
        manifest = json.dumps(found["manifest"], ensure_ascii=False, indent=1)
        (folder / "manifest.json").write_text(manifest, "utf-8")
        lines = [{"entry": line["entry"], "hash": line["hash"]} for line in found["ledger"]]
        ledger = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / "ledger.jsonl").write_text(ledger, "utf-8")
    for run in found["runs"]:
        history = json.dumps(_history(url, case_id, run["run_id"]), ensure_ascii=False, indent=1)
        (folder / f"{run['run_id']}.json").write_text(history, "utf-8")


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
        try:
            problem = _get(url, at("cases", each, "archive"), check=True)["problem"]
        except typer.Exit:  # which has said why: the others are verified all the same
            if not everything:
                raise
            problem = "登记为已归档,而未能读取。"
        if problem:
            wrong += 1
            err.print(f"[red]✗ {each}:{problem}[/red]")
    out.print(f"已校验 {checked} 件,有问题 {wrong} 件。")
    raise typer.Exit(1 if wrong else 0)


def _all(url: str) -> list[str]:
    """Return every case of which anything is archived, be it runs only."""
    cases = [each["case_id"] for each in _pages(url, "/archive", "case_id")]
    runs = [each["case_id"] for each in _pages(url, "/archive/runs", "run_id")]
    return sorted({*cases, *runs})


def _pages(url: str, path: str, cursor: str) -> Iterator[dict[str, Any]]:
    after = ""
    while True:
        page = _get(url, path, after=after, limit=_PAGE)["items"]
        yield from page
        if len(page) < _PAGE:
            return
        after = page[-1][cursor]

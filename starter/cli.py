"""The command line. What people read is Chinese; exit statuses are for scripts."""

import asyncio
import itertools
import json
import os
import re
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
import uvloop
from rich.table import Table
from rich.text import Text

from domain.commands import Act
from domain.district import AdoptionScope
from domain.errors import DomainError
from domain.words import ACTS, local
from starter import catalogue_cli, ops_cli
from starter.audit_cli import audit_app
from starter.bodies import BODIES
from starter.figures_cli import figures_app
from starter.key_commands import key_app
from starter.local import DEFAULT_DATA, is_missing
from starter.local import open_store as _store
from starter.local import use_data as _use_data
from starter.screen import aligned, console, listed

app = typer.Typer(
    help="哨到:镇街吹哨、部门报到。",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
case_app = typer.Typer(help="通过 HTTP 接口办理案件。", no_args_is_help=True, rich_markup_mode=None)
district_app = typer.Typer(help="检查、装载区(市)数据。", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(case_app, name="case")
app.add_typer(district_app, name="district")
app.add_typer(catalogue_cli.app, name="catalogue")
app.add_typer(key_app, name="keys")
app.add_typer(audit_app, name="audit")
app.add_typer(figures_app)

out = console()
err = console(stderr=True)

Url = Annotated[str, typer.Option(envvar="SHAODAO_URL", help="服务地址。")]
LOCAL = "http://127.0.0.1:8030"
_ASK_AGAIN = 1.0
"""Seconds between two attempts to reach a database that is waited for."""

DEFAULT_DISTRICTS = Path(__file__).resolve().parent.parent / "districts"


def main() -> None:
    """Run the command line, and leave the process without the interpreter's own shutdown.

    The Temporal client's threads abort at interpreter exit now and then (sdk-python issue 300): flush and leave.
    """
    try:
        ended = app(standalone_mode=False)  # an exit status that a command leaves with comes back as a value
        status = ended if isinstance(ended, int) else 0
    except typer.Abort:
        status = 130
    except KeyboardInterrupt:
        status = 130
    except DomainError as error:
        err.print(f"[red]{error.detail}[/red]")
        status = 1
    except Exception as error:
        status = _explained(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _explained(error: Exception) -> int:
    """Say what is wrong in Chinese where we know it; else show the error whole."""
    from adapters.database import StoreUnavailable
    from starter.stack import StackError

    show = getattr(error, "show", None)
    if callable(show):  # click's own usage errors
        show()
        return 2
    if isinstance(error, StackError):
        err.print(f"[red]{error}[/red]")
        return 1
    if isinstance(error, StoreUnavailable):
        err.print("[red]无法连接数据库:请检查 SHAODAO_DATABASE_URL 和数据库服务。[/red]")
        err.print(str(error), markup=False)
        return 1
    if isinstance(error, OSError):
        err.print(_of_files(error), style="red", markup=False)
        return 1
    if isinstance(error, UnicodeDecodeError):
        err.print("[red]文件不是 UTF-8 文本,请转换编码后重试。[/red]")
        return 1
    err.print_exception()
    return 1


def _of_files(error: OSError) -> str:
    if error.filename is None:
        return f"系统拒绝了这一操作:{error}"
    why = next((told for kind, told in _FILE_ERRORS.items() if isinstance(error, kind)), "无法读写")
    return f"{error.filename}:{why}。"


_FILE_ERRORS: dict[type[OSError], str] = {
    FileNotFoundError: "找不到该文件或目录",
    FileExistsError: "已有同名文件,此处应为目录",
    NotADirectoryError: "不是目录",
    IsADirectoryError: "是目录,此处应为文件",
    PermissionError: "没有读写权限",
}


# --- serving -----------------------------------------------------------------------------------------------


def _require_port(port: int) -> int:
    if port not in range(_PORTS):
        raise typer.BadParameter(f"端口应在 0 到 {_PORTS - 1} 之间:{port}")
    return port


_PORTS = 2**16


@app.command()
def up(
    data: Annotated[Path, typer.Option(help="数据目录,重启后保留。")] = DEFAULT_DATA,
    districts: Annotated[Path, typer.Option(help="区(市)数据目录。")] = DEFAULT_DISTRICTS,
    host: Annotated[str, typer.Option(help="监听地址。")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="HTTP 端口。", callback=_require_port)] = 8030,
    temporal_port: Annotated[int, typer.Option(help="Temporal 端口。", callback=_require_port)] = 7233,
    temporal_ui_port: Annotated[int, typer.Option(help="Temporal 界面端口。", callback=_require_port)] = 8233,
    sync: Annotated[str, typer.Option(help="normal 较快;full 断电也不丢最后一刻。")] = "normal",
) -> None:
    """在一个进程树内启动全部服务(Temporal、工作进程、接口);Ctrl-C 结束。"""
    from starter.embedded import Stack, StackOptions

    options = StackOptions(
        data=data.resolve(),
        districts=districts,
        host=host,
        port=port,
        temporal_port=temporal_port,
        ui_port=temporal_ui_port,
        sync=sync,
    )

    async def serve() -> None:
        stop = _stop_signal()
        with out.status("正在启动……"):
            stack = Stack(options)
            await stack.__aenter__()
        try:
            out.print(addresses(stack.url, stack.ui_url, data))
            for told in stack.refused.values():
                out.print(f"[yellow]暂停服务的区(市)[/] {told}")
            await stop.wait()
        finally:
            out.print("正在停止……")
            await stack.stop()

    asyncio.run(serve())


def addresses(url: str, ui_url: str | None, data: Path) -> Text:
    """Return where to look."""
    login = f"{url}/codec/login(登录并按该页步骤设置一次浏览器后,Temporal 界面显示中文摘要与详情)"
    rows = [
        ("首页", url),
        ("接口文档", f"{url}/docs"),
        ("Temporal 界面", ui_url or "(未启用)"),
        ("解密登录", login),
        ("数据与日志", str(data.resolve())),
        ("取得令牌", f"shaodao token 人员编号 --data {data}"),
    ]
    return Text("哨到已就绪\n", style="bold").append_text(aligned(rows))


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


@app.command()
def api() -> None:
    """启动 HTTP 接口(设置取自环境变量 SHAODAO_*、TEMPORAL_*)。"""
    from starter.api import serve

    uvloop.run(serve())


@app.command()
def worker() -> None:
    """启动工作进程(等同于 python worker.py)。"""
    from worker import main as work

    uvloop.run(work())


@app.command()
def migrate(
    wait: Annotated[int, typer.Option(help="数据库尚未就绪时,最多等待多少秒。", min=0)] = 0,
) -> None:
    """将数据库升级到当前版本。"""
    from adapters.database import StoreUnavailable
    from adapters.migrate import current, head, upgrade
    from adapters.settings import Settings

    url = Settings().database_url
    give_up = time.monotonic() + wait
    while True:
        try:
            upgrade(url)
            break
        except StoreUnavailable:
            if time.monotonic() >= give_up:
                raise
            time.sleep(_ASK_AGAIN)
    out.print(f"数据库版本:{current(url)}(最新:{head()})")


@app.command()
def rebuild(data: Annotated[Path, typer.Option(help="内置服务的数据目录。")] = DEFAULT_DATA) -> None:
    """根据台账重建全部读模型(列表、时钟、时间线)。"""
    _use_data(data)

    async def run() -> int:
        async with _store() as store:
            folded: int = await store.rebuild()
            return folded

    out.print(f"已按台账重建,共 {asyncio.run(run())} 条记录。")


@app.command()
def demo(
    exit_when_done: Annotated[bool, typer.Option("--exit", help="演示结束后退出。")] = False,
    data: Annotated[Path | None, typer.Option(help="数据目录;默认用临时目录。")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP 端口;默认 8030,已被占用时另选。")] = None,
    temporal_port: Annotated[
        int | None, typer.Option(help="Temporal 端口;默认 7233,已被占用时另选。")
    ] = None,
    temporal_ui_port: Annotated[
        int | None, typer.Option(help="Temporal 界面端口;默认 8233,已被占用时另选。")
    ] = None,
) -> None:
    """启动内置服务,经 HTTP 接口演示三个案例,并保持运行。"""
    from starter.demo import options_of, run

    with tempfile.TemporaryDirectory(prefix="shaodao-demo-") as scratch:
        options = options_of(data.resolve() if data else Path(scratch), port, temporal_port, temporal_ui_port)
        status = asyncio.run(run(options, exit_when_done=exit_when_done))
    raise typer.Exit(status)


@app.command()
def doctor(data: Annotated[Path, typer.Option(help="内置服务的数据目录。")] = DEFAULT_DATA) -> None:
    """逐项检查设置与连接,并说明如何处理。有异常(✗)退出状态为 1,有未能查看的(?)为 2。"""
    from starter.doctor import examine, status_of

    _use_data(data)
    findings = asyncio.run(examine())
    out.print(aligned(((f"{_MARKS[each.ok]} {each.subject}", each.detail) for each in findings), gap=1))
    raise typer.Exit(status_of(findings))


_MARKS = {True: "[green]✓[/green]", False: "[red]✗[/red]", None: "[yellow]?[/yellow]"}


@app.command()
def token(
    person: Annotated[str, typer.Argument(help="人员编号,见 people.csv。")],
    days: Annotated[int, typer.Option(help="有效天数。", min=1, max=366)] = 30,
    data: Annotated[Path, typer.Option(help="内置服务的数据目录。")] = DEFAULT_DATA,
) -> None:
    """为人员签发访问令牌。"""
    from starter.identity import Directory, issue

    if is_missing(data):
        err.print(
            f"找不到数据目录 {data}:请用 --data 指定 shaodao up 的数据目录。", style="red", markup=False
        )
        raise typer.Exit(1)
    _use_data(data)

    async def known() -> bool:
        async with _store() as store:
            return await Directory(store, tells=False).find_person(person) is not None

    if not asyncio.run(known()):
        err.print(f"[red]没有编号为“{person}”的人员,请核对 people.csv 并先执行 shaodao district load。[/red]")
        raise typer.Exit(1)
    sys.stdout.write(issue(person, days=days) + "\n")


# --- districts ---------------------------------------------------------------------------------------------


@district_app.command("check")
def district_check(folder: Annotated[Path, typer.Argument(help="区(市)数据目录。")]) -> None:
    """检查区(市)数据,一次列出全部问题。"""
    from adapters.district import DistrictInvalid, read_district

    if folder.is_file():
        err.print(f"{folder} 是文件,请指定区(市)数据目录。", style="red", markup=False)
        raise typer.Exit(1)
    try:
        district = read_district(folder)
    except DistrictInvalid as invalid:
        for problem in invalid.problems:
            err.print(f"[red]✗[/red] {problem}")
        err.print(f"共 {len(invalid.problems)} 处问题,未装载任何内容。")
        raise typer.Exit(1) from None
    out.print(
        f"[green]✓[/green] {district.name}({district.code}):机构 {len(district.organisations)} 个,"
        f"人员 {len(district.people)} 名,事项 {len(district.items)} 项;政策版本 {district.policy.version}。"
    )


@district_app.command("load")
def district_load(
    folder: Annotated[Path, typer.Argument(help="区(市)数据目录。")],
    data: Annotated[Path, typer.Option(help="内置服务的数据目录。")] = DEFAULT_DATA,
) -> None:
    """检查并装载区(市)数据;有任何问题则一概不装载。"""
    from adapters.district import read_district

    district_check(folder)
    _use_data(data)

    async def run() -> None:
        async with _store() as store:
            await store.load_district(read_district(folder), datetime.now(UTC))

    asyncio.run(run())
    out.print(
        "已装载,数秒内生效。新案件适用新数据,在办案件沿用立案时的版本(如需适用新版,见 district apply)。"
    )


PRESETS = DEFAULT_DISTRICTS / "presets"


@district_app.command("presets")
def district_presets() -> None:
    """列出政策预设(含来源说明)。"""
    table = Table()
    table.add_column("名称", no_wrap=True)
    table.add_column("说明", overflow="fold")
    for file in sorted(PRESETS.glob("*.toml")):
        lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text("utf-8").splitlines())
        table.add_row(file.stem, "\n".join(line.lstrip("# ") for line in lines))
    out.print(table)


@district_app.command("preset")
def district_preset(name: Annotated[str, typer.Argument(help="预设名称,见 district presets。")]) -> None:
    """输出一个政策预设。

    例如 shaodao district preset default > districts/代码/policy.toml。
    """
    file = PRESETS / f"{name}.toml"
    if file.parent != PRESETS or not file.is_file():
        known = "、".join(sorted(each.stem for each in PRESETS.glob("*.toml")))
        err.print(f"[red]没有名为“{name}”的预设;可用的为:{known}。[/red]")
        raise typer.Exit(1)
    sys.stdout.write(file.read_text("utf-8"))


@district_app.command("apply")
def district_apply(
    scope: Annotated[AdoptionScope, typer.Option(help="calendar 工作日历、policy 政策、all 二者。")],
    reason: Annotated[str, typer.Option(help="依据,记入每个案件的台账。")],
    district: Annotated[str | None, typer.Option(help="区(市)代码;默认为本人所在区(市)。")] = None,
    url: Url = LOCAL,
) -> None:
    """对全部在办案件适用已装载的新版政策或日历:逐案重算时限并记入台账。"""
    body = {"scope": scope, "reason": reason} | ({"district": district} if district else {})
    done = _request(url, "POST", "/policy/adoptions", body=body)
    out.print(
        f"已受理:{done['cases']} 件在办案件将适用政策 {done['policy_version']}、日历 {done['calendar_version']}。"
    )


# --- cases -------------------------------------------------------------------------------------------------


def _request(
    url: str, method: str, path: str, *, body: object = None, query: dict[str, Any] | None = None
) -> Any:
    """Return what is answered to one request; see `_send`."""
    return _send(url, method, path, body=body, query=query)[1]


def _send(
    url: str, method: str, path: str, *, body: object = None, query: dict[str, Any] | None = None
) -> tuple[int, Any]:
    """Send one request with the token of the environment, and return the answer's status and content.

    What people typed is in the path only as `ops_cli.at` escapes it. Print a problem in Chinese and leave on a refusal.
    """
    bearer = os.environ.get("SHAODAO_TOKEN")
    if not bearer:
        err.print("[red]请先设置访问令牌:export SHAODAO_TOKEN=$(shaodao token 人员编号)[/red]")
        raise typer.Exit(2)
    if re.fullmatch(r"[\x21-\x7e]+", bearer) is None:
        err.print("[red]SHAODAO_TOKEN 不是访问令牌,请重新取得:shaodao token 人员编号[/red]")
        raise typer.Exit(2)
    try:
        response = httpx2.request(
            method,
            f"{url}/api/v1{path}",
            json=body,
            params={key: value for key, value in (query or {}).items() if value is not None},
            headers={"Authorization": f"Bearer {bearer}"},
            timeout=30,
        )
    except (httpx2.HTTPError, httpx2.InvalidURL):
        err.print(f"[red]无法连接 {url},请确认服务已启动(shaodao up),或用 --url 指定地址。[/red]")
        raise typer.Exit(1) from None
    try:
        content = response.json()
    except ValueError:
        content = None
    told = isinstance(content, dict) and {"code", "detail"} <= content.keys()
    if content is None or (response.is_error and not told):
        err.print(f"{url} 的答复不是哨到接口的,请核对 --url 或 SHAODAO_URL。", style="red", markup=False)
        raise typer.Exit(1)
    if response.is_error:
        problem = content
        err.print(f"[red]{problem['detail']}[/red](代码:{problem['code']})")
        for each in problem.get("errors", []):
            err.print(f"  {each.get('field', '')}:{each.get('detail', '')}")
        raise typer.Exit(1)
    return response.status_code, content


@case_app.command("list")
def case_list(
    url: Url = LOCAL,
    stage: Annotated[str | None, typer.Option(help="阶段,例如 dispatched。")] = None,
    department: Annotated[str | None, typer.Option(help="部门编号。")] = None,
    awaiting_sign: Annotated[str | None, typer.Option(help="部门编号:只看尚待该部门签收的。")] = None,
    overdue: Annotated[bool | None, typer.Option(help="只看超时的。")] = None,
    text: Annotated[str | None, typer.Option(help="标题、地点中的文字。")] = None,
    limit: Annotated[int, typer.Option(help="条数。")] = 20,
) -> None:
    """列出本人可见的案件,最新的在前。"""
    query = {
        "stage": stage,
        "department": department,
        "awaiting_sign": awaiting_sign,
        "overdue": overdue,
        "text": text,
        "limit": limit,
        "sort": "-called_at",
    }
    columns = ("案件编号", "阶段", "镇街", "下一时限", "标题")
    rows = [
        (row["case_id"], row["stage_label"], row["township_name"], _limits(row), row["title"])
        for row in _request(url, "GET", "/cases", query=query)["items"]
    ]
    if not rows:
        out.print("没有您可见且符合条件的案件。")
        return
    out.print(listed(columns, rows, out.width))


def _limits(row: dict[str, Any]) -> str:
    """Return the next limit, and the earliest that is passed."""
    moments = {name: row.get(name) for name in ("next_due_at", "overdue_since")}
    coming, since = (local(datetime.fromisoformat(each)) if each else "" for each in moments.values())
    return "\n".join(filter(None, (coming, since and f"超时,自 {since}"))) or "—"


@case_app.command("show")
def case_show(case_id: Annotated[str, typer.Argument(help="案件编号。")], url: Url = LOCAL) -> None:
    """查看一个案件:各部门时钟、可办操作、时间线。"""
    from starter.demo import timeline_table

    case = _request(url, "GET", ops_cli.at("cases", case_id))
    timeline = _request(url, "GET", ops_cli.at("cases", case_id, "timeline"))
    out.print_json(json.dumps(case, ensure_ascii=False))
    out.print(timeline_table(case, timeline["items"]))


@case_app.command("call")
def case_call(
    body: Annotated[typer.FileText, typer.Argument(help="呼叫内容(JSON 文件,- 表示标准输入)。")],
    url: Url = LOCAL,
) -> None:
    """吹哨:提交一个呼叫。"""
    case = _request(url, "POST", "/cases", body=_json(body.read()))
    out.print(f"已受理,案件编号:{case['case_id']}")


def _add_act(act: Act) -> None:
    path = act.replace("_", "-")

    @case_app.command(
        path,
        help=f"{ACTS[act]}。\n\n例如 shaodao case {path} 案件编号 名称=值 …(各操作的字段见接口文档 /docs)。",
    )
    def perform(
        case_id: Annotated[str, typer.Argument(help="案件编号。")],
        fields: Annotated[list[str] | None, typer.Argument(help="名称=值")] = None,
        url: Url = LOCAL,
    ) -> None:
        body = dict(_field(each) for each in fields or [])
        status, case = _send(url, "POST", ops_cli.at("cases", case_id, path), body=body)
        told = "已接收,待办理流程恢复后自动执行" if status == HTTPStatus.ACCEPTED else "已办理"
        out.print(f"{told}。案件 {case['case_id']} 当前:{case['stage_label']}")


for each_act in BODIES:
    _add_act(each_act)

ops_cli.add_to(app, _request)


def _field(text: str) -> tuple[str, Any]:
    """Read `name=value`; a value that is JSON is taken as JSON, anything else as text."""
    name, sign, value = text.partition("=")
    if not sign:
        err.print(f"[red]参数“{text}”应写成 名称=值。[/red]")
        raise typer.Exit(2)
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        err.print(f"[red]不是有效的 JSON:第 {error.lineno} 行第 {error.colno} 列。[/red]")
        raise typer.Exit(2) from None


if __name__ == "__main__":
    main()

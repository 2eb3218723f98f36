"""The three stories of the seed, played over HTTP against the embedded stack."""

import asyncio
import hashlib
import signal
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table

from domain.calendar import SHANGHAI
from starter.cli import DEFAULT_DISTRICTS, addresses
from starter.embedded import Stack, StackOptions
from starter.identity import issue
from starter.screen import console
from starter.stack import free_port, is_free

out = console()


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one department does on site.

    Attributes:
        officers: names of those who come; invented, and of nobody in people.csv.
        actions: bodies of `action`, each one measure with its result.
    """

    department: str
    officers: tuple[str, ...]
    actions: tuple[Mapping[str, Any], ...]
    done: str


@dataclass(frozen=True, kw_only=True)
class Story:
    """One story of the seed."""

    title: str
    township: str
    call: Mapping[str, Any]
    plan: str
    works: tuple[Work, ...]
    comment: str
    check_in_after: timedelta | None = None
    steps: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        """Count the requests, for the progress bar."""
        each = sum(5 + len(work.actions) for work in self.works)
        object.__setattr__(self, "steps", 4 + each)


def _done(kind: str, description: str, result: str, **more: Any) -> dict[str, Any]:
    return {"kind": kind, "description": description, "result": result, **more}


def _attachment(evidence: str) -> dict[str, Any]:
    """Return a piece of evidence by reference; the demo's files do not exist, their digests are of their names."""
    digest = hashlib.sha256(evidence.encode()).hexdigest()
    return {"name": f"{evidence}.jpg", "sha256": digest, "size": 0, "evidence": evidence}


def stories(now: datetime) -> tuple[Story, ...]:
    """Return the three stories of domain.md §3; dates are counted from now."""
    in_ten_days = (now.astimezone(SHANGHAI) + timedelta(days=10)).date().isoformat()
    return (
        Story(
            title="峨山镇:散乱污企业联合整治",
            township="eshan",
            call={
                "category": "enforcement",
                "title": "非法畜牧养殖场、小造纸厂、小颗粒厂乱排乱放",
                "description": "辖区内散乱污企业造成大气、水污染,镇里多次下达关停通知,业主拒不执行,申请联合执法。",
                "item_code": "scattered-polluters",
                "location": {"address": "峨山镇(示例地点)"},
                "contact": {"name": "张示例", "phone": "19900000001"},
            },
            plan="小造纸厂、小颗粒厂当场拆除;养殖场下达限期拆除通知,清理完毕后自行拆除。",
            works=(
                Work(
                    department="ecology",
                    officers=("郝示例", "孔示例"),
                    actions=(
                        _done("demolition", "拆除小造纸厂、小颗粒厂生产设备", "两处当场拆除"),
                        _done(
                            "demolition_notice",
                            "向非法养殖场下达拆除通知",
                            "业主已签收",
                            follow_up_on=in_ten_days,
                        ),
                    ),
                    done="两厂已拆除,养殖场限期自行拆除。",
                ),
                Work(
                    department="enforcement",
                    officers=("白示例",),
                    actions=(_done("demolition", "组织机械拆除厂房", "厂房已拆除"),),
                    done="拆除完毕,场地已清理。",
                ),
                Work(
                    department="police",
                    officers=("崔示例",),
                    actions=(_done("other", "维护现场秩序", "全程平稳"),),
                    done="现场秩序维护完毕。",
                ),
                Work(
                    department="market",
                    officers=("康示例",),
                    actions=(_done("closure_order", "查处无照经营", "责令停止经营"),),
                    done="已依法处理无照经营。",
                ),
                Work(
                    department="natural_resources",
                    officers=("毛示例",),
                    actions=(_done("other", "核查占地性质", "认定为违法占地"),),
                    done="占地认定完毕,已移交处理。",
                ),
            ),
            comment="当天报到,当天拆除。",
        ),
        Story(
            title="龙山路街道:君山路多年违建",
            township="longshanlu",
            call={
                "category": "enforcement",
                "title": "君山路一处多年违建",
                "description": "违建存在多年,居民反映强烈。",
                "item_code": "illegal-building",
                "location": {"address": "君山路(示例地点)"},
                "urgency": "urgent",
            },
            plan="与街道共同商定拆除方案,拆除后设置公益宣传展板。",
            works=(
                Work(
                    department="enforcement",
                    officers=("白示例", "钱示例"),
                    actions=(_done("demolition", "拆除违建", "违建已拆除,设置公益宣传展板"),),
                    done="违建拆除,垃圾清运完毕。",
                ),
            ),
            comment="多年违建及时拆除,居民一致好评。",
        ),
        Story(
            title="荣华里社区:私开门洞",
            township="longshanlu",
            check_in_after=timedelta(hours=1),
            call={
                "category": "livelihood",
                "title": "荣华里社区承重墙私开门洞",
                "description": "网格员巡查发现承重墙被私自打通,影响房屋安全。",
                "item_code": "load-bearing-doorway",
                "location": {"address": "荣华里社区(示例地点)"},
                "urgency": "urgent",
            },
            plan="三部门与街道共同商定:第二天封堵门洞,恢复墙体。",
            works=(
                Work(
                    department="enforcement",
                    officers=("白示例",),
                    actions=(_done("sealing", "封堵私开的门洞", "门洞已封堵"),),
                    done="门洞封堵完毕。",
                ),
                Work(
                    department="market",
                    officers=("康示例",),
                    actions=(_done("closure_order", "核查沿街商铺经营", "责令停止改建经营"),),
                    done="商铺已停止改建。",
                ),
                Work(
                    department="police",
                    officers=("崔示例",),
                    actions=(_done("mediation", "对当事人进行教育调解", "当事人同意恢复原状"),),
                    done="调解完毕。",
                ),
            ),
            comment="按街道要求的时间报到,第二天封堵。",
        ),
    )


class Player:
    """Plays stories as the people of the sample district would."""

    def __init__(self, client: httpx2.AsyncClient, district: str, secret: str) -> None:
        self._client = client
        self._district = district
        self._secret = secret
        self._tokens: dict[str, str] = {}

    async def play(self, story: Story, progress: Progress | None = None, *, until: str = "") -> str:
        """Play one story to its end, or until everybody has taken the step that is named; return the case id."""
        bar = progress.add_task(story.title, total=story.steps) if progress else None

        def step() -> None:
            if progress and bar is not None:
                progress.advance(bar)

        township = f"{story.township}-officer"
        called = await self._call(story)
        case_id = str(called["case_id"])
        step()
        # A routine call waits for the township's approver; an urgent one has gone already and is reviewed.
        await self._act(case_id, f"{story.township}-approver", "release", note="情况属实")
        step()
        departments = [work.department for work in story.works]
        await self._act(case_id, "dispatcher", "dispatch", lead=departments[0], cooperating=departments[1:])
        step()
        for work in story.works:
            await self._act(case_id, f"{work.department}-officer", "sign", department=work.department)
            step()
        for work in story.works:
            officers = [{"name": name} for name in work.officers]
            await self._act(
                case_id,
                f"{work.department}-officer",
                "check-in",
                department=work.department,
                officers=officers,
            )
            await self._act(case_id, township, "confirm-check-in", department=work.department)
            step()
            step()
        if until == "check-in":
            return case_id
        lead = story.works[0].department
        await self._act(case_id, f"{lead}-officer", "plan", department=lead, text=story.plan)
        step()
        for work in story.works:
            for action in work.actions:
                await self._act(
                    case_id, f"{work.department}-officer", "action", department=work.department, **action
                )
                step()
            shown = called["responsibility"]["evidence"] if work.department == lead else ()
            await self._act(
                case_id,
                f"{work.department}-officer",
                "done",
                department=work.department,
                result=work.done,
                attachments=[_attachment(name) for name in shown],
            )
            step()
        for work in story.works:
            rating = {"grade": "satisfied", "solved": True, "response": 5, "action": 5, "result": 5}
            await self._act(
                case_id, township, "rate", department=work.department, comment=story.comment, **rating
            )
            step()
        return case_id

    async def get(self, person: str, path: str) -> Any:
        """Return what this person reads there."""
        response = await self._client.get(f"/api/v1{path}", headers=self._headers(person))
        response.raise_for_status()
        return response.json()

    async def _call(self, story: Story) -> Any:
        body = {"district": self._district, "township": story.township, **story.call}
        if story.check_in_after:
            body["requested_check_in_at"] = (datetime.now(UTC) + story.check_in_after).isoformat()
        return await self._post(f"{story.township}-officer", "/cases", body)

    async def _act(self, case_id: str, person: str, act: str, **body: Any) -> None:
        await self._post(person, f"/cases/{case_id}/{act}", body)

    async def _post(self, person: str, path: str, body: Mapping[str, Any]) -> Any:
        response = await self._client.post(f"/api/v1{path}", json=body, headers=self._headers(person))
        if response.is_error:
            msg = f"{person} {path}:{response.status_code} {response.text}"
            raise RuntimeError(msg)
        return response.json()

    def _headers(self, person: str) -> dict[str, str]:
        if person not in self._tokens:
            self._tokens[person] = issue(person, secret=self._secret)
        return {"Authorization": f"Bearer {self._tokens[person]}"}


def timeline_table(case: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> Table:
    """Return a case's timeline as a table."""
    table = Table(title=f"{case['title']}({case['stage_label']})  {case['case_id']}", title_justify="left")
    table.add_column("时间", no_wrap=True)
    table.add_column("办理人", no_wrap=True)
    table.add_column("事项", overflow="fold")
    for row in rows:
        at = datetime.fromisoformat(row["at"]).astimezone(SHANGHAI)
        table.add_row(f"{at:%m-%d %H:%M:%S}", row["actor_name"], row["text"])
    return table


def options_of(data: Path, port: int | None, temporal_port: int | None, ui_port: int | None) -> StackOptions:
    """Take the ports that are named; for those that are not, the usual ones where they are free, else any free one."""
    usual = StackOptions(data=data, districts=DEFAULT_DISTRICTS)
    return replace(
        usual,
        port=port or _usable(usual.port),
        temporal_port=temporal_port or _usable(usual.temporal_port),
        ui_port=ui_port or _usable(usual.ui_port or 0),
    )


def _usable(port: int) -> int:
    return port if port and is_free(port) else free_port()


async def run(options: StackOptions, *, exit_when_done: bool) -> int:
    """Start the stack, play the stories, show them, and stay until Ctrl-C unless told otherwise.

    Returns:
        The exit status: 0 when every story closed.
    """
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with out.status("正在启动 Temporal、工作进程和接口……"):
        stack = Stack(options)
        await stack.__aenter__()
    try:
        closed = await _play_all(stack)
        out.print(addresses(stack.url, stack.ui_url, options.data))
        if not exit_when_done:
            out.print("按 Ctrl-C 结束。")
            await stop.wait()
    finally:
        with out.status("正在停止……"):
            await stack.stop()
    return 0 if closed else 1


async def _play_all(stack: Stack) -> bool:
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=out
    )
    told = stories(datetime.now(UTC))
    async with httpx2.AsyncClient(base_url=stack.url, timeout=60) as client:
        player = Player(client, "yicheng", stack.secret)
        with progress:
            cases = [await player.play(story, progress) for story in told]
        closed = True
        for story, case_id in zip(told, cases, strict=True):
            reader = f"{story.township}-officer"
            case = await player.get(reader, f"/cases/{case_id}")
            timeline = await player.get(reader, f"/cases/{case_id}/timeline")
            out.print(timeline_table(case, timeline["items"]))
            closed = closed and case["stage"] == "closed"
            if stack.ui_url:
                out.print(f"  执行历史:{stack.ui_url}/namespaces/default/workflows/{_quoted(case_id)}\n")
    return closed


def _quoted(case_id: str) -> str:
    return f"case%2F{case_id}"

"""The product as its users meet it: the command line, the pages in a real browser, the Temporal UI."""

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx2
import pytest
from playwright.async_api import Browser, Error, Page, async_playwright
from temporalio.client import Client

from adapters.migrate import head
from starter.auditor import timeline_page
from starter.demo import Player, stories
from starter.embedded import Stack, StackOptions
from starter.identity import issue
from starter.stack import free_port
from tests.conftest import BIN
from tests.sample import TERMS, TOWN_OFFICER, Play

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
A4_WIDTH = 687
"""Between the margins of the page, in pixels of 1/96 inch."""
PICTURES = os.environ.get("SHAODAO_PICTURES")
"""A folder to keep the pictures in; the README's are made so."""

pytestmark = pytest.mark.xdist_group("stack")


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """The embedded stack with the three stories played, and one case under way."""
    options = StackOptions(
        data=tmp_path_factory.mktemp("stack"),
        districts=ROOT / "districts",
        port=free_port(),
        temporal_port=free_port(),
        ui_port=free_port(),
    )
    async with Stack(options) as running:
        async with httpx2.AsyncClient(base_url=running.url, timeout=60) as client:
            player = Player(client, "yicheng", running.secret)
            for story in stories(datetime.now(UTC)):
                await player.play(story)
            await player.play(stories(datetime.now(UTC))[0], until="check-in")
        yield running


def shaodao(stack: Stack, *arguments: str, person: str | None = None, given: str = "") -> tuple[int, str]:
    """Run the command line as a user of this stack; return its status and what it said."""
    token = {"SHAODAO_TOKEN": issue(person, secret=stack.secret)} if person else {}
    done = subprocess.run(
        [str(BIN / "shaodao"), *arguments],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=ROOT,
        env={**os.environ, **stack.environment, "SHAODAO_URL": stack.url, "COLUMNS": "160", **token},
    )
    return done.returncode, done.stdout + done.stderr


def test_the_demo_listens_where_it_is_told_and_ends_with_status_zero_when_every_story_closed() -> None:
    port, ui_port = free_port(), free_port()
    done = subprocess.run(
        [str(BIN / "shaodao"), "demo", "--exit", f"--port={port}", f"--temporal-ui-port={ui_port}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("散乱污", "君山路", "私开门洞", "已办结", "接口文档", "Temporal 界面"):
        assert words.replace("散乱污", "非法畜牧养殖场") in done.stdout
    for address in (f"http://127.0.0.1:{port}/docs", f"http://127.0.0.1:{ui_port}"):
        assert address in done.stdout


def test_doctor_finds_everything_in_order(stack: Stack) -> None:
    status, said = shaodao(stack, "doctor")
    assert status == 0, said
    for subject in (
        "设置",
        "载荷加密",
        "审计签名密钥",
        "数据库版本",
        "区(市)数据",
        "检索属性",
        "工作进程",
        "日程 archive",
        "日程 anchor/yicheng",
        "在用密钥",
        "锚定",
        "归档",
    ):
        assert f"✓ {subject}" in said
    assert not re.search(r"^[✗?]", said, re.MULTILINE)


def test_commands_reach_a_stack_on_other_ports_by_its_folder_alone(stack: Stack) -> None:
    known = {
        name: value for name, value in os.environ.items() if not name.startswith(("SHAODAO_", "TEMPORAL_"))
    }

    def on_its_folder(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(BIN / "shaodao"), *arguments, "--data", str(stack.options.data)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**known, "COLUMNS": "160"},
        )
        return done.returncode, done.stdout + done.stderr

    status, said = on_its_folder("doctor")
    assert (status, f"✓ Temporal            {stack.temporal.address}" in said) == (0, True), said
    status, said = on_its_folder("audit", "verify", "--district", "yicheng")
    assert (status, "台账由执行历史得出" in said) == (0, True), said


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("SHAODAO_", "TEMPORAL_"))
    }

    def doctor(**settings: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(BIN / "shaodao"), "doctor"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            cwd=tmp_path,
            env={**clean, "COLUMNS": "160", **settings},
        )
        return done.returncode, done.stdout + done.stderr

    status, said = doctor()
    assert status == 1
    assert "SHAODAO_DATABASE_URL" in said
    assert "SHAODAO_SECRET" in said
    database = f"sqlite:///{tmp_path / 'new.db'}"
    status, said = doctor(
        SHAODAO_SECRET="x" * 40, SHAODAO_DATABASE_URL=database, TEMPORAL_ADDRESS="127.0.0.1:1"
    )
    assert status == 1
    assert "shaodao migrate" in said
    assert "TEMPORAL_ADDRESS" in said


def test_a_case_goes_over_the_command_line(stack: Stack) -> None:
    call = {
        "district": "yicheng",
        "township": "eshan",
        "category": "livelihood",
        "title": "命令行吹哨",
        "description": "经命令行提交。",
        "location": {"address": "峨山镇"},
    }
    status, said = shaodao(stack, "case", "call", "-", person="eshan-officer", given=json.dumps(call))
    assert status == 0, said
    case_id = re.search(r"yicheng-\d{8}-\w{6}", said)
    assert case_id
    status, said = shaodao(stack, "case", "release", case_id[0], person="eshan-approver")
    assert (status, "待派单" in said) == (0, True), said
    status, said = shaodao(stack, "case", "dispatch", case_id[0], "lead=police", person="dispatcher")
    assert (status, "待签收" in said) == (0, True), said
    status, said = shaodao(stack, "case", "sign", case_id[0], person="police-officer")
    assert (status, "待报到" in said) == (0, True), said
    status, said = shaodao(stack, "case", "sign", case_id[0], person="police-officer")
    assert (status, "already_signed" in said) == (1, True), said
    status, said = shaodao(
        stack, "case", "check-in", case_id[0], 'officers=[{"name":"王示例"}]', person="police-officer"
    )
    assert status == 0, said
    status, said = shaodao(stack, "case", "show", case_id[0], person="eshan-officer")
    assert status == 0
    assert "区公安分局签收" in said
    status, said = shaodao(stack, "case", "list", "--text", "命令行", person="eshan-officer")
    assert (status, case_id[0] in said) == (0, True), said


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (("case", "list"), 2, "SHAODAO_TOKEN"),
        (("case", "call", "-"), 2, "JSON"),
        (("case", "sign", "yicheng-20260101-zzzzzz", "nonsense"), 2, "名称=值"),
        (("case", "show", "yicheng-20260101-zzzzzz"), 1, "case_not_found"),
        (("token", "nobody"), 1, "nobody"),
        (("district", "check", "no-such-folder"), 1, "缺少该文件"),
        (("nothing",), 2, "nothing"),
        (("case", "list", "--url", "http://127.0.0.1:1"), 1, "无法连接"),
    ],
)
def test_mistakes_on_the_command_line_are_told_with_a_status(
    stack: Stack, arguments: tuple[str, ...], status: int, told: str
) -> None:
    person = None if told == "SHAODAO_TOKEN" else "eshan-officer"
    found, said = shaodao(stack, *arguments, person=person)
    assert (found, told in said) == (status, True), said
    assert "Traceback" not in said


def test_tokens_districts_and_read_models_are_handled_from_the_command_line(stack: Stack) -> None:
    status, said = shaodao(stack, "token", "auditor")
    assert status == 0
    answer = httpx2.get(f"{stack.url}/api/v1/me", headers={"Authorization": f"Bearer {said.strip()}"})
    assert answer.json()["id"] == "auditor"
    folder = str(ROOT / "districts" / "yicheng")
    status, said = shaodao(stack, "district", "check", folder)
    assert (status, "峄城区" in said) == (0, True), said
    status, said = shaodao(stack, "district", "load", folder)
    assert (status, "已装载" in said) == (0, True), said
    status, said = shaodao(stack, "rebuild")
    assert (status, "条记录" in said) == (0, True), said
    status, said = shaodao(stack, "migrate")
    assert (status, f"数据库版本:{head()}" in said) == (0, True), said


# --- in a real browser -------------------------------------------------------------------------------------


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium as Debian has it; skipped with the reason where there is none, and never in CI."""
    if CHROMIUM is None:
        assert not os.environ.get("CI"), "CI must have a browser"
        pytest.skip("没有安装 Chromium")
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield chromium
        await chromium.close()


async def picture(page: Page, name: str) -> None:
    """Keep a picture where one is wanted."""
    if PICTURES:
        await page.screenshot(path=Path(PICTURES) / f"{name}.png")


@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (A4_WIDTH, "print")])
async def test_names_times_and_hashes_of_a_bundles_timeline_stand_in_one_line(
    browser: Browser, width: int, media: Literal["screen", "print"]
) -> None:
    play = Play(title="小造纸厂夜间偷排废水," * 6).dispatch().sign()
    named = TOWN_OFFICER.model_copy(update={"name": "欧阳示例"})
    entries = [each.model_copy(update={"by": named}) for each in play.entries]
    page = await browser.new_page(viewport={"width": width, "height": 900})
    await page.emulate_media(media=media)
    await page.set_content(timeline_page(play.state, entries, TERMS))
    lines: dict[str, list[float]] = await page.evaluate(LINES)
    assert {name: set(tops) for name, tops in lines.items()} == {name: {1} for name in COLUMNS}


COLUMNS = ("序号", "时间(北京时间)", "办理人", "哈希(前16位)")
LINES = """() => {
  const table = document.querySelectorAll('table')[1], count = {};
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    if (head.innerText === '事项') return;
    count[head.innerText] = [...table.rows].map(row => {
      const range = document.createRange();
      range.selectNodeContents(row.cells[place].querySelector('code') ?? row.cells[place]);
      return new Set([...range.getClientRects()].filter(each => each.width).map(each => each.bottom)).size;
    });
  });
  return count;
}"""
"""Of each column of the table of what happened, how many lines each of its cells has."""


async def test_our_pages_work_in_a_browser_and_load_nothing_from_elsewhere(
    stack: Stack, browser: Browser
) -> None:
    page = await browser.new_page(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    await page.goto(stack.url)
    assert "镇街吹哨" in await page.inner_text("body")
    assert "峄城区" in await page.inner_text("body")
    await page.click("text=接口文档")
    await page.wait_for_selector("text=吹哨(呼叫)")
    await page.click("text=吹哨(呼叫)")
    await page.wait_for_selector("text=Idempotency-Key")
    await picture(page, "api")
    assert all(url.startswith((stack.url, "data:")) for url in asked), asked
    assert problems == []
    await page.close()


async def test_operators_see_each_case_in_chinese_in_the_temporal_ui(stack: Stack, browser: Browser) -> None:
    page = await browser.new_page(viewport={"width": 1440, "height": 900}, locale="zh-CN")
    workflows = f"{stack.ui_url}/namespaces/default/workflows"
    await _log_in_to_the_codec_server(stack, page)
    await page.goto(workflows)
    await page.wait_for_selector("text=case/yicheng")
    await _let_the_ui_decrypt(stack, page)
    await page.wait_for_selector("text=case/yicheng")
    await page.click('[data-testid="workflows-summary-table-configuration-button"]')
    for column in ("CaseLabel", "NextDeadline", "EscalationLevel"):
        await _move(page, column, "Add")
    for column in ("Run ID", "Type", "End"):
        await _move(page, column, "Remove")
    await page.reload()
    await page.wait_for_selector("text=峨山镇·“散乱污”企业联合整治·已办结")
    await page.wait_for_selector("text=龙山路街道·私开门洞(破坏承重结构)·已办结")
    await picture(page, "temporal-list")
    await page.goto(f"{workflows}?query=" + "Stage%3D%22checked_in%22")
    link = page.locator("a", has_text=re.compile(r"^\s*case/yicheng")).first
    await link.click()
    await page.click("text=User Metadata")
    async with asyncio.timeout(30):
        while "最近动态" not in (shown := await _everything_on(page)):
            await page.wait_for_timeout(100)
    for words in ("已报到", "牵头", "配合", "市生态环境局峄城分局", "区公安分局", "绿(正常)"):
        assert words in shown
    assert "“散乱污”企业联合整治" in shown
    await picture(page, "temporal-detail")
    await page.close()
    looked = httpx2.get(
        f"{stack.url}/api/v1/codec/decodings",
        headers={"Authorization": f"Bearer {issue('auditor', secret=stack.secret)}"},
    ).json()["items"]
    assert {(entry["person"], entry["namespace"]) for entry in looked} == {("administrator", "default")}
    assert all(entry["workflows"][0].startswith("case/yicheng-") for entry in looked)


async def test_every_view_that_operators_are_told_to_save_is_understood_and_lists_no_dead_run(
    stack: Stack,
) -> None:
    told = (ROOT / "docs" / "operators.md").read_text("utf-8").partition("Queries to save as views:")[2]
    queries = re.findall(r"^\| [^|]+ \| `([^`]+)`", told.partition("\n## ")[0], re.MULTILINE)
    assert len(queries) > 10
    client = await Client.connect(stack.temporal.address)
    for query in queries:
        assert (await client.count_workflows(query)).count >= 0
        assert "ExecutionStatus" in query


async def test_without_a_session_the_temporal_ui_shows_ciphertext(stack: Stack, browser: Browser) -> None:
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    await page.goto(f"{stack.ui_url}/namespaces/default/workflows?query=" + "Stage%3D%22checked_in%22")
    async with page.expect_response(re.compile("/codec/decode")) as refused:
        await page.locator("a", has_text=re.compile(r"^\s*case/yicheng")).first.click()
    assert (await refused.value).status == httpx2.codes.UNAUTHORIZED
    await page.click("text=User Metadata")
    await page.wait_for_selector("text=Current Details")
    shown = await _everything_on(page)
    assert "最近动态" not in shown
    assert "峨山镇政府" not in shown
    await context.close()


async def _log_in_to_the_codec_server(stack: Stack, page: Page) -> None:
    await page.goto(f"{stack.url}/codec/login")
    await page.fill("#token", issue("administrator", secret=stack.secret))
    await page.click("button:has-text('登录')")
    await page.wait_for_selector("text=已登录:administrator")
    await picture(page, "codec-login")


async def _let_the_ui_decrypt(stack: Stack, page: Page) -> None:
    """Set what docs/security.md says, by the UI's own dialogue."""
    await page.click('[data-testid^="data-encoder-status"]')
    await page.click("label:has-text('Use my browser setting')")
    await page.fill("textarea[placeholder='Paste your endpoint here']", f"{stack.url}/codec")
    await page.click("label:has-text('Include cross-origin credentials')")
    await picture(page, "codec-settings")
    await page.get_by_role("button", name="Apply").click()


async def _everything_on(page: Page) -> str:
    """Return the text of the page and of the frames in which the UI shows Markdown; it puts new ones in their place."""
    texts = []
    for frame in page.frames:
        with contextlib.suppress(Error):  # this one is gone already
            texts.append(await frame.locator("body").inner_text())
    return "\n".join(texts)


async def _move(page: Page, column: str, how: str) -> None:
    name = re.compile(rf"{how}.*{re.escape(column)}", re.IGNORECASE)
    await page.get_by_role("button", name=name).first.click()

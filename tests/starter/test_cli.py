"""What the command line says of answers and of mistakes: Chinese, a status for scripts, and never a traceback."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@contextmanager
def answering(status: int, content: str) -> Iterator[tuple[str, list[str]]]:
    """Give a server that answers everything so, and the addresses that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(content.encode())

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def shaodao(folder: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command line in a folder; return its exit status and what it said."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SHAODAO_")}
    done = subprocess.run(
        [sys.executable, "-m", "starter.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**ours, "PYTHONPATH": str(ROOT), "COLUMNS": "200", "SHAODAO_TOKEN": "x", **environment},
    )
    return done.returncode, done.stdout + done.stderr


def test_an_act_that_was_only_kept_is_not_said_to_be_done(tmp_path: Path) -> None:
    for code, told in ((200, "已办理。"), (202, "已接收,待办理流程恢复后自动执行。")):
        with answering(code, '{"case_id": "x", "stage_label": "待派单"}') as (url, _):
            status, said = shaodao(tmp_path, "case", "dispatch", "x", SHAODAO_URL=url)
        assert (status, said.strip()) == (0, f"{told}案件 x 当前:待派单")


def test_mistakes_with_ports_files_and_folders_are_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x")
    mistakes = (
        (("up", "--port", "99999"), 2, "端口应在 0 到 65535 之间:99999"),
        (("up", "--data", str(file)), 1, f"{file}:已有同名文件,此处应为目录。"),
        (("up", "--data", str(file / "within")), 1, "不是目录。"),
        (("district", "check", str(file)), 1, f"{file} 是文件,请指定区(市)数据目录。"),
        (("token", "X", "--data", str(tmp_path / "none")), 1, f"找不到数据目录 {tmp_path / 'none'}"),
    )
    for arguments, expected, told in mistakes:
        status, said = shaodao(tmp_path, *arguments)
        assert (status, told in said, "Traceback" in said) == (expected, True, False), said


def test_what_is_written_to_a_folder_that_is_a_file_is_told_in_a_line(tmp_path: Path) -> None:
    file, key, database = tmp_path / "file", tmp_path / "key", f"sqlite:///{tmp_path / 'shaodao.db'}"
    file.write_text("x")
    ours = {"SHAODAO_DATABASE_URL": database, "SHAODAO_SECRET": "x" * 40, "SHAODAO_AUDIT_KEY": str(key)}
    assert shaodao(tmp_path, "audit", "key", "--new", str(key), **ours)[0] == 0
    assert shaodao(tmp_path, "migrate", **ours)[0] == 0
    loaded = shaodao(tmp_path, "district", "load", str(ROOT / "districts" / "yicheng"), **ours)
    assert loaded[0] == 0, loaded[1]
    shown = '{"manifest": {"x": 1}, "ledger": [], "runs": []}'
    with answering(200, shown) as (url, _):
        for arguments in (
            ("audit", "export", "x", "--out", str(file)),
            ("audit", "anchor", "--out", str(file)),
            ("archive", "show", "x", "--save", str(file)),
        ):
            status, said = shaodao(tmp_path, *arguments, **ours, SHAODAO_URL=url)
            assert (status, str(file) in said, "目录" in said, "Traceback" in said) == (
                1,
                True,
                True,
                False,
            ), said


def test_another_server_and_a_token_that_is_none_are_told_in_a_line(tmp_path: Path) -> None:
    for code, content in ((404, '{"error": "not found"}'), (404, "<html>"), (200, "<html>"), (500, "[]")):
        with answering(code, content) as (url, _):
            status, said = shaodao(tmp_path, "ops", "stuck", SHAODAO_URL=url)
        assert (status, said.strip()) == (1, f"{url} 的答复不是哨到接口的,请核对 --url 或 SHAODAO_URL。")
    status, said = shaodao(tmp_path, "ops", "stuck", SHAODAO_TOKEN="é 中")
    assert (status, "SHAODAO_TOKEN 不是访问令牌" in said) == (2, True), said


def test_an_id_is_asked_for_as_it_was_typed(tmp_path: Path) -> None:
    refusal = '{"code": "case_not_found", "detail": "没有该案件。"}'
    with answering(404, refusal) as (url, asked):
        status, said = shaodao(tmp_path, "case", "show", "ID?x=1#", SHAODAO_URL=url)
    assert (status, asked) == (1, ["/api/v1/cases/ID%3Fx%3D1%23"]), said


def test_a_reset_names_its_three_ways_when_it_is_told_none_or_two(tmp_path: Path) -> None:
    for ways in ((), ("--from-ledger", "--to-event", "5")):
        status, said = shaodao(tmp_path, "ops", "reset", "x", "--reason", "演练", *ways)
        assert status == 2, said
        assert "只指明一项:--before-deploy 版本、--to-event 事件编号、--from-ledger" in said


CASE = "yicheng-20261124-abcdefghjkmnp"
LINE = {
    "case_id": CASE,
    "stage_label": "待签收",
    "township": "eshan",
    "township_name": "峨山镇",
    "title": "小造纸厂屡次停产又屡次复产,夜间偷排废水,群众反映强烈,要求彻底查处[一]",
    "next_due_at": "2026-11-25T09:00:00.123456+08:00",
}
LATE = LINE | {"next_due_at": None, "overdue_since": "2026-11-24T17:30:00+08:00", "stage_label": "联合执法"}
COMMAND = f"shaodao ops reset {CASE} --from-ledger --despite-anchor --reason 原因"
STUCK = {
    "kind": "ledger_rewritten",
    "case_id": CASE,
    "cause": "台账与锚定、归档或流程历史不符,案件未恢复",
    "advice": f"请审计人员核对;查明后以现有台账为准的,执行 {COMMAND}。",
    "since": None,
    "attempts": 0,
    "error": "",
    "notice_id": None,
}
LOCATION = f"file:///srv/shaodao/archive/yicheng/{CASE}/runs/0197ab12-3456-789a-bcde-f0123456789a.json.gz"
RUN = {
    "case_id": CASE,
    "run_id": "0197ab12-3456-789a-bcde-f0123456789a",
    "status": "TERMINATED",
    "events": 9,
    "size": 9,
    "started_at": "2026-11-24T01:00:00Z",
    "closed_at": "2026-11-24T01:00:00Z",
    "location": LOCATION,
    "sha256": "0" * 64,
}


@pytest.mark.parametrize("columns", [{}, {"COLUMNS": "80"}])
@pytest.mark.parametrize(
    ("command", "items", "whole"),
    [
        (("case", "list"), [LINE, LATE], [CASE, "峨山镇", "11月25日 09:00", "超时,自 11月24日 17:30"]),
        (("ops", "stuck"), [STUCK], [COMMAND, CASE]),
        (("archive", "runs"), [RUN], [LOCATION, CASE, "0" * 64]),
    ],
    ids=["case list", "ops stuck", "archive runs"],
)
def test_ids_commands_and_paths_stand_in_one_line_at_eighty_columns_and_in_a_pipe(
    tmp_path: Path,
    columns: dict[str, str],
    command: tuple[str, ...],
    items: list[dict[str, object]],
    whole: list[str],
) -> None:
    with answering(200, json.dumps({"items": items})) as (url, _):
        _, said = shaodao(tmp_path, *command, SHAODAO_URL=url, **{"COLUMNS": "", **columns})
    for words in whole:
        assert any(words in line for line in said.splitlines()), (words, said)


def test_a_list_of_nothing_says_so(tmp_path: Path) -> None:
    with answering(200, json.dumps({"items": []})) as (url, _):
        status, said = shaodao(tmp_path, "case", "list", SHAODAO_URL=url)
    assert (status, said.strip()) == (0, "没有您可见且符合条件的案件。")


def test_a_list_in_a_pipe_has_a_line_for_each_case_with_its_time_as_people_read_it(tmp_path: Path) -> None:
    with answering(200, json.dumps({"items": [LINE]})) as (url, _):
        status, said = shaodao(tmp_path, "case", "list", SHAODAO_URL=url, COLUMNS="")
    (line,) = [line for line in said.splitlines() if CASE in line]
    assert status == 0
    for words in (str(LINE["title"]), "待签收", "峨山镇", "11月25日 09:00"):
        assert words in line
    assert ".123456" not in said

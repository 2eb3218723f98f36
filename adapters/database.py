"""One door to SQLite and PostgreSQL: engines, transactions, and the one error for 'the database is away'."""

from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any

from sqlalchemy import Connection, Engine, Insert, create_engine, event, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from adapters.tables import Table

_CONNECT_WITHIN = 3
_BUSY_WITHIN = 10


class StoreUnavailable(Exception):
    """The database does not answer. Try again later; nothing was changed."""


def asynchronous(url: str) -> URL:
    """Return the URL with the driver that we use: aiosqlite or psycopg.

    Raises:
        ValueError: neither SQLite nor PostgreSQL.
    """
    parsed = make_url(url)
    drivers = {
        "sqlite": "sqlite+aiosqlite",
        "postgresql": "postgresql+psycopg",
        "postgres": "postgresql+psycopg",
    }
    name = parsed.drivername.partition("+")[0]
    if name not in drivers:
        msg = f"只支持 SQLite 和 PostgreSQL:{name}"
        raise ValueError(msg)
    return parsed.set(drivername=drivers[name])


def synchronous(url: str) -> URL:
    """Return the URL for Alembic, which works without an event loop."""
    parsed = asynchronous(url)
    return parsed.set(drivername="sqlite") if parsed.drivername.startswith("sqlite") else parsed


class Database:
    """Connections and transactions."""

    def __init__(self, url: str) -> None:
        parsed = asynchronous(url)
        self.is_sqlite = parsed.drivername.startswith("sqlite")
        options: dict[str, Any] = (
            {"connect_args": {"timeout": _BUSY_WITHIN}}
            if self.is_sqlite
            else {
                "connect_args": {"connect_timeout": _CONNECT_WITHIN},
                "pool_size": 10,
                "max_overflow": 10,
                "pool_timeout": _CONNECT_WITHIN,
            }
        )
        self.engine: AsyncEngine = create_async_engine(
            parsed, hide_parameters=True, pool_pre_ping=not self.is_sqlite, **options
        )
        self._writing = self.engine.execution_options(write=True)
        sync_engine = create_engine(
            synchronous(url), hide_parameters=True, pool_pre_ping=not self.is_sqlite, **options
        )
        self._sync_reading = sync_engine
        self._sync_writing = sync_engine.execution_options(write=True)
        if self.is_sqlite:
            _prepare_sqlite(self.engine.sync_engine)
            _prepare_sqlite(sync_engine)

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
        self._sync_writing.dispose()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction that only reads.

        Raises:
            StoreUnavailable: the database is away.
        """
        with _away_is_unavailable():
            async with self.engine.begin() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Give a connection in a transaction; all of it happens, or nothing.

        Raises:
            StoreUnavailable: the database is away.
        """
        with _away_is_unavailable():
            async with self._writing.begin() as connection:
                yield connection

    @contextmanager
    def read_in_thread(self) -> Iterator[Connection]:
        """Give a connection in a transaction that only reads to a thread of the caller's; see `read`."""
        with _away_is_unavailable(), self._sync_reading.begin() as connection:
            yield connection

    @contextmanager
    def write_in_thread(self) -> Iterator[Connection]:
        """Give a connection in a transaction to a thread of the caller's; see `write`."""
        with _away_is_unavailable(), self._sync_writing.begin() as connection:
            yield connection

    def lock_cases(self, connection: Connection, case_ids: Iterable[str]) -> None:
        """Let one writer at a time work on these cases; SQLite has one writer at a time anyway.

        Taken in order, so that two writers never wait for each other.
        """
        for case_id in sorted(set(case_ids)):
            self.lock(connection, case_id)

    def lock(self, connection: Connection, name: str) -> None:
        """Let one writer at a time work on what this name stands for, until its transaction ends."""
        if not self.is_sqlite:
            connection.execute(_LOCK, {"case_id": name})

    @cache  # noqa: B019 - a few statements, as long-lived as the database itself
    def insert_new(self, table: type[Table]) -> Insert:
        """Return an insert that leaves rows alone which are there."""
        if self.is_sqlite:
            return sqlite.insert(table).on_conflict_do_nothing()
        return postgresql.insert(table).on_conflict_do_nothing()

    @cache  # noqa: B019 - the same
    def upsert(self, table: type[Table]) -> Insert:
        """Return an insert that replaces rows which are there, by primary key."""
        insert = sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)
        keys = [column.name for column in table.__table__.primary_key]
        others = {
            column.name: insert.excluded[column.name]
            for column in table.__table__.columns
            if column.name not in keys
        }
        return insert.on_conflict_do_update(index_elements=keys, set_=others)


_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:case_id, 0))")


@contextmanager
def _away_is_unavailable() -> Iterator[None]:
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        raise StoreUnavailable(str(error)) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise StoreUnavailable(str(error)) from error
        raise


def _prepare_sqlite(engine: Engine) -> None:
    """Take transactions into our own hands: the driver would begin too late, and two readers could not both write."""

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:  # DBAPI connections have no common type
        connection.isolation_level = None
        getattr(connection, "driver_connection", connection).text_factory = _text
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _text(stands: bytes) -> str | bytes:
    """Return a text as it is; what SQLite holds as a text and is not UTF-8 as bytes, which no text column takes.

    The driver's own way is an error that ends the whole query, without saying which value it was.
    """
    try:
        return stands.decode()
    except UnicodeDecodeError:
        return stands

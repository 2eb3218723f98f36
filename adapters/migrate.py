"""Bringing a database to the current version, with Alembic and without its ini file."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import InterfaceError, OperationalError

from adapters.database import StoreUnavailable, synchronous

_LOCK = 7_303_014
"""Advisory lock number: two processes that migrate at once do it one after the other."""


def upgrade(url: str) -> None:
    """Apply every migration that the database lacks; nothing when there is none.

    Raises:
        StoreUnavailable: the database cannot be reached.
    """
    with _connected(url) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current(url: str) -> str | None:
    """Return the version of the database; None for one that was never migrated.

    Raises:
        StoreUnavailable: the database cannot be reached.
    """
    with _connected(url) as connection:
        return MigrationContext.configure(connection).get_current_revision()


def head() -> str:
    """Return the newest version that there is."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    """Give a connection. Only reaching the database counts as `StoreUnavailable`, not what a migration may raise."""
    engine = create_engine(synchronous(url))
    try:
        try:
            connection = engine.connect()
        except (OperationalError, InterfaceError) as error:
            raise StoreUnavailable(str(error.orig)) from error
        with connection:
            yield connection
    finally:
        engine.dispose()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config

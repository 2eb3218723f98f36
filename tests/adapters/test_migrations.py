"""Migrations make what the tables say, on both databases."""

import subprocess
import sys
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from adapters.database import synchronous
from adapters.migrate import current, head, upgrade
from adapters.tables import Table
from tests.postgres import PostgresServer

ROOT = Path(__file__).parent.parent.parent


def test_the_migrated_schema_is_what_the_tables_say(database_url: str) -> None:
    engine = create_engine(synchronous(database_url))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    engine.dispose()
    assert current(database_url) == head()


def test_migrating_again_does_no_harm(database_url: str) -> None:
    upgrade(database_url)
    assert current(database_url) == head()


def test_two_processes_that_migrate_at_once_do_it_one_after_the_other(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    with postgres.empty_database() as on_postgres:
        for url in (f"sqlite:///{tmp_path / 'new.db'}", on_postgres):
            program = f"from adapters.migrate import upgrade; upgrade({url!r})"
            both = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) for _ in range(2)]
            assert [process.wait() for process in both] == [0, 0]
            assert current(url) == head()


def test_a_database_that_was_never_migrated_has_no_version(tmp_path: Path) -> None:
    assert current(f"sqlite:///{tmp_path / 'empty.db'}") is None

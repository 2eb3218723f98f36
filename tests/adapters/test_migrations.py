"""Migrations make what the tables say, on both databases."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from adapters.database import synchronous
from adapters.migrate import current, head, upgrade
from adapters.tables import Table


def test_the_migrated_schema_is_what_the_tables_say(database_url: str) -> None:
    engine = create_engine(synchronous(database_url))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []
    engine.dispose()
    assert current(database_url) == head()


def test_migrating_again_or_at_once_does_no_harm(database_url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(upgrade, [database_url] * 2)) == [None, None]
    assert current(database_url) == head()


def test_a_database_that_was_never_migrated_has_no_version(tmp_path: Path) -> None:
    assert current(f"sqlite:///{tmp_path / 'empty.db'}") is None

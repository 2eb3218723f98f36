"""Journals under hash chains, with what stands already; and several anchors a day."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import sqlalchemy as sa
from alembic import op

from adapters.tables import UtcDateTime
from domain.journal import Journal, JournalHead, content_digest, link

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_AT_ONCE = 1000

# Each journal with its table as it is now: how its rows are keyed, dated and ordered, and which columns are bound.
_SOURCES = {
    Journal.INTAKE: ("case_id", "called_at", ("district", "opened", "terms_id")),
    Journal.OPERATIONS: (
        "id",
        "at",
        ("operation", "person", "person_name", "district", "name", "arguments", "outcome", "detail"),
    ),
    Journal.DECODINGS: (
        "id",
        "at",
        ("person", "district", "namespace", "workflows", "keys", "payloads", "digest"),
    ),
}


def upgrade() -> None:
    """Make the table of the links, chain every row that stands, then let it refuse change and deletion."""
    links = op.create_table(
        "journals",
        sa.Column("journal", sa.String(length=16), nullable=False),
        sa.Column("district", sa.String(length=200), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("journal", "district", "sequence"),
    )
    op.create_index("ix_journals_key", "journals", ["journal", "key"], unique=True)
    for journal in Journal:
        _chain(links, journal)
    op.drop_index("ix_anchors_day", "anchors")
    op.create_index("ix_anchors_day", "anchors", ["district", "day"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            """
            CREATE FUNCTION refuse_journals_change() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'journals are append-only'; END $$
            """
        )
        op.execute(
            """
            CREATE TRIGGER journals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON journals
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_journals_change()
            """
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"""
            CREATE TRIGGER journals_append_only_{change.lower()} BEFORE {change} ON journals
            BEGIN SELECT RAISE(ABORT, 'journals are append-only'); END
            """
        )


def _chain(links: sa.Table, journal: Journal) -> None:
    bind = op.get_bind()
    waiting: list[dict[str, Any]] = []
    for each in _links(bind, journal):
        waiting.append(each)
        if len(waiting) == _AT_ONCE:
            bind.execute(links.insert(), waiting)
            waiting = []
    if waiting:
        bind.execute(links.insert(), waiting)


def _links(bind: sa.Connection, journal: Journal) -> Iterator[dict[str, Any]]:
    """Yield a link for every row, district by district, in the order in which they came."""
    key, at, columns = _SOURCES[journal]
    table = sa.table(
        journal.value, sa.column(key), sa.column(at, UtcDateTime()), *(sa.column(name) for name in columns)
    )
    query = sa.select(table).order_by(table.c.district, table.c[at], table.c[key])
    if key == "id":
        query = sa.select(table).order_by(table.c.district, table.c.id)
    rows = bind.execute(query.execution_options(yield_per=_AT_ONCE)).mappings()
    for district, some in groupby(rows, key=lambda row: row["district"]):
        head: JournalHead | None = None
        for row in some:
            content = content_digest({name: row[name] for name in (at, *columns)})
            made = link(journal, district, key=str(row[key]), at=row[at], content=content, after=head)
            head = JournalHead(journal=journal, sequence=made.sequence, hash=made.hash)
            yield {**made.model_dump(), "journal": journal.value}


def downgrade() -> None:
    """What is chained stays."""
    raise NotImplementedError

"""Append-only tables refuse `INSERT OR REPLACE`, too."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Each append-only table with what makes a row its own, and what its other triggers say.
_KEYS = {
    "ledger": (("case_id", "sequence"),),
    "operations": (("id",),),
    "decodings": (("id",),),
    "anchors": (("district", "number"),),
    "journals": (("journal", "district", "sequence"), ("journal", "key")),
}


def upgrade() -> None:
    """Refuse a row in whose place there is one already.

    SQLite lets a replacing insert delete that row without its delete trigger, unless `recursive_triggers` is on, which
    is for each connection to say. PostgreSQL has nothing of the kind: what replaces there is an update.
    """
    if op.get_bind().dialect.name == "postgresql":
        return
    for table, keys in _KEYS.items():
        stands = " OR ".join(
            f"EXISTS (SELECT 1 FROM {table} WHERE {' AND '.join(f'{name} = NEW.{name}' for name in key)})"  # noqa: S608 - our own names
            for key in keys
        )
        op.execute(
            f"""
            CREATE TRIGGER {table}_append_only_insert BEFORE INSERT ON {table} WHEN {stands}
            BEGIN SELECT RAISE(ABORT, '{table}: append-only'); END
            """
        )


def downgrade() -> None:
    """What is written stays."""
    raise NotImplementedError

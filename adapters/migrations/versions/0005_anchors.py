"""Anchors: one signed root a day over all chains of a district; append-only like the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and let it refuse change and deletion."""
    op.create_table(
        "anchors",
        sa.Column("district", sa.String(length=200), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("signature", sa.String(length=128), nullable=False),
        sa.Column("key_id", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("district", "number"),
    )
    op.create_index("ix_anchors_day", "anchors", ["district", "day"], unique=True)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            """
            CREATE FUNCTION refuse_anchor_change() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'anchors are append-only'; END $$
            """
        )
        op.execute(
            """
            CREATE TRIGGER anchors_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON anchors
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_anchor_change()
            """
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"""
            CREATE TRIGGER anchors_append_only_{change.lower()} BEFORE {change} ON anchors
            BEGIN SELECT RAISE(ABORT, 'anchors are append-only'); END
            """
        )


def downgrade() -> None:
    """What is anchored stays."""
    raise NotImplementedError

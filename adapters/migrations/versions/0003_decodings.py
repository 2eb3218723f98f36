"""Who looked at what through the codec server: append-only, like the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the table, and let it refuse change and deletion."""
    op.create_table(
        "decodings",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("person", sa.String(length=200), nullable=False),
        sa.Column("district", sa.String(length=200), nullable=False),
        sa.Column("namespace", sa.String(length=200), nullable=False),
        sa.Column("workflows", sa.Text(), nullable=False),
        sa.Column("keys", sa.Text(), nullable=False),
        sa.Column("payloads", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_decodings_district", "decodings", ["district", "id"], unique=False)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            """
            CREATE FUNCTION refuse_decodings_change() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'decodings is append-only'; END $$
            """
        )
        op.execute(
            """
            CREATE TRIGGER decodings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON decodings
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_decodings_change()
            """
        )
        return
    for change in ("UPDATE", "DELETE"):
        op.execute(
            f"""
            CREATE TRIGGER decodings_append_only_{change.lower()} BEFORE {change} ON decodings
            BEGIN SELECT RAISE(ABORT, 'decodings is append-only'); END
            """
        )


def downgrade() -> None:
    """What was looked at stays known: there is no way back."""
    raise NotImplementedError

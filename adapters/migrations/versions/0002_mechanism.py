"""The whole mechanism: who calls downwards, where it is, who watches, clocks that stand still, the township's squad."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what the read models need; `shaodao rebuild` fills it for cases from before."""
    op.add_column("cases", sa.Column("caller_office", sa.String(length=200), nullable=True))
    op.add_column("cases", sa.Column("place", sa.String(length=200), nullable=False, server_default=""))
    op.add_column("cases", sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index("ix_cases_item", "cases", ["district", "item_code", "called_at"], unique=False)
    op.add_column("clocks", sa.Column("paused_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("posts", sa.Column("squad", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.create_table(
        "watches",
        sa.Column("case_id", sa.String(length=200), nullable=False),
        sa.Column("person", sa.String(length=200), nullable=False),
        sa.PrimaryKeyConstraint("case_id", "person"),
    )
    op.create_index("ix_watches_person", "watches", ["person"], unique=False)


def downgrade() -> None:
    """Migrations go forward only."""
    raise NotImplementedError

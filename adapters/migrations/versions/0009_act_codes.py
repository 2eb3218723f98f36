"""Acts that wait for Temporal bear a code; those that wait already are refused, and operators are told."""

import sqlalchemy as sa
from alembic import op

from adapters.tables import UtcDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, and settle what waits: nothing proves who kept it, and no code is made for it afterwards."""
    op.add_column("pending_acts", sa.Column("mac", sa.String(length=80), nullable=True))
    acts = sa.table(
        "pending_acts",
        sa.column("settled_at", UtcDateTime(timezone=True)),
        sa.column("outcome", sa.Text()),
    )
    op.execute(
        acts.update()
        .where(acts.c.settled_at.is_(None))
        .values(settled_at=sa.func.current_timestamp(), outcome="act_before_codes")
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_column("pending_acts", "mac")

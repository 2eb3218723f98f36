"""An index for the loads of districts, which every API looks at again and again."""

import sqlalchemy as sa
from alembic import op

from adapters.tables import LOADS

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add it."""
    op.create_index(
        "ix_operations_loads",
        "operations",
        ["district", "at", "id"],
        unique=False,
        sqlite_where=sa.text(LOADS),
        postgresql_where=sa.text(LOADS),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_index("ix_operations_loads", "operations")

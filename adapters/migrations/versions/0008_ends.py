"""Open cases, and ends of cases, are found by index: reconciliation no longer reads every closed case."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_ENDS = sa.text("kind IN ('call_refused', 'cancelled', 'closed', 'linked', 'reopened')")


def upgrade() -> None:
    """Make both indexes."""
    op.create_index("ix_cases_settled", "cases", ["settled_at", "case_id"], unique=False)
    op.create_index(
        "ix_ledger_ends",
        "ledger",
        ["case_id", "kind", "sequence"],
        unique=False,
        sqlite_where=_ENDS,
        postgresql_where=_ENDS,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_index("ix_ledger_ends", "ledger")
    op.drop_index("ix_cases_settled", "cases")

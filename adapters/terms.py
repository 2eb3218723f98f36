"""Which district a row of the terms may name: districts under the very same terms share it."""

from sqlalchemy import Connection, exists, or_, select, update
from sqlalchemy.orm import aliased

from adapters.tables import DistrictRow, IntakeRow, TermsRow

_ANY_CALL = aliased(IntakeRow)
_IS_LOADED = exists().where(DistrictRow.code == TermsRow.district, DistrictRow.terms_id == TermsRow.id)
_HAS_CALLS = exists().where(_ANY_CALL.district == TermsRow.district, _ANY_CALL.terms_id == TermsRow.id)
NAMES_A_USER = or_(_IS_LOADED, _HAS_CALLS)
"""Whether the district that a row of the terms names has these terms now, or has ever taken a call under them."""


def hand_over(connection: Connection) -> None:
    """Let terms whose district has moved on without ever taking a call under them name one that uses them.

    So that the row always names a user, and any other name in it is somebody's forgery.
    """
    stale = select(TermsRow.id).where(~NAMES_A_USER)
    for terms_id in connection.execute(stale).scalars().all():
        users = select(DistrictRow.code).where(DistrictRow.terms_id == terms_id)
        callers = select(IntakeRow.district).where(IntakeRow.terms_id == terms_id)
        user = connection.execute(users.union_all(callers).limit(1)).scalar()
        if user is not None:
            connection.execute(update(TermsRow).where(TermsRow.id == terms_id).values(district=user))

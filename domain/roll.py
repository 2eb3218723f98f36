"""Whether a case is missing as a whole: who still knows it is held against what ledger and intake hold."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from domain.calendar import SHANGHAI
from domain.verify import Check, Finding

_ID = re.compile(r"(?P<district>.+)-(?P<day>\d{8})-[^-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which cases are meant: of a district, or of all; called within a half-open period, or at any time."""

    district: str | None = None
    called_from: datetime | None = None
    called_before: datetime | None = None

    def covers(self, case_id: str) -> bool:
        """Whether the id, which bears district and local day of the call, is in it.

        A missing case has nothing but its id. One whose id says neither is always meant: it must not hide so.
        """
        said = _said(case_id)
        if said is None:
            return True
        district, day = said
        if self.district is not None and district != self.district:
            return False
        early = self.called_from is not None and day < self.called_from.astimezone(SHANGHAI).date()
        late = self.called_before is not None and day >= self.called_before.astimezone(SHANGHAI).date()
        return not early and not late


def is_nameless(case_id: str) -> bool:
    """Whether the id says neither district nor day, as no id does that this system has given."""
    return _said(case_id) is None


def _said(case_id: str) -> tuple[str, date] | None:
    parts = _ID.fullmatch(case_id)
    day = _day(parts["day"]) if parts else None
    return (parts["district"], day) if parts and day else None


def _day(digits: str) -> date | None:
    try:
        return datetime.strptime(digits, "%Y%m%d").replace(tzinfo=SHANGHAI).date()
    except ValueError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A row of a read model of which the ledger has nothing.

    Attributes:
        row: its key, the case id first, joined by '/'.
    """

    table: str
    case_id: str
    row: str


def missing_cases(witnesses: Mapping[str, Sequence[str]], held: Collection[str]) -> list[Finding]:
    """Return a finding for each case that somebody knows and neither ledger nor intake holds.

    Args:
        witnesses: in Chinese, who knows the case, by case id.
        held: the cases that have a row in ledger or intake.
    """
    return [
        Finding(
            check=Check.CASES,
            code="case_deleted",
            table="ledger",
            row=f"案件 {case_id}",
            detail=f"整案被删除:{'、'.join(witnesses[case_id])}有此案,台账与受理登记中均没有。",
        )
        for case_id in sorted(witnesses.keys() - set(held))
    ]


def orphaned_rows(orphans: Sequence[Orphan]) -> list[Finding]:
    """Return a finding for each row of a read model that the ledger knows nothing of."""
    return [
        Finding(
            check=Check.READ_MODELS,
            code="row_added",
            table=orphan.table,
            row=orphan.row,
            detail="台账中没有与之对应的记录,按台账不应有此行。",
        )
        for orphan in orphans
    ]

"""Who still knows a case that the database no longer has, and what a case's id says of it."""

import pytest

from domain.roll import Orphan, Scope, missing_cases, orphaned_rows
from tests.sample import shanghai

MARCH = Scope(
    district="yi-cheng", called_from=shanghai("2026-03-01 00:00"), called_before=shanghai("2026-04-01 00:00")
)


@pytest.mark.parametrize(
    ("case_id", "meant"),
    [
        ("yi-cheng-20260301-aaaaaa", True),
        ("yi-cheng-20260331-aaaaaa", True),
        ("yi-cheng-20260401-aaaaaa", False),
        ("yi-cheng-20260228-aaaaaa", False),
        ("teng-zhou-20260301-aaaaaa", False),
        ("yi-cheng-20261331-aaaaaa", True),
        ("nonsense", True),
    ],
)
def test_a_missing_case_is_meant_by_the_district_and_day_of_its_id_and_always_when_that_says_neither(
    case_id: str, meant: bool
) -> None:
    assert MARCH.covers(case_id) is meant
    assert Scope().covers(case_id)


def test_a_case_that_somebody_knows_and_the_database_does_not_is_named_with_everybody_who_knows_it() -> None:
    (finding,) = missing_cases({"a": ["Temporal(运行中)", "归档"], "b": ["归档"]}, {"b"})
    assert (finding.code, finding.place, finding.proven) == ("case_deleted", "ledger,案件 a", True)
    assert "Temporal(运行中)、归档有此案" in finding.detail


def test_a_row_without_a_ledger_is_named_by_table_case_and_number() -> None:
    (finding,) = orphaned_rows([Orphan(table="timeline", case_id="a", row="a/999")])
    assert (finding.code, finding.place) == ("row_added", "timeline,a/999")

"""Open cases are found without reading those that have ended; one that only its read model ends is found all the same."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert

from adapters.store import Store
from adapters.tables import CaseRow, LedgerRow

AT = datetime(2026, 3, 4, 9, tzinfo=UTC)
DUPLICATE, RELATED = '{"link":"duplicate"}', '{"link":"related"}'


def case_row(case_id: str, *, ended: bool) -> dict[str, Any]:
    """Return a read model's row."""
    text = dict.fromkeys(
        ("township", "category", "urgency", "place", "title", "caller", "policy_version", "search_text"), ""
    )
    nothing = dict.fromkeys(("item_code", "lead", "caller_office", "next_due_at"))
    moments = {"called_at": AT, "acted_at": AT, "closed_at": None, "settled_at": AT if ended else None}
    return {
        "case_id": case_id,
        "district": "sample",
        "stage": "closed" if ended else "signed",
        "escalation_level": 0,
        "sequence": 2,
        "state": "{}",
        **text,
        **nothing,
        **moments,
    }


async def put(store: Store, case_id: str, *kinds: tuple[str, str], ended: bool) -> None:
    """Put a case with this ledger."""
    rows = [
        {"case_id": case_id, "sequence": number, "at": AT, "kind": kind, "entry": entry, "hash": ""}
        for number, (kind, entry) in enumerate((("called", "{}"), *kinds), start=1)
    ]
    async with store._database.write() as connection:
        await connection.execute(insert(CaseRow), [case_row(case_id, ended=ended)])
        await connection.execute(insert(LedgerRow), rows)


@pytest.mark.parametrize(
    ("kinds", "ended", "is_open"),
    [
        ([("signed", "{}")], False, True),
        ([("signed", "{}")], True, True),
        ([("closed", "{}")], True, False),
        ([("cancelled", "{}")], True, False),
        ([("call_refused", "{}")], True, False),
        ([("linked", DUPLICATE)], True, False),
        ([("linked", RELATED)], True, True),
        ([("closed", "{}"), ("reopened", "{}")], True, True),
        ([("closed", "{}"), ("reopened", "{}"), ("closed", "{}")], True, False),
        ([("closed", "{}")], False, True),
    ],
)
async def test_a_case_is_open_by_its_read_model_or_by_its_ledger(
    store: Store, kinds: list[tuple[str, str]], *, ended: bool, is_open: bool
) -> None:
    await put(store, "sample-20260304-a", *kinds, ended=ended)
    assert [known.case_id for known in await store.open_cases()] == ["sample-20260304-a"] * is_open


async def test_of_cases_that_have_ended_indexes_are_read_and_no_rows(sqlite_store: Store) -> None:
    plans: list[str] = []

    def explained(connection: Connection, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if statement.startswith("SELECT"):
            cursor = connection.connection.cursor()
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in cursor.fetchall())

    await put(sqlite_store, "sample-20260304-a", ("closed", "{}"), ended=True)
    engine = sqlite_store._database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", explained)
    assert await sqlite_store.open_cases() == []
    event.remove(engine, "before_cursor_execute", explained)
    steps = [step for step in plans if step.startswith(("SCAN", "SEARCH"))]
    assert steps
    assert all("ix_cases_settled" in step or "ix_ledger_ends" in step for step in steps), steps

"""Read models from entries: one function for the ledger's every write and for rebuilding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert

from adapters.database import Database
from adapters.tables import AssignmentRow, CaseRow, ClockRow, TimelineRow
from domain import words
from domain.case import CaseState
from domain.district import Terms
from domain.events import Entry

READ_MODELS = (CaseRow, AssignmentRow, ClockRow, TimelineRow)
"""Every table that `project` writes: rebuilding empties these, and auditors hold them against the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One case going from one state to the next.

    Attributes:
        before: the state that the read models show; None when they do not know the case.
        entries: what lies between.
    """

    before: CaseState | None
    after: CaseState
    entries: Sequence[Entry]
    terms: Terms


def project(database: Database, connection: Connection, steps: Sequence[Step]) -> None:
    """Bring the read models of these cases to their next states; a statement a table, however many cases."""
    cases = [_case(step.after) for step in steps]
    connection.execute(database.upsert(CaseRow), cases)
    assignments = [row for step in steps for row in _assignments(step)]
    if assignments:
        connection.execute(database.upsert(AssignmentRow), assignments)
    changed = [row for step in steps for row in _clocks(step)]
    if changed:
        connection.execute(database.upsert(ClockRow), changed)
    lines = [_line(entry, step.terms) for step in steps for entry in step.entries]
    connection.execute(_NEW_LINE, lines)


_NEW_LINE = insert(TimelineRow)


def _assignments(step: Step) -> list[dict[str, Any]]:
    known = step.before.assignments if step.before else ()
    return [
        {
            "case_id": step.after.case_id,
            "department": each.department,
            "lead": each.lead,
            "status": each.status,
        }
        for each in step.after.assignments
        if each not in known
    ]


def _clocks(step: Step) -> list[dict[str, Any]]:
    known = step.before.clocks if step.before else ()
    return [
        {
            "case_id": step.after.case_id,
            "kind": clock.kind.value,
            "department": clock.department or "",
            "round": clock.round,
            "started_at": clock.started_at,
            "due_at": clock.due_at,
            "ended_at": clock.ended_at,
            "level": max(clock.fired, default=0),
        }
        for clock in step.after.clocks
        if clock not in known
    ]


def _case(state: CaseState) -> dict[str, Any]:
    call, closure = state.call, state.closure
    searchable = (state.case_id, call.title, call.description, call.location.address, call.item_name or "")
    return {
        "case_id": state.case_id,
        "district": call.district,
        "township": call.township,
        "stage": state.stage.value,
        "category": call.category.value,
        "urgency": call.urgency.value,
        "item_code": call.item_code,
        "lead": state.lead.department if state.lead else None,
        "title": call.title,
        "caller": state.caller.id,
        "called_at": state.called_at,
        "acted_at": state.acted_at,
        "closed_at": closure.at if closure else None,
        "next_due_at": state.next_deadline,
        "escalation_level": state.escalation_level,
        "policy_version": state.policy_version,
        "sequence": state.sequence,
        "search_text": "\n".join(searchable).lower(),
        "state": state.model_dump_json(),
    }


def _line(entry: Entry, terms: Terms) -> dict[str, Any]:
    return {
        "case_id": entry.case_id,
        "sequence": entry.sequence,
        "at": entry.at,
        "kind": entry.event.kind,
        "actor": entry.by.id if entry.by else "",
        "actor_name": words.actor_name(entry),
        "text": words.sentence(entry, terms),
    }

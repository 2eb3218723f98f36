"""Read models from entries: one function for the ledger's every write and for rebuilding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, insert

from adapters.database import Database
from adapters.tables import AssignmentRow, CaseRow, ClockRow, TimelineRow, WatchRow
from domain import words
from domain.case import CaseState
from domain.district import Terms
from domain.events import Entry
from domain.lifecycle import terms_after
from domain.recurrence import place

READ_MODELS = (CaseRow, AssignmentRow, ClockRow, TimelineRow, WatchRow)
"""Every table that `project` writes: rebuilding empties these, and auditors hold them against the ledger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One case going from one state to the next.

    Attributes:
        before: the state that the read models show; None when they do not know the case.
        entries: what lies between.
        terms: those that held before.
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
    for step in steps:
        _watches(connection, step)
    changed = [row for step in steps for row in _clocks(step)]
    if changed:
        connection.execute(database.upsert(ClockRow), changed)
    lines = [line for step in steps for line in _lines(step)]
    connection.execute(_NEW_LINE, lines)


_NEW_LINE = insert(TimelineRow)


def _assignments(step: Step) -> list[dict[str, Any]]:
    """Return what changed; a department that left and came again stands once, as it is now."""
    known = step.before.assignments if step.before else ()
    gone = step.before.former if step.before else ()
    rows = {
        each.assignment.department: (each.assignment.lead, each.by.value)
        for each in step.after.former
        if each not in gone
    }
    rows |= {
        each.department: (each.lead, each.status) for each in step.after.assignments if each not in known
    }
    return [
        {"case_id": step.after.case_id, "department": department, "lead": lead, "status": status}
        for department, (lead, status) in rows.items()
    ]


def _watches(connection: Connection, step: Step) -> None:
    before = step.before.watchers if step.before else ()
    if before == step.after.watchers:
        return
    connection.execute(delete(WatchRow).where(WatchRow.case_id == step.after.case_id))
    rows = [{"case_id": step.after.case_id, "person": person} for person in step.after.watchers]
    if rows:
        connection.execute(insert(WatchRow), rows)


def _clocks(step: Step) -> list[dict[str, Any]]:
    known = {clock.key: clock for clock in (step.before.clocks if step.before else ())}
    return [
        {
            "case_id": step.after.case_id,
            "kind": clock.kind.value,
            "department": clock.department or "",
            "round": clock.round,
            "started_at": clock.started_at,
            "due_at": clock.due_at,
            "ended_at": clock.ended_at,
            "paused_at": clock.paused_at,
            "level": max(clock.fired, default=0),
        }
        for clock in step.after.clocks
        if known.get(clock.key) != clock
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
        "caller_office": call.caller_office,
        "place": place(call.location.address),
        "title": call.title,
        "caller": state.caller.id,
        "called_at": state.called_at,
        "acted_at": state.acted_at,
        "closed_at": closure.at if closure else None,
        "settled_at": state.acted_at if state.is_settled else None,
        "next_due_at": state.next_deadline,
        "escalation_level": state.escalation_level,
        "policy_version": state.policy_version,
        "sequence": state.sequence,
        "search_text": "\n".join(searchable).lower(),
        "state": state.model_dump_json(),
    }


def _lines(step: Step) -> list[dict[str, Any]]:
    lines, terms = [], step.terms
    for entry in step.entries:
        terms = terms_after(entry, terms)
        lines.append(_line(entry, terms))
    return lines


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

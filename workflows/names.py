"""Names that clients, operators and other programs rely on (interfaces: Temporal)."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

from domain import words
from domain.case import CaseId, CaseState
from domain.district import Terms

TASK_QUEUE = "shaodao"
CASE = "Case"
NOTICES = "Notices"
ANCHOR = "Anchor"
RECORD = "record"
DELIVER_NOTICES = "deliver_notices"
ARCHIVE = "Archive"
ARCHIVE_EARLY_RUNS = "archive_early_runs"
ARCHIVE_CASES = "archive_cases"
RECONCILE = "Reconcile"
RECONCILE_ACTIVITY = "reconcile"
ANCHOR_ACTIVITY = "anchor"

DISTRICT = SearchAttributeKey.for_keyword("District")
TOWNSHIP = SearchAttributeKey.for_keyword("Township")
STAGE = SearchAttributeKey.for_keyword("Stage")
CATEGORY = SearchAttributeKey.for_keyword("Category")
ITEM_CODE = SearchAttributeKey.for_keyword("ItemCode")
URGENCY = SearchAttributeKey.for_keyword("Urgency")
LEAD_DEPARTMENT = SearchAttributeKey.for_keyword("LeadDepartment")
DEPARTMENTS = SearchAttributeKey.for_keyword_list("Departments")
OVERDUE = SearchAttributeKey.for_bool("Overdue")
NEXT_DEADLINE = SearchAttributeKey.for_datetime("NextDeadline")
ESCALATION_LEVEL = SearchAttributeKey.for_int("EscalationLevel")
POLICY_VERSION = SearchAttributeKey.for_keyword("PolicyVersion")
AWAITING_SIGN = SearchAttributeKey.for_keyword_list("AwaitingSign")
"""The departments that have still to sign; kept by runs that began with `CaseStart.shows_awaiting_sign`."""
CASE_LABEL = SearchAttributeKey.for_keyword("CaseLabel")
"""One Chinese line for operators' lists, of catalogue and office names only: search attributes are never encrypted."""

SEARCH_ATTRIBUTES = (
    DISTRICT,
    TOWNSHIP,
    STAGE,
    CATEGORY,
    ITEM_CODE,
    URGENCY,
    LEAD_DEPARTMENT,
    DEPARTMENTS,
    OVERDUE,
    NEXT_DEADLINE,
    ESCALATION_LEVEL,
    POLICY_VERSION,
    AWAITING_SIGN,
    CASE_LABEL,
)


def case_workflow_id(case_id: CaseId) -> str:
    """Return the id of the one workflow that is this case."""
    return f"case/{case_id}"


def notices_workflow_id(district: str) -> str:
    """Return the id of the workflow that sends this district's notices."""
    return f"notices/{district}"


def anchor_id(district: str) -> str:
    """Return the id of the schedule, and of its workflows, that anchors this district's chains."""
    return f"anchor/{district}"


def values_of(state: CaseState, terms: Terms, at: datetime, *, awaiting_sign: bool) -> dict[str, Any]:
    """Return every search attribute of the case at a moment, by name. They are never encrypted: nothing personal here.

    The values' type is a library's border: text, lists of it, moments, numbers.

    Args:
        awaiting_sign: whether the run keeps that attribute, see `CaseStart`.
    """
    call, lead = state.call, state.lead
    values = {
        DISTRICT.name: call.district,
        TOWNSHIP.name: call.township,
        STAGE.name: state.stage.value,
        CATEGORY.name: call.category.value,
        ITEM_CODE.name: call.item_code or None,
        URGENCY.name: call.urgency.value,
        LEAD_DEPARTMENT.name: lead.department if lead else None,
        DEPARTMENTS.name: list(state.departments()) or None,
        OVERDUE.name: state.is_overdue(at),
        NEXT_DEADLINE.name: state.next_deadline,
        ESCALATION_LEVEL.name: state.escalation_level,
        POLICY_VERSION.name: state.policy_version,
        AWAITING_SIGN.name: (list(state.awaiting_sign) or None) if awaiting_sign else None,
        CASE_LABEL.name: words.label(state, terms, at),
    }
    return {name: value for name, value in values.items() if value is not None}


def attributes_of(
    state: CaseState, terms: Terms, at: datetime, *, awaiting_sign: bool
) -> list[SearchAttributeUpdate[Any]]:
    """Return every search attribute of the case at a moment, as Temporal takes them."""
    return changes({}, values_of(state, terms, at, awaiting_sign=awaiting_sign))


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[SearchAttributeUpdate[Any]]:
    """Return what leads from these values to those."""
    changed = [_KEYS[name].value_set(value) for name, value in after.items() if before.get(name) != value]
    return changed + [_KEYS[name].value_unset() for name in before if name not in after]


_KEYS: dict[str, SearchAttributeKey[Any]] = {key.name: key for key in SEARCH_ATTRIBUTES}

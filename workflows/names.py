"""Names that clients, operators and other programs rely on (interfaces: Temporal)."""

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


def attributes_of(state: CaseState, terms: Terms, at: datetime) -> list[SearchAttributeUpdate[Any]]:
    """Return every search attribute of the case at a moment. They are never encrypted: nothing personal in here.

    The type argument is a library's border: a list of updates of different value types.
    """
    call, lead = state.call, state.lead
    due = state.next_deadline
    optional = [
        ITEM_CODE.value_set(call.item_code) if call.item_code else None,
        LEAD_DEPARTMENT.value_set(lead.department) if lead else None,
        DEPARTMENTS.value_set(list(state.departments())) if state.assignments else None,
        NEXT_DEADLINE.value_set(due) if due else None,
    ]
    return [
        DISTRICT.value_set(call.district),
        TOWNSHIP.value_set(call.township),
        STAGE.value_set(state.stage.value),
        CATEGORY.value_set(call.category.value),
        URGENCY.value_set(call.urgency.value),
        OVERDUE.value_set(state.is_overdue(at)),
        ESCALATION_LEVEL.value_set(state.escalation_level),
        POLICY_VERSION.value_set(state.policy_version),
        CASE_LABEL.value_set(words.label(state, terms, at)),
        *(each for each in optional if each is not None),
    ]

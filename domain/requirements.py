"""What several acts ask of a case before they may be done."""

from domain.case import Assignment, CaseState, OrganisationCode, Stage
from domain.district import OrganisationKind, Terms
from domain.errors import Invalid, Refused
from domain.words import STAGES


def assigned(state: CaseState, department: OrganisationCode) -> Assignment:
    """Return the department's assignment.

    Raises:
        Refused: `not_dispatched`, `not_assigned`.
    """
    if not state.assignments:
        raise Refused("not_dispatched", "案件尚未派单。")
    assignment = state.assignment(department)
    if assignment is None:
        raise Refused("not_assigned", f"部门“{department}”不是本案的承办部门。")
    return assignment


def require_stage(state: CaseState, stage: Stage) -> None:
    """Raise `wrong_stage` unless the case stands there."""
    if state.stage is not stage:
        raise Refused(
            "wrong_stage", f"案件当前为“{STAGES[state.stage]}”,此操作只能在“{STAGES[stage]}”时进行。"
        )


def require_department(terms: Terms, code: str) -> None:
    """Raise `unknown_department` unless there is such a department."""
    if not is_kind(terms, code, OrganisationKind.DEPARTMENT):
        raise Invalid("unknown_department", f"部门“{code}”不存在,请从组织机构中选择。")


def is_kind(terms: Terms, code: str, kind: OrganisationKind) -> bool:
    """Whether there is such an office of this kind."""
    return any(each.code == code and each.kind is kind for each in terms.organisations)


def not_in_policy(step: str) -> Refused:
    """Return the refusal of a step that the district's policy does not have."""
    return Refused("not_in_policy", f"本区(市)政策未启用“{step}”环节。")

"""What the caller's side says of the work, and what may come after: rating, rework, reopening, appeal (domain.md §5)."""

from datetime import datetime

from domain import clocks
from domain.access import is_group
from domain.case import (
    Actor,
    Appeal,
    AppealAbout,
    Assignment,
    CaseState,
    OrganisationCode,
    PersonId,
    Stage,
)
from domain.commands import DecideAppeal, FileAppeal, Rate, Reopen, Rework
from domain.district import Terms
from domain.errors import Forbidden, Invalid, Refused
from domain.events import AppealDecided, Appealed, Closed, Event, Rated, Reopened, ReworkOrdered
from domain.policy import ClockKind
from domain.requirements import assigned, not_in_policy, require_stage

# --- rating and rework -------------------------------------------------------------------------------------


def ratable(state: CaseState, department: OrganisationCode) -> Assignment:
    """Return the assignment that waits for its rating."""
    assignment = assigned(state, department)
    if assignment.rating is not None:
        raise Refused("already_rated", "该部门已评价,评价提交后不可修改。")
    if state.stage is not Stage.AWAITING_RATING:
        raise Refused("not_all_done", "所有承办部门报告办理完成后才能评价。")
    return assignment


def rate(state: CaseState, command: Rate, at: datetime, terms: Terms) -> list[Event]:
    """评价. 'Not solved' sends the matter back; the last rating closes the case."""
    assignment = ratable(state, command.department)
    rated = Rated(
        department=command.department,
        grade=command.grade,
        solved=command.solved,
        response=command.response,
        action=command.action,
        result=command.result,
        comment=command.comment,
    )
    if not command.solved:
        reason = command.comment or "呼叫镇街评价为未解决。"
        return [rated, _reworked(state, assignment, reason, at, terms)]
    others_rated = all(each.rating for each in state.assignments if each.department != command.department)
    return [rated, Closed()] if others_rated else [rated]


def can_rework(state: CaseState, department: OrganisationCode) -> Assignment:
    """Return the assignment of an office that says it is done, and has not been rated."""
    assignment = assigned(state, department)
    if assignment.done_at is None:
        raise Refused("not_done", "该部门尚未报告办理完成,无需退回重办。")
    if assignment.rating is not None:
        raise Refused("already_rated", "该部门已评价,评价提交后不可修改。")
    return assignment


def rework(state: CaseState, command: Rework, at: datetime, terms: Terms) -> list[Event]:
    """重办, before rating."""
    assignment = can_rework(state, command.department)
    return [_reworked(state, assignment, command.reason, at, terms)]


def _reworked(
    state: CaseState, assignment: Assignment, reason: str, at: datetime, terms: Terms
) -> ReworkOrdered:
    return ReworkOrdered(
        department=assignment.department,
        reason=reason,
        round=assignment.round + 1,
        clocks=(clocks.rework_clock(state, assignment.department, at, terms),),
    )


# --- reopening ---------------------------------------------------------------------------------------------


def reopenable(state: CaseState, by: Actor, at: datetime, terms: Terms) -> None:
    """Raise unless this person may reopen it now: the coordination group always, the caller within limits."""
    require_stage(state, Stage.CLOSED)
    limit = terms.policy.limits.reopen
    if limit is None:
        raise not_in_policy("重新打开")
    if is_group(by):
        return
    assert state.closure is not None  # noqa: S101 - it is closed
    if at > clocks.calendar_of(terms.calendar).due(state.closure.at, limit.within).at:
        raise Refused("reopen_too_late", f"办结已超过{limit.within},须由协调小组批准后重新打开。")
    if len(state.past_closures) >= limit.without_approval:
        raise Refused(
            "reopen_needs_approval",
            f"案件已重新打开过 {len(state.past_closures)} 次,再次打开须由协调小组批准。",
        )


def reopen(state: CaseState, command: Reopen, at: datetime, terms: Terms) -> list[Event]:
    """重新打开: by the caller within the time that the policy says and as often; else by the coordination group."""
    reopenable(state, command.by, at, terms)
    departments = command.departments or state.departments()
    for department in departments:
        assigned(state, department)
    if len(set(departments)) != len(departments):
        raise Invalid("department_twice", "同一部门不能重复列出。")
    started = [clocks.rework_clock(state, department, at, terms) for department in departments]
    whole = clocks.case_clock(state, state.limit_class, at, terms)
    return [
        Reopened(
            reason=command.reason,
            departments=departments,
            by_group=is_group(command.by),
            clocks=(*started, whole),
        )
    ]


# --- appeal ------------------------------------------------------------------------------------------------


def appealable(state: CaseState, department: OrganisationCode, at: datetime, terms: Terms) -> Assignment:
    """Return the assignment of a department that has not appealed yet and still may."""
    require_stage(state, Stage.CLOSED)
    limit = terms.policy.limits.appeal
    if limit is None:
        raise not_in_policy("申诉")
    assignment = assigned(state, department)
    if any(each.department == department and each.round == assignment.round for each in state.appeals):
        raise Refused("already_appealed", "每个部门对一次办理只能申诉一次。")
    assert state.closure is not None  # noqa: S101 - it is closed
    if at > clocks.calendar_of(terms.calendar).due(state.closure.at, limit.within).at:
        raise Refused("appeal_too_late", f"申诉须在办结后{limit.within}内提出。")
    return assignment


def appeal(state: CaseState, command: FileAppeal, at: datetime, terms: Terms) -> list[Event]:
    """申诉, once, after closure."""
    assignment = appealable(state, command.department, at, terms)
    limit = terms.policy.limits.appeal
    assert limit is not None  # noqa: S101 - see appealable
    if command.about is AppealAbout.RATING and assignment.rating is None:
        raise Refused("not_rated", "本部门未被评价,没有可申诉的评价。")
    if command.about is AppealAbout.LATENESS and not _was_late(state, command.department):
        raise Refused("not_late", "本部门没有超时记录,无需申诉。")
    review = clocks.step_clock(
        state, ClockKind.APPEAL, limit.review, at, terms, department=command.department
    )
    return [
        Appealed(
            number=len(state.appeals) + 1,
            department=command.department,
            about=command.about,
            reason=command.reason,
            clocks=(review,),
        )
    ]


_ITS_OWN = frozenset(
    {ClockKind.SIGN, ClockKind.CHECK_IN, ClockKind.HANDLING, ClockKind.FOLLOW_UP, ClockKind.ORDER}
)
"""Clocks that the department keeps or misses; others that bear its name are about it, and somebody else's."""


def _was_late(state: CaseState, department: str) -> bool:
    own = [each for each in state.clocks if each.department == department and each.kind in _ITS_OWN]
    assignment = state.assignment(department)
    deemed = assignment is not None and assignment.sign_deemed_at is not None
    return deemed or any(each.ended_at is not None and each.is_red(each.ended_at) for each in own)


def decidable_appeal(state: CaseState, department: OrganisationCode) -> Appeal:
    """Return the department's open appeal."""
    found = next((each for each in state.appeals if each.is_open and each.department == department), None)
    if found is None:
        raise Refused("no_appeal", "该部门没有待复核的申诉。")
    return found


def decide_appeal(state: CaseState, command: DecideAppeal, terms: Terms) -> list[Event]:
    """One reviewer's word; upheld when as many as the policy says agree, turned down by the first that does not."""
    found = decidable_appeal(state, command.department)
    _require_other_reviewer(found, command.by.id)
    about_rating = found.about is AppealAbout.RATING
    if command.uphold and about_rating and command.grade is None:
        raise Invalid("grade_missing", "支持申诉时须写明更正后的评价等次(grade)。")
    if (not command.uphold or not about_rating) and command.grade is not None:
        raise Invalid("grade_without_upholding", "只有支持对评价的申诉时才填写更正后的评价等次(grade)。")
    for earlier in found.verdicts:
        if command.uphold and (earlier.grade, earlier.solved) != (command.grade, command.solved):
            raise Refused("reviewers_differ", "与前一位复核人认定的更正结果不一致;请先协商一致,或驳回申诉。")
    limit = terms.policy.limits.appeal
    reviewers = limit.reviewers if limit else 2
    upheld: bool | None = None
    if not command.uphold:
        upheld = False
    elif len(found.verdicts) + 1 >= reviewers:
        upheld = True
    return [
        AppealDecided(
            number=found.number,
            department=command.department,
            uphold=command.uphold,
            reason=command.reason,
            grade=command.grade,
            solved=command.solved,
            upheld=upheld,
        )
    ]


def _require_other_reviewer(found: Appeal, person: PersonId) -> None:
    if any(each.reviewer == person for each in found.verdicts):
        raise Forbidden("same_reviewer", "申诉须由不同的复核人分别作出结论。")

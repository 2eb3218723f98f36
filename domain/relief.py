"""What gives more time: extension, suspension, and newer terms (domain.md §4). All of it is kept, with who and why."""

from datetime import datetime
from typing import Literal

from domain import clocks
from domain.access import is_group
from domain.calendar import Limit, Unit
from domain.case import CaseState, Extension, OrganisationCode, Suspension
from domain.commands import AdoptTerms, DecideExtension, DecideSuspension, Extend, Resume, Suspend
from domain.district import Terms
from domain.errors import Invalid, Refused
from domain.events import (
    Event,
    ExtensionAsked,
    ExtensionDecided,
    Resumed,
    SuspensionAsked,
    SuspensionDecided,
    TermsAdopted,
)
from domain.policy import ClockKind, ExtensionLimit, SuspensionLimit
from domain.requirements import assigned, not_in_policy
from domain.words import STAGES

# --- extension ---------------------------------------------------------------------------------------------


def extendable(state: CaseState, department: OrganisationCode, at: datetime, terms: Terms) -> ExtensionLimit:
    """Return the rule for a department that may ask for more time; who is late may not."""
    rule = terms.policy.limits.extension
    if rule is None:
        raise not_in_policy("延期")
    if assigned(state, department).done_at is not None:
        raise Refused("already_done", "本部门已报告办理完成;如需继续办理,请由镇街退回重办。")
    if open_extension(state, department) is not None:
        raise Refused("extension_open", "本部门的延期申请正在审批。")
    clock = state.clock(ClockKind.HANDLING, department)
    if clock is None or clock.is_red(at):
        raise Refused("clock_is_red", "办理时限已过,不能再申请延期;超时记录保留。")
    granted = sum(1 for each in state.extensions if each.granted and each.department == department)
    if granted >= rule.most:
        raise Refused("extended_enough", f"最多延期 {rule.most} 次,不能再延。")
    return rule


def extend(state: CaseState, command: Extend, at: datetime, terms: Terms) -> list[Event]:
    """延期申请: before the deadline, as often as the policy says, each at most the original limit."""
    extendable(state, command.department, at, terms)
    original = terms.policy.limits.handling[state.limit_class]
    add = command.add or original
    _require_no_more_than(add, original)
    return [
        ExtensionAsked(
            number=len(state.extensions) + 1, department=command.department, reason=command.reason, add=add
        )
    ]


def _require_no_more_than(add: Limit, original: Limit) -> None:
    same = add.unit is original.unit
    length, most = (
        (add.days, original.days) if original.unit is Unit.WORKING_DAYS else (add.time, original.time)
    )
    if not same or not length or length > most:  # type: ignore[operator]  # both are of one kind
        raise Invalid("extension_too_long", f"每次延期不能超过原办理时限({original}),且单位须相同。")


def open_extension(state: CaseState, department: str) -> Extension | None:
    """Return the department's extension that waits, or None."""
    return next((each for each in state.extensions if each.is_open and each.department == department), None)


def decidable_extension(state: CaseState, department: OrganisationCode) -> Extension:
    """Return the department's extension that waits."""
    assigned(state, department)
    found = open_extension(state, department)
    if found is None:
        raise Refused("no_extension", "该部门没有待审批的延期申请。")
    return found


def decide_extension(state: CaseState, command: DecideExtension, terms: Terms) -> list[Event]:
    """The caller's township and the coordination group each decide once; both must approve."""
    found = decidable_extension(state, command.department)
    office: Literal["township", "group"] = "group" if is_group(command.by) else "township"
    other = found.township if office == "group" else found.group
    mine = found.group if office == "group" else found.township
    if mine is not None:
        raise Refused("already_decided", "贵方已对该延期申请作出决定,等待另一方。")
    if not command.approve and not command.reason:
        raise Invalid("reason_missing", "不同意延期须说明理由(reason)。")
    granted: bool | None = None
    if not command.approve:
        granted = False
    elif other:
        granted = True
    moved = clocks.moves_of_extension(state, command.department, found.add, terms) if granted else ()
    return [
        ExtensionDecided(
            number=found.number,
            department=command.department,
            office=office,
            approved=command.approve,
            reason=command.reason,
            granted=granted,
            moved=moved,
        )
    ]


# --- suspension --------------------------------------------------------------------------------------------


def suspendable(state: CaseState, department: OrganisationCode, terms: Terms) -> SuspensionLimit:
    """Return the rule, unless nobody is at work or somebody has asked already."""
    rule = terms.policy.limits.suspension
    if rule is None:
        raise not_in_policy("挂账")
    assigned(state, department)
    if all(each.done_at for each in state.assignments):
        raise Refused("already_done", "各承办部门均已报告办理完成,不能挂账。")
    if any(each.is_open for each in state.suspensions):
        raise Refused("suspension_open", "本案的挂账申请正在审批。")
    return rule


def suspend(state: CaseState, command: Suspend, at: datetime, terms: Terms) -> list[Event]:
    """挂账申请, with an end that lies ahead and not too far."""
    rule = suspendable(state, command.department, terms)
    if command.until <= at:
        raise Invalid("time_in_past", "挂账截止时间必须晚于当前时间。")
    if command.until > clocks.calendar_of(terms.calendar).due(at, rule.longest).at:
        raise Invalid("suspension_too_long", f"挂账最长{rule.longest}。")
    return [
        SuspensionAsked(
            number=len(state.suspensions) + 1,
            department=command.department,
            reason=command.reason,
            until=command.until,
        )
    ]


def decidable_suspension(state: CaseState) -> Suspension:
    """Return the suspension that waits for the coordination group."""
    found = next((each for each in state.suspensions if each.is_open), None)
    if found is None:
        raise Refused("no_suspension", "本案没有待审批的挂账申请。")
    return found


def decide_suspension(state: CaseState, command: DecideSuspension, at: datetime, terms: Terms) -> list[Event]:
    """Approved, all clocks stand still from now on until the end, or until somebody resumes."""
    found = decidable_suspension(state)
    if not command.approve:
        if not command.reason:
            raise Invalid("reason_missing", "不同意挂账须说明理由(reason)。")
        return [SuspensionDecided(number=found.number, approved=False, reason=command.reason)]
    if found.until <= at:
        raise Refused("suspension_over", "申请的挂账截止时间已过,请重新申请。")
    if all(each.done_at for each in state.assignments):
        raise Refused("already_done", "各承办部门均已报告办理完成,不能挂账。")
    ends = clocks.suspension_clock(state, found.number, found.until, at, terms)
    return [SuspensionDecided(number=found.number, approved=True, reason=command.reason, clocks=(ends,))]


def resumable(state: CaseState) -> Suspension:
    """Return the suspension by which the case stands still."""
    if state.suspension is None:
        raise Refused("not_suspended", "案件未挂账。")
    return state.suspension


def resume(state: CaseState, command: Resume, at: datetime, terms: Terms) -> list[Event]:
    """恢复 before the end."""
    found = resumable(state)
    moved = clocks.moves_after_pause(state, at, terms)
    return [Resumed(number=found.number, by_date=False, reason=command.reason, moved=moved)]


# --- newer terms -------------------------------------------------------------------------------------------


def adopt_terms(state: CaseState, command: AdoptTerms, at: datetime, terms: Terms) -> list[Event]:
    """Let a newer calendar or policy hold for a case in which a clock runs, and say which clocks that moves."""
    if state.is_settled:
        raise Refused("case_over", f"案件{STAGES[state.stage]},不能再办理。")
    adopted = terms.adopting(command.terms, command.scope)
    if adopted == terms:
        raise Refused("nothing_new", "案件已适用该版本。")
    moved = clocks.moves_of_terms(state, at, adopted)
    return [TermsAdopted(scope=command.scope, reason=command.reason, terms=adopted, moved=moved)]

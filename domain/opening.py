"""How a case opens: the call, its release or admission, and how it may end before anybody has worked on it."""

from datetime import datetime

from domain import clocks
from domain.case import Actor, CallDetails, CaseState, Direction, LinkKind, Role, Stage
from domain.commands import Cancel, LinkCase, Refuse, Release
from domain.district import OrganisationKind, Terms
from domain.errors import Invalid, Refused
from domain.events import (
    Admitted,
    Called,
    CallRefused,
    Cancelled,
    Event,
    Linked,
    Released,
    UrgencyReviewed,
)
from domain.policy import ClockKind, Urgency
from domain.requirements import is_kind, not_in_policy, require_department
from domain.words import STAGES, local

_WAITING = frozenset({Stage.AWAITING_RELEASE, Stage.AWAITING_ADMISSION, Stage.CALLED})


def open_case(
    call: CallDetails, at: datetime, terms: Terms, *, caller: Actor | None = None, catalogue_version: str = ""
) -> Called:
    """Return the event that opens a case.

    A routine call waits for the township's approver, unless the approver calls; an urgent one goes at once and is
    reviewed after (domain.md §5). What grid workers and citizens report waits in any case: the township handles it or
    blows the whistle. A downward call that the list does not cover waits for the coordination group (domain.md §3.3).

    Args:
        caller: who calls, as the door authenticated them; None counts as the approver.

    Raises:
        Invalid: `unknown_township`, `unknown_department`, `department_twice`, or `time_in_past` for a requested
            check-in not after `at`.
    """
    if not is_kind(terms, call.township, OrganisationKind.TOWNSHIP):
        raise Invalid("unknown_township", f"镇街“{call.township}”不存在,请从组织机构中选择。")
    for department in call.departments:
        require_department(terms, department)
    if len(set(call.departments)) != len(call.departments):
        raise Invalid("department_twice", "同一部门不能重复列出。")
    if call.requested_check_in_at is not None and call.requested_check_in_at <= at:
        raise Invalid("time_in_past", "要求报到时间必须晚于当前时间。")
    if call.direction is Direction.DOWN:
        _require_down(call, terms)
    awaits, first = _first_step(call, caller, terms)
    started = [clocks.opening_clock(first, call.urgency, at, terms)]
    if awaits is None and _is_reviewed(call, caller, terms):
        started.append(clocks.opening_clock(ClockKind.REVIEW, call.urgency, at, terms))
    return Called(
        call=call,
        policy_version=terms.policy.version,
        calendar_version=terms.calendar.version,
        catalogue_version=catalogue_version,
        awaits=awaits,
        clocks=tuple(started),
    )


def require_check_in_soon(call: CallDetails, at: datetime, terms: Terms) -> None:
    """Say nothing if the check-in is asked for as soon after `at` as the policy says (`asked_within`), or not at all.

    Asked at the door only: calls that were taken before there was this bound stay as they were decided.

    Raises:
        Invalid: `check_in_too_late`.
    """
    asked, within = call.requested_check_in_at, terms.policy.limits.check_in.asked_within
    if asked is None:
        return
    last = clocks.calendar_of(terms.calendar).due(at, within).at
    if asked > last:
        raise Invalid(
            "check_in_too_late",
            f"要求报到时间最迟为吹哨后{within}({local(last)} 之前);更晚的事项请到时再吹哨,或受理后申请挂账。",
        )


def _require_down(call: CallDetails, terms: Terms) -> None:
    if terms.policy.limits.admission is None:
        raise not_in_policy("交办事项准入")
    if call.caller_office is None:
        raise Invalid("caller_office_missing", "部门向镇街交办事项须写明交办部门(caller_office)。")
    if not is_kind(terms, call.caller_office, OrganisationKind.DEPARTMENT):
        raise Invalid("unknown_department", f"只有部门可以向镇街交办事项,“{call.caller_office}”不是部门。")


def is_listed(call: CallDetails) -> bool:
    """Whether the list lets this department ask this of a township: the item names a duty of the township, and
    another department than the one that asks as primary (seed: 交办事项准入).
    """
    listed = call.responsibility
    return listed is not None and bool(listed.township_duty) and listed.lead != call.caller_office


def _first_step(call: CallDetails, caller: Actor | None, terms: Terms) -> tuple[Stage | None, ClockKind]:
    if call.direction is Direction.DOWN:
        if is_listed(call):
            return None, ClockKind.DISPATCH
        return Stage.AWAITING_ADMISSION, ClockKind.ADMISSION
    reported = caller is not None and not _of_the_township(caller, call)
    waits = reported or (call.urgency is Urgency.ROUTINE and not _approves(caller, call))
    if terms.policy.limits.release is None or not waits:
        return None, ClockKind.DISPATCH
    return Stage.AWAITING_RELEASE, ClockKind.RELEASE


def _of_the_township(caller: Actor, call: CallDetails) -> bool:
    """Officers of the township and the platforms that speak for it; grid workers and citizens only report to it."""
    speaks = {Role.TOWNSHIP_OFFICER, Role.TOWNSHIP_APPROVER}
    return any(
        (post.role in speaks and post.organisation == call.township) or post.role is Role.INTEGRATION
        for post in caller.posts
    )


def _approves(caller: Actor | None, call: CallDetails) -> bool:
    return caller is None or any(
        post.role is Role.TOWNSHIP_APPROVER and post.organisation == call.township for post in caller.posts
    )


def _is_reviewed(call: CallDetails, caller: Actor | None, terms: Terms) -> bool:
    return (
        call.direction is Direction.UP
        and call.urgency is Urgency.URGENT
        and terms.policy.limits.review is not None
        and not _approves(caller, call)
    )


# --- release, admission, review ----------------------------------------------------------------------------


def releasable(state: CaseState) -> None:
    """Raise unless the call waits for somebody's word."""
    waits = state.stage in {Stage.AWAITING_RELEASE, Stage.AWAITING_ADMISSION}
    if not waits and state.clock(ClockKind.REVIEW) is None:
        raise Refused("nothing_to_release", f"案件当前为“{STAGES[state.stage]}”,没有待放行或待复核的呼叫。")


def release(state: CaseState, command: Release, at: datetime, terms: Terms) -> list[Event]:
    """Let the call go to the dispatcher, or review an urgent one that went already."""
    releasable(state)
    dispatch = clocks.opening_clock(ClockKind.DISPATCH, state.call.urgency, at, terms)
    match state.stage:
        case Stage.AWAITING_RELEASE:
            return [Released(note=command.note, clocks=(dispatch,))]
        case Stage.AWAITING_ADMISSION:
            return [Admitted(note=command.note, clocks=(dispatch,))]
        case _:
            if not command.justified and not command.note:
                raise Invalid("reason_missing", "认定为不属紧急情形时须说明理由(note)。")
            return [UrgencyReviewed(justified=command.justified, note=command.note)]


def refusable(state: CaseState) -> None:
    """Raise unless the call has not been dispatched."""
    if state.stage not in _WAITING:
        raise Refused(
            "wrong_stage",
            f"案件当前为“{STAGES[state.stage]}”,此操作只能在“{STAGES[Stage.CALLED]}”或更早时进行。",
        )


def refuse(state: CaseState, command: Refuse) -> list[Event]:
    """Send the call back."""
    refusable(state)
    return [CallRefused(reason=command.reason, self_handled=command.self_handled)]


def cancellable(state: CaseState) -> None:
    """Raise unless nobody has enforced anything yet."""
    if state.actions or state.stage is Stage.AWAITING_RATING:
        raise Refused("work_has_begun", "部门已开展执法,不能撤销;请在办理完成后评价。")


def cancel(state: CaseState, command: Cancel) -> list[Event]:
    """Withdraw the call."""
    cancellable(state)
    return [Cancelled(reason=command.reason)]


def link(state: CaseState, command: LinkCase) -> list[Event]:
    """Say which other case belongs to this one; a duplicate ends here and the other goes on.

    Only the later is merged into the earlier, so that two cases can never each be merged into the other.
    """
    if command.other == state.case_id:
        raise Invalid("link_to_itself", "案件不能与自身关联。")
    if any(each.other == command.other and each.kind is command.kind for each in state.links):
        raise Refused("already_linked", "两案已经关联。")
    if command.kind is LinkKind.DUPLICATE:
        cancellable(state)
        called_at = command.other_called_at  # unknown only in histories from before doors told it
        if called_at is not None and (called_at, command.other) > (state.called_at, state.case_id):
            raise Invalid("merge_into_earlier", "只能把后来的案件并入先前的案件;请在后来的案件上办理并案。")
    return [Linked(other=command.other, link=command.kind, note=command.note)]

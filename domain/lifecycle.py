"""The mechanism: what may happen to a case (`decide`), and what it is then (`evolve`).

Both are pure. `decide` raises and changes nothing, or returns the events to record; `evolve` folds one entry.
The workflow, the ledger's projection, the auditor and the tests all use these two and nothing else.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from domain import access, clocks
from domain.calendar import SHANGHAI, Moment
from domain.case import (
    Action,
    ActionKind,
    Actor,
    Assignment,
    CallDetails,
    CaseState,
    CheckIn,
    Clock,
    Closure,
    OrganisationCode,
    Rating,
    Stage,
)
from domain.commands import (
    Act,
    AnyCommand,
    Cancel,
    ConfirmCheckIn,
    Dispatch,
    DisputeCheckIn,
    Plan,
    Rate,
    Refuse,
    ReportDone,
    Rework,
    Sign,
    TakeAction,
)
from domain.commands import CheckIn as CheckInCommand
from domain.district import OrganisationKind, Terms
from domain.errors import DomainError, Invalid, Refused
from domain.events import (
    ActionTaken,
    Called,
    CallRefused,
    Cancelled,
    CheckedIn,
    CheckInConfirmed,
    CheckInDisputed,
    Closed,
    Dispatched,
    DoneReported,
    Entry,
    Escalated,
    Event,
    PlanAgreed,
    Rated,
    ReworkOrdered,
    SignDeemed,
    Signed,
)
from domain.policy import ClockKind
from domain.words import STAGES

# --- opening -----------------------------------------------------------------------------------------------


def open_case(call: CallDetails, at: datetime, terms: Terms, *, catalogue_version: str = "") -> Called:
    """Return the event that opens a case.

    Raises:
        Invalid: `unknown_township`, `unknown_department`, or `time_in_past` for a requested check-in not after `at`.
    """
    if not _is_kind(terms, call.township, OrganisationKind.TOWNSHIP):
        raise Invalid("unknown_township", f"镇街“{call.township}”不存在,请从组织机构中选择。")
    for department in call.departments:
        _require_department(terms, department)
    if call.requested_check_in_at is not None and call.requested_check_in_at <= at:
        raise Invalid("time_in_past", "要求报到时间必须晚于当前时间。")
    return Called(
        call=call,
        policy_version=terms.policy.version,
        calendar_version=terms.calendar.version,
        catalogue_version=catalogue_version,
        clocks=(clocks.dispatch_clock(call.urgency, at, terms),),
    )


# --- deciding ----------------------------------------------------------------------------------------------


def decide(state: CaseState, command: AnyCommand, at: datetime, terms: Terms) -> list[Event]:
    """Return the events that the act causes now.

    What the clocks had to do before `at` must have been applied already: see `overdue`.

    Raises:
        Forbidden: the person may not.
        Refused: the case is not in a state for it.
        Invalid: the act names something that does not exist, or a time that cannot be.
    """
    access.permit(command.by, command.act, state, getattr(command, "department", None))
    if state.is_over:
        raise Refused("case_over", f"案件{STAGES[state.stage]},不能再办理。")
    match command:
        case Dispatch():
            return _dispatch(state, command, at, terms)
        case Refuse():
            _require_stage(state, Stage.CALLED)
            return [CallRefused(reason=command.reason)]
        case Cancel():
            return _cancel(state, command)
        case Sign():
            return _sign(state, command, at)
        case CheckInCommand():
            return _check_in(state, command, at, terms)
        case ConfirmCheckIn():
            _unconfirmed(state, command.department)
            return [CheckInConfirmed(department=command.department, by_silence=False)]
        case DisputeCheckIn():
            _disputable(state, command.department)
            return [CheckInDisputed(department=command.department, reason=command.reason)]
        case Plan():
            return _plan(state, command)
        case TakeAction():
            return _take_action(state, command, at)
        case ReportDone():
            return _report_done(state, command, at, terms)
        case Rate():
            return _rate(state, command, at, terms)
        case Rework():
            return _rework(state, command, at, terms)
        case _:
            assert_never(command)


def overdue(state: CaseState, at: datetime, terms: Terms) -> list[Event]:
    """Return everything that the clocks had to do before `at`, in the order in which it fell due.

    Each is decided on the state that the one before left: a deemed sign-for may open what a rung then finds.
    """
    events: list[Event] = []
    while (event := clocks.first_overdue(state, at, terms)) is not None:
        events.append(event)
        state = _evolve(state, event, at)
    return events


def allowed_acts(state: CaseState, actor: Actor) -> list[tuple[Act, str | None]]:
    """Return the acts that this person may do now, each with the department that it concerns, if any."""
    departments: tuple[str | None, ...] = (None, *state.departments())
    return [
        (act, department)
        for act in Act
        for department in departments
        if (department is not None) == (act in _ABOUT_A_DEPARTMENT) and _allows(state, actor, act, department)
    ]


_ABOUT_A_DEPARTMENT = frozenset(Act) - {Act.DISPATCH, Act.REFUSE, Act.CANCEL}


def _allows(state: CaseState, actor: Actor, act: Act, department: str | None) -> bool:
    try:
        access.permit(actor, act, state, department)
        _require_ready(state, act, OrganisationCode(department or ""))
    except DomainError:
        return False
    return True


def _require_ready(state: CaseState, act: Act, department: OrganisationCode) -> None:
    """Raise unless the state admits the act, whatever its body says."""
    if state.is_over:
        raise Refused("case_over", f"案件{STAGES[state.stage]},不能再办理。")
    match act:
        case Act.DISPATCH | Act.REFUSE:
            _require_stage(state, Stage.CALLED)
        case Act.CANCEL:
            _cancellable(state)
        case Act.SIGN:
            _signable(state, department)
        case Act.CHECK_IN:
            _can_check_in(state, department)
        case Act.CONFIRM_CHECK_IN:
            _unconfirmed(state, department)
        case Act.DISPUTE_CHECK_IN:
            _disputable(state, department)
        case Act.PLAN:
            _can_plan(state, department)
        case Act.ACTION:
            _at_work(state, department)
        case Act.DONE:
            _can_finish(state, department)
        case Act.RATE:
            _ratable(state, department)
        case Act.REWORK:
            _can_rework(state, department)
        case _:
            assert_never(act)


def _dispatch(state: CaseState, command: Dispatch, at: datetime, terms: Terms) -> list[Event]:
    _require_stage(state, Stage.CALLED)
    everyone = (command.lead, *command.cooperating)
    for department in everyone:
        _require_department(terms, department)
    if len(set(everyone)) != len(everyone):
        raise Invalid("department_twice", "同一部门不能重复派单,牵头单位也不能同时为配合单位。")
    limit_class = command.limit_class or state.limit_class
    started = [
        clock
        for department in everyone
        for clock in clocks.department_clocks(state, department, limit_class, at, terms)
    ]
    return [
        Dispatched(
            lead=command.lead,
            cooperating=command.cooperating,
            limit_class=limit_class,
            note=command.note,
            clocks=(*started, clocks.case_clock(state, limit_class, at, terms)),
        )
    ]


def _cancellable(state: CaseState) -> None:
    if state.actions or state.stage is Stage.AWAITING_RATING:
        raise Refused("work_has_begun", "部门已开展执法,不能撤销;请在办理完成后评价。")


def _cancel(state: CaseState, command: Cancel) -> list[Event]:
    _cancellable(state)
    return [Cancelled(reason=command.reason)]


def _signable(state: CaseState, department: OrganisationCode) -> Assignment:
    assignment = _assigned(state, department)
    if assignment.signed_at is not None:
        raise Refused("already_signed", "本部门已签收,无需重复签收。")
    if assignment.check_in is not None:
        raise Refused("already_checked_in", "本部门已报到,无需再签收。")
    return assignment


def _sign(state: CaseState, command: Sign, at: datetime) -> list[Event]:
    _signable(state, command.department)
    clock = state.clock(ClockKind.SIGN, command.department)
    return [Signed(department=command.department, late=clock is not None and clock.is_red(at))]


def _can_check_in(state: CaseState, department: OrganisationCode) -> Assignment:
    assignment = _assigned(state, department)
    if not assignment.signed:
        raise Refused("not_signed", "请先签收,再登记报到。")
    if assignment.check_in is not None and assignment.check_in.stands:
        raise Refused("already_checked_in", "本部门已登记报到,无需重复登记。")
    return assignment


def _check_in(state: CaseState, command: CheckInCommand, at: datetime, terms: Terms) -> list[Event]:
    assignment = _can_check_in(state, command.department)
    arrived_at = command.arrived_at or at
    if arrived_at > at:
        raise Invalid("time_in_future", "到达时间不能晚于当前时间。")
    if arrived_at < assignment.dispatched_at:
        raise Invalid("time_before_dispatch", "到达时间不能早于派单时间。")
    number = clocks.rounds(state, ClockKind.CONFIRM, command.department) + 1
    return [
        CheckedIn(
            department=command.department,
            officers=command.officers,
            arrived_at=arrived_at,
            note=command.note,
            clocks=(clocks.confirm_clock(command.department, number, at, terms),),
        )
    ]


def _unconfirmed(state: CaseState, department: OrganisationCode) -> CheckIn:
    check_in = _assigned(state, department).check_in
    if check_in is None or not check_in.stands:
        raise Refused("not_checked_in", "该部门尚未登记报到。")
    if check_in.counts:
        raise Refused("already_confirmed", "该部门的报到已确认。")
    return check_in


def _disputable(state: CaseState, department: OrganisationCode) -> None:
    _unconfirmed(state, department)
    if _assigned(state, department).rating is not None:
        raise Refused("already_rated", "该部门已评价,评价提交后不可修改。")


def _can_plan(state: CaseState, department: OrganisationCode) -> None:
    assignment = _at_work(state, department)
    if not assignment.lead:
        raise Refused("not_the_lead", "处置方案由牵头单位登记。")


def _plan(state: CaseState, command: Plan) -> list[Event]:
    _can_plan(state, command.department)
    return [PlanAgreed(department=command.department, text=command.text)]


def _at_work(state: CaseState, department: OrganisationCode) -> Assignment:
    assignment = _assigned(state, department)
    if assignment.done_at is not None:
        raise Refused("already_done", "本部门已报告办理完成;如需继续办理,请由镇街退回重办。")
    if assignment.check_in is None or not assignment.check_in.stands:
        raise Refused("not_checked_in", "请先到镇街报到,再登记办理情况。")
    return assignment


def _take_action(state: CaseState, command: TakeAction, at: datetime) -> list[Event]:
    _at_work(state, command.department)
    if command.follow_up_on is not None and command.follow_up_on < at.astimezone(SHANGHAI).date():
        raise Invalid("time_in_past", "整改期限不能早于今天。")
    if command.kind is ActionKind.DEMOLITION_NOTICE and command.follow_up_on is None:
        raise Invalid("follow_up_missing", "限期拆除通知须写明整改期限(follow_up_on)。")
    return [
        ActionTaken(
            action=Action(
                kind=command.kind,
                department=command.department,
                description=command.description,
                result=command.result,
                attachments=command.attachments,
                follow_up_on=command.follow_up_on,
                at=at,
            )
        )
    ]


def _can_finish(state: CaseState, department: OrganisationCode) -> Assignment:
    assignment = _at_work(state, department)
    if not assignment.acted_in_round:
        raise Refused("no_action", "请先登记本部门采取的措施及结果,再报告办理完成。")
    return assignment


def _report_done(state: CaseState, command: ReportDone, at: datetime, terms: Terms) -> list[Event]:
    _can_finish(state, command.department)
    others_done = all(each.done_at for each in state.assignments if each.department != command.department)
    started: tuple[Clock, ...] = ()
    if others_done:
        started = (clocks.rating_clock(clocks.rounds(state, ClockKind.RATING) + 1, at, terms),)
    return [
        DoneReported(
            department=command.department,
            result=command.result,
            attachments=command.attachments,
            clocks=started,
        )
    ]


def _ratable(state: CaseState, department: OrganisationCode) -> Assignment:
    assignment = _assigned(state, department)
    if assignment.rating is not None:
        raise Refused("already_rated", "该部门已评价,评价提交后不可修改。")
    if state.stage is not Stage.AWAITING_RATING:
        raise Refused("not_all_done", "所有承办部门报告办理完成后才能评价。")
    return assignment


def _rate(state: CaseState, command: Rate, at: datetime, terms: Terms) -> list[Event]:
    assignment = _ratable(state, command.department)
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


def _can_rework(state: CaseState, department: OrganisationCode) -> Assignment:
    assignment = _assigned(state, department)
    if assignment.done_at is None:
        raise Refused("not_done", "该部门尚未报告办理完成,无需退回重办。")
    if assignment.rating is not None:
        raise Refused("already_rated", "该部门已评价,评价提交后不可修改。")
    return assignment


def _rework(state: CaseState, command: Rework, at: datetime, terms: Terms) -> list[Event]:
    assignment = _can_rework(state, command.department)
    return [_reworked(state, assignment, command.reason, at, terms)]


def _reworked(
    state: CaseState, assignment: Assignment, reason: str, at: datetime, terms: Terms
) -> ReworkOrdered:
    number = assignment.round + 1
    return ReworkOrdered(
        department=assignment.department,
        reason=reason,
        round=number,
        clocks=(clocks.rework_clock(state, assignment.department, number, at, terms),),
    )


def _assigned(state: CaseState, department: OrganisationCode) -> Assignment:
    if not state.assignments:
        raise Refused("not_dispatched", "案件尚未派单。")
    assignment = state.assignment(department)
    if assignment is None:
        raise Refused("not_assigned", f"部门“{department}”不是本案的承办部门。")
    return assignment


def _require_stage(state: CaseState, stage: Stage) -> None:
    if state.stage is not stage:
        raise Refused(
            "wrong_stage", f"案件当前为“{STAGES[state.stage]}”,此操作只能在“{STAGES[stage]}”时进行。"
        )


def _is_kind(terms: Terms, code: str, kind: OrganisationKind) -> bool:
    return any(each.code == code and each.kind is kind for each in terms.organisations)


def _require_department(terms: Terms, code: str) -> None:
    if not _is_kind(terms, code, OrganisationKind.DEPARTMENT):
        raise Invalid("unknown_department", f"部门“{code}”不存在,请从组织机构中选择。")


# --- folding -----------------------------------------------------------------------------------------------


def evolve(state: CaseState | None, entry: Entry) -> CaseState:
    """Return the state after the entry; the first entry of a case must be its call."""
    if state is not None:
        return _evolve(state, entry.event, entry.at).model_copy(update={"sequence": entry.sequence})
    if not isinstance(entry.event, Called) or entry.by is None:
        raise Invalid("not_a_call", "案件的第一条记录必须是呼叫。")
    return CaseState(
        case_id=entry.case_id,
        call=entry.event.call,
        caller=entry.by,
        policy_version=entry.event.policy_version,
        calendar_version=entry.event.calendar_version,
        called_at=entry.at,
        acted_at=entry.at,
        sequence=entry.sequence,
        limit_class=entry.event.call.limit_class,
        clocks=entry.event.clocks,
    )


def fold(entries: Iterable[Entry]) -> CaseState:
    """Return the state that the entries make, from the first.

    Raises:
        Invalid: `not_a_call` when there is none, or the first is not a call.
    """
    state: CaseState | None = None
    for entry in entries:
        state = evolve(state, entry)
    if state is None:
        raise Invalid("not_a_call", "案件没有任何记录。")
    return state


def _evolve(state: CaseState, event: Event, at: datetime) -> CaseState:
    state = state.model_copy(update={"acted_at": at, "clocks": (*state.clocks, *event.clocks)})
    match event:
        case Called():
            raise Invalid("called_twice", "案件不能重复呼叫。")
        case CallRefused():
            return _over(state, Stage.REFUSED, at, event.reason)
        case Cancelled():
            return _over(state, Stage.CANCELLED, at, event.reason)
        case Closed():
            return _over(state, Stage.CLOSED, at, "", event.unrated)
        case Dispatched():
            return _dispatched(state, event, at)
        case Signed():
            state = _stop(state, at, ClockKind.SIGN, event.department)
            return _assign(state, event.department, signed_at=at)
        case SignDeemed():
            return _assign(state, event.department, sign_deemed_at=event.due_at)
        case CheckedIn():
            return _checked_in(state, event, at)
        case CheckInConfirmed():
            return _confirmed(state, event, at)
        case CheckInDisputed():
            return _disputed(state, event, at)
        case PlanAgreed():
            return state.model_copy(update={"plan": event.text})
        case ActionTaken():
            state = state.model_copy(update={"actions": (*state.actions, event.action)})
            return _assign(state, event.action.department, acted_in_round=True)
        case DoneReported():
            return _done(state, event, at)
        case Rated():
            return _rated(state, event, at)
        case ReworkOrdered():
            return _rework_ordered(state, event, at)
        case Escalated():
            return _escalated(state, event)
        case _:
            assert_never(event)


def _over(
    state: CaseState, stage: Stage, at: Moment, reason: str, unrated: tuple[OrganisationCode, ...] = ()
) -> CaseState:
    stopped = tuple(
        clock.model_copy(update={"ended_at": at}) if clock.runs else clock for clock in state.clocks
    )
    closure = Closure(stage=stage, at=at, reason=reason, unrated=unrated)
    return state.model_copy(update={"closure": closure, "clocks": stopped})


def _dispatched(state: CaseState, event: Dispatched, at: datetime) -> CaseState:
    assignments = tuple(
        Assignment(department=department, lead=department == event.lead, dispatched_at=at)
        for department in (event.lead, *event.cooperating)
    )
    state = _stop(state, at, ClockKind.DISPATCH)
    return state.model_copy(update={"assignments": assignments, "limit_class": event.limit_class})


def _checked_in(state: CaseState, event: CheckedIn, at: datetime) -> CaseState:
    state = _stop(state, at, ClockKind.SIGN, event.department)
    state = _stop(state, event.arrived_at, ClockKind.CHECK_IN, event.department)
    check_in = CheckIn(officers=event.officers, arrived_at=event.arrived_at, reported_at=at)
    return _assign(state, event.department, check_in=check_in)


def _confirmed(state: CaseState, event: CheckInConfirmed, at: datetime) -> CaseState:
    update = {"confirmed_at": at, "by_silence": event.by_silence}
    state = _stop(state, at, ClockKind.CONFIRM, event.department)
    return _update_check_in(state, event.department, update)


def _disputed(state: CaseState, event: CheckInDisputed, at: datetime) -> CaseState:
    state = _stop(state, at, ClockKind.CONFIRM, event.department)
    state = _restart(state, ClockKind.CHECK_IN, event.department)
    assignment = state.assignment(event.department)
    if assignment is not None and assignment.done_at is not None:  # what was done without coming is not done
        state = _stop(state, at, ClockKind.RATING)
        state = _restart(state, ClockKind.HANDLING, event.department)
        state = _restart(state, ClockKind.CASE)
        state = _assign(state, event.department, done_at=None, result=None)
    return _update_check_in(state, event.department, {"disputed": event.reason})


def _done(state: CaseState, event: DoneReported, at: datetime) -> CaseState:
    state = _stop(state, at, ClockKind.HANDLING, event.department)
    state = _assign(state, event.department, done_at=at, result=event.result)
    return _stop(state, at, ClockKind.CASE) if state.stage is Stage.AWAITING_RATING else state


def _rated(state: CaseState, event: Rated, at: datetime) -> CaseState:
    assignment = state.assignment(event.department)
    rating = Rating(
        grade=event.grade,
        solved=event.solved,
        response=event.response,
        action=event.action,
        result=event.result,
        comment=event.comment,
        at=at,
        round=assignment.round if assignment else 1,
    )
    return _assign(state, event.department, rating=rating)


def _rework_ordered(state: CaseState, event: ReworkOrdered, at: datetime) -> CaseState:
    assignment = state.assignment(event.department)
    past = assignment.past_ratings if assignment else ()
    if assignment and assignment.rating:
        past = (*past, assignment.rating)
    state = _stop(state, at, ClockKind.RATING)
    state = _restart(state, ClockKind.CASE)
    return _assign(
        state,
        event.department,
        rating=None,
        past_ratings=past,
        done_at=None,
        result=None,
        acted_in_round=False,
        round=event.round,
    )


def _escalated(state: CaseState, event: Escalated) -> CaseState:
    key = (event.clock, event.department or "", event.round)
    climbed = tuple(
        clock.model_copy(update={"fired": (*clock.fired, event.level)}) if clock.key == key else clock
        for clock in state.clocks
    )
    return state.model_copy(update={"clocks": climbed})


def _assign(state: CaseState, department: str, **update: object) -> CaseState:
    changed = tuple(
        each.model_copy(update=update) if each.department == department else each
        for each in state.assignments
    )
    return state.model_copy(update={"assignments": changed})


def _update_check_in(state: CaseState, department: str, update: dict[str, object]) -> CaseState:
    assignment = state.assignment(department)
    if assignment is None or assignment.check_in is None:
        return state
    return _assign(state, department, check_in=assignment.check_in.model_copy(update=update))


def _stop(state: CaseState, at: datetime, kind: ClockKind, department: str | None = None) -> CaseState:
    changed = tuple(
        clock.model_copy(update={"ended_at": at})
        if clock.runs and clock.kind is kind and clock.department == department
        else clock
        for clock in state.clocks
    )
    return state.model_copy(update={"clocks": changed})


def _restart(state: CaseState, kind: ClockKind, department: str | None = None) -> CaseState:
    """Let the latest clock of this kind run on as if it had never stopped: its limit is unchanged."""
    latest = max(
        (clock.round for clock in state.clocks if clock.kind is kind and clock.department == department),
        default=0,
    )
    changed = tuple(
        clock.model_copy(update={"ended_at": None})
        if (clock.kind, clock.department, clock.round) == (kind, department, latest)
        else clock
        for clock in state.clocks
    )
    return state.model_copy(update={"clocks": changed})

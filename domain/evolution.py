"""What a case is once something has happened: `evolve` folds one entry into the state. Asks nobody, decides nothing."""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from domain.calendar import Moment
from domain.case import (
    Appeal,
    AppealAbout,
    Assignment,
    CaseState,
    CheckIn,
    Closure,
    Extension,
    FollowUp,
    Former,
    Instruction,
    LeavingBy,
    Lengthening,
    Link,
    LinkKind,
    Objection,
    OrganisationCode,
    Pause,
    PersonId,
    Rating,
    Stage,
    SupervisionOrder,
    Suspension,
    Value,
    Verdict,
)
from domain.errors import Invalid
from domain.events import (
    ActionTaken,
    Adjudicated,
    Admitted,
    AppealDecided,
    Appealed,
    Called,
    CallRefused,
    Cancelled,
    CheckedIn,
    CheckInConfirmed,
    CheckInDisputed,
    ClockMove,
    Closed,
    Dispatched,
    DoneReported,
    Entry,
    Escalated,
    Event,
    ExtensionAsked,
    ExtensionDecided,
    Instructed,
    Linked,
    Objected,
    ObjectionReferred,
    OrderAnswered,
    PlanAgreed,
    Rated,
    Released,
    Reopened,
    Resumed,
    ReworkOrdered,
    SignDeemed,
    Signed,
    SuspensionAsked,
    SuspensionDecided,
    TermsAdopted,
    Transferred,
    UrgencyReviewed,
    Watched,
)
from domain.policy import ClockKind


def evolve(state: CaseState | None, entry: Entry) -> CaseState:
    """Return the state after the entry; the first entry of a case must be its call."""
    if state is not None:
        by = entry.by
        happened = evolved(state, entry.event, entry.at, by.name if by else "", by.id if by else "")
        return happened.model_copy(update={"sequence": entry.sequence})
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
        awaits=entry.event.awaits,
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


def evolved(state: CaseState, event: Event, at: datetime, name: str = "", person: str = "") -> CaseState:
    """Return the state after the event.

    Args:
        at: when it was decided.
        name, person: who acted; empty for the clock.
    """
    state = state.model_copy(update={"acted_at": at, "clocks": (*state.clocks, *event.clocks)})
    match event:
        case Called():
            raise Invalid("called_twice", "案件不能重复呼叫。")
        case Released() | Admitted():
            state = _stop(state, at, ClockKind.RELEASE)
            return _stop(state, at, ClockKind.ADMISSION).model_copy(update={"awaits": None})
        case UrgencyReviewed():
            state = _stop(state, at, ClockKind.REVIEW)
            return state.model_copy(update={"urgency_justified": event.justified})
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
            return _action_taken(state, event, at)
        case DoneReported():
            return _done(state, event, at)
        case Rated():
            return _rated(state, event, at)
        case ReworkOrdered():
            return _rework_ordered(state, event, at)
        case Escalated():
            return _escalated(state, event)
        case Objected():
            return _objected(state, event, at)
        case ObjectionReferred():
            state = _stop(state, at, ClockKind.OBJECTION, event.department)
            return _with(state, "objections", event.number, before_group=True)
        case Adjudicated():
            return _adjudicated(state, event, at)
        case Transferred():
            left = LeavingBy.TRANSFER
            return _replaced(
                state,
                event.department,
                event.to,
                at,
                left,
                event.reason,
                leads=event.leads,
                resident=event.resident,
            )
        case ExtensionAsked():
            asked = Extension(
                number=event.number,
                department=event.department,
                reason=event.reason,
                add=event.add,
                asked_at=at,
            )
            return state.model_copy(update={"extensions": (*state.extensions, asked)})
        case ExtensionDecided():
            return _extension_decided(state, event, at)
        case SuspensionAsked():
            pause = Suspension(
                number=event.number,
                department=event.department,
                reason=event.reason,
                until=event.until,
                asked_at=at,
            )
            return state.model_copy(update={"suspensions": (*state.suspensions, pause)})
        case SuspensionDecided():
            return _suspension_decided(state, event, at, name)
        case Resumed():
            return _resumed(state, event, at)
        case Linked():
            return _linked(state, event, at)
        case Watched():
            others = tuple(each for each in state.watchers if each != person)
            watchers = (*others, PersonId(person)) if event.watching else others
            return state.model_copy(update={"watchers": watchers})
        case Instructed():
            return _instructed(state, event, at, name)
        case OrderAnswered():
            state = _stop_one(state, at, ClockKind.ORDER, event.department, _order_round(state, event))
            return _with(state, "orders", event.number, answered_at=at, answer=event.text)
        case Reopened():
            return _reopened(state, event, at)
        case Appealed():
            about = state.assignment(event.department)
            appeal = Appeal(
                round=about.round if about else 1,
                number=event.number,
                department=event.department,
                about=event.about,
                reason=event.reason,
                appealed_at=at,
            )
            return state.model_copy(update={"appeals": (*state.appeals, appeal)})
        case AppealDecided():
            return _appeal_decided(state, event, at, name, person)
        case TermsAdopted():
            versions = {
                "policy_version": event.terms.policy.version,
                "calendar_version": event.terms.calendar.version,
            }
            return _moved(state, event.moved).model_copy(update=versions)
        case _:
            assert_never(event)


def _over(
    state: CaseState, stage: Stage, at: Moment, reason: str, unrated: tuple[OrganisationCode, ...] = ()
) -> CaseState:
    stopped = tuple(
        clock.model_copy(update={"ended_at": at})
        if clock.runs and not (stage is Stage.CLOSED and clock.kind is ClockKind.FOLLOW_UP)
        else clock
        for clock in state.clocks
    )
    closure = Closure(stage=stage, at=at, reason=reason, unrated=unrated)
    return state.model_copy(update={"closure": closure, "clocks": stopped})


def _dispatched(state: CaseState, event: Dispatched, at: datetime) -> CaseState:
    assignments = tuple(
        Assignment(
            department=department,
            lead=department == event.lead,
            dispatched_at=at,
            resident=department in event.resident,
        )
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
    state = _drop_extension(state, event.department, at)
    shown = tuple(each.evidence for each in event.attachments if each.evidence)
    state = _assign(state, event.department, done_at=at, result=event.result, evidence=shown)
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
    state = _stop(state, at, ClockKind.RATING)
    state = _restart(state, ClockKind.CASE)
    return _begin_again(state, event.department)


def _begin_again(state: CaseState, department: OrganisationCode) -> CaseState:
    """The department's work is not done any more; what it was rated for the work before is kept."""
    assignment = state.assignment(department)
    if assignment is None:
        return state
    rated = (assignment.rating,) if assignment.rating else ()
    return _assign(
        state,
        department,
        rating=None,
        past_ratings=(*assignment.past_ratings, *rated),
        done_at=None,
        result=None,
        evidence=(),
        acted_in_round=False,
        round=assignment.round + 1,
    )


def _action_taken(state: CaseState, event: ActionTaken, at: datetime) -> CaseState:
    action = event.action
    follow_ups = state.follow_ups
    if action.settles is not None:
        state = _stop_one(state, at, ClockKind.FOLLOW_UP, action.department, action.settles)
        state = _with(state, "follow_ups", action.settles, settled_at=at)
        follow_ups = state.follow_ups
    if action.follow_up_on is not None:
        opened = FollowUp(
            number=len(follow_ups) + 1,
            department=action.department,
            on=action.follow_up_on,
            action=len(state.actions),
        )
        follow_ups = (*follow_ups, opened)
    state = state.model_copy(update={"actions": (*state.actions, action), "follow_ups": follow_ups})
    assignment = state.assignment(action.department)
    if assignment is None or assignment.done_at is not None:
        return state  # the township's own action, or one that settles a follow-up of finished work
    return _assign(state, action.department, acted_in_round=True)


def _objected(state: CaseState, event: Objected, at: datetime) -> CaseState:
    assignment = state.assignment(event.department)
    objection = Objection(
        number=event.number,
        department=event.department,
        as_lead=assignment is not None and assignment.lead,
        basis=event.basis,
        reason=event.reason,
        proposed=event.proposed,
        objected_at=at,
        before_group=event.before_group,
    )
    return state.model_copy(update={"objections": (*state.objections, objection)})


def _adjudicated(state: CaseState, event: Adjudicated, at: datetime) -> CaseState:
    state = _stop(state, at, ClockKind.OBJECTION, event.department)
    state = _stop(state, at, ClockKind.RULING, event.department)
    state = _with(state, "objections", event.number, decided_at=at, upheld=event.upheld, ruling=event.reason)
    if not event.upheld:
        return _assign(state, event.department, bound=True) if event.binding else state
    return _replaced(
        state,
        event.department,
        event.owner,
        at,
        LeavingBy.ADJUDICATION,
        event.reason,
        leads=event.owner_leads,
        resident=event.owner_resident,
        bound=event.binding,
    )


def _replaced(
    state: CaseState,
    department: OrganisationCode,
    owner: OrganisationCode | None,
    at: datetime,
    by: LeavingBy,
    reason: str,
    *,
    leads: bool,
    resident: bool,
    bound: bool = False,
) -> CaseState:
    """One department leaves, another takes its place, or one of the others the lead."""
    leaving = state.assignment(department)
    if leaving is None:
        return state
    state = _drop_extension(_stop_all_of(state, department, at), department, at)
    former = Former(assignment=leaving, left_at=at, by=by, reason=reason, successor=owner)
    assignments = [each for each in state.assignments if each.department != department]
    if owner is not None and state.assignment(owner) is not None:
        assignments = [
            each.model_copy(update={"lead": each.lead or leads, "bound": each.bound or bound})
            if each.department == owner
            else each
            for each in assignments
        ]
    elif owner is not None:
        assignments.append(
            Assignment(department=owner, lead=leads, dispatched_at=at, resident=resident, bound=bound)
        )
    return state.model_copy(update={"assignments": tuple(assignments), "former": (*state.former, former)})


def _stop_all_of(state: CaseState, department: str, at: datetime) -> CaseState:
    changed = tuple(
        clock.model_copy(update={"ended_at": at}) if clock.runs and clock.department == department else clock
        for clock in state.clocks
    )
    return state.model_copy(update={"clocks": changed})


def _extension_decided(state: CaseState, event: ExtensionDecided, at: datetime) -> CaseState:
    update: dict[str, object] = {event.office: event.approved} if event.office else {}
    if event.granted is not None:
        update |= {"granted": event.granted, "decided_at": at}
    state = _with(state, "extensions", event.number, **update)
    extension = next(each for each in state.extensions if each.number == event.number)
    state = _moved(state, event.moved)
    if not event.granted:
        return state
    lengthened = tuple(
        clock.model_copy(update={"changes": (*clock.changes, Lengthening(add=extension.add))})
        if clock.runs and clock.kind is ClockKind.HANDLING and clock.department == event.department
        else clock
        for clock in state.clocks
    )
    return state.model_copy(update={"clocks": lengthened})


def _drop_extension(state: CaseState, department: str, at: datetime) -> CaseState:
    """What was asked for a clock that has ended waits for nobody any more."""
    for each in state.extensions:
        if each.is_open and each.department == department:
            state = _with(state, "extensions", each.number, granted=False, decided_at=at)
    return state


def _suspension_decided(state: CaseState, event: SuspensionDecided, at: datetime, name: str) -> CaseState:
    update: dict[str, object] = {"approved": event.approved, "approved_by": name}
    if not event.approved:
        return _with(state, "suspensions", event.number, **update)
    paused = tuple(
        clock.model_copy(update={"paused_at": at})
        if (clock.runs and clock.kind is not ClockKind.SUSPENSION) or state.may_run_again(clock)
        else clock
        for clock in state.clocks
    )
    return _with(
        state.model_copy(update={"clocks": paused}), "suspensions", event.number, **update, began_at=at
    )


def _resumed(state: CaseState, event: Resumed, at: datetime) -> CaseState:
    suspension = next(each for each in state.suspensions if each.number == event.number)
    resumed_at = suspension.until if event.by_date else at
    state = _stop(state, resumed_at, ClockKind.SUSPENSION)
    going_on = tuple(
        clock.model_copy(
            update={
                "paused_at": None,
                "changes": (*clock.changes, Pause(paused_at=clock.paused_at, resumed_at=resumed_at)),
            }
        )
        if clock.paused_at is not None and (clock.runs or state.may_run_again(clock))
        else clock
        for clock in state.clocks
    )
    state = _moved(state.model_copy(update={"clocks": going_on}), event.moved)
    return _with(state, "suspensions", event.number, ended_at=resumed_at)


def _moved(state: CaseState, moves: Iterable[ClockMove]) -> CaseState:
    to = {(move.clock, move.department or "", move.round): move for move in moves}
    changed = tuple(
        clock.model_copy(
            update={
                "due_at": to[clock.key].due_at,
                "estimated": to[clock.key].estimated,
                "yellow_at": to[clock.key].yellow_at,
            }
        )
        if clock.key in to
        else clock
        for clock in state.clocks
    )
    return state.model_copy(update={"clocks": changed})


def _linked(state: CaseState, event: Linked, at: datetime) -> CaseState:
    link = Link(other=event.other, kind=event.link, note=event.note, at=at)
    state = state.model_copy(update={"links": (*state.links, link)})
    if event.link is LinkKind.DUPLICATE:
        return _over(state, Stage.MERGED, at, event.note or event.other)
    return state


def _instructed(state: CaseState, event: Instructed, at: datetime, name: str) -> CaseState:
    instruction = Instruction(by=name, text=event.text, department=event.department, at=at)
    state = state.model_copy(update={"instructions": (*state.instructions, instruction)})
    if event.order is None or event.department is None:
        return state
    return _order(state, event.order, event.department, event.text, at)


def _order(state: CaseState, number: int, department: OrganisationCode, text: str, at: datetime) -> CaseState:
    order = SupervisionOrder(number=number, department=department, text=text, issued_at=at)
    return state.model_copy(update={"orders": (*state.orders, order)})


def _order_round(state: CaseState, event: OrderAnswered) -> int:
    """Return the round of the order's clock: a department's orders are numbered as they came."""
    mine = [each.number for each in state.orders if each.department == event.department]
    return mine.index(event.number) + 1


def _reopened(state: CaseState, event: Reopened, at: datetime) -> CaseState:
    assert state.closure is not None  # noqa: S101 - only what is closed is reopened
    state = state.model_copy(update={"past_closures": (*state.past_closures, state.closure), "closure": None})
    for department in event.departments:
        state = _begin_again(state, department)
    del at
    return state


def _appeal_decided(
    state: CaseState, event: AppealDecided, at: datetime, name: str, person: str
) -> CaseState:
    appeal = next(each for each in state.appeals if each.number == event.number)
    verdict = Verdict(
        reviewer=PersonId(person),
        name=name,
        uphold=event.uphold,
        grade=event.grade,
        solved=event.solved,
        reason=event.reason,
        at=at,
    )
    state = _with(state, "appeals", event.number, verdicts=(*appeal.verdicts, verdict))
    if event.upheld is None:
        return state
    state = _stop(state, at, ClockKind.APPEAL, event.department)
    state = _with(state, "appeals", event.number, decided_at=at, upheld=event.upheld)
    assignment = state.assignment(event.department)
    if not event.upheld or assignment is None:
        return state
    if appeal.about is AppealAbout.LATENESS:
        return _assign(state, event.department, exempted=True)
    given = (*assignment.past_ratings, *((assignment.rating,) if assignment.rating else ()))
    rating = next(each for each in reversed(given) if each.round <= appeal.round)  # never one given since
    corrected = rating.model_copy(
        update={
            "grade": event.grade or rating.grade,
            "solved": rating.solved if event.solved is None else event.solved,
            "comment": event.reason,
            "at": at,
        }
    )
    return _assign(state, event.department, corrected=corrected)


def _escalated(state: CaseState, event: Escalated) -> CaseState:
    if event.supervision is not None and event.department is not None:
        text = f"第{event.level}级督办"
        state = _order(state, event.supervision, event.department, text, event.rung_due_at)
    key = (event.clock, event.department or "", event.round)
    climbed = tuple(
        clock.model_copy(update={"fired": (*clock.fired, event.level)}) if clock.key == key else clock
        for clock in state.clocks
    )
    return state.model_copy(update={"clocks": climbed})


def _with(state: CaseState, part: str, number: int, **update: object) -> CaseState:
    """Change one of the numbered things that a case keeps."""
    numbered: tuple[Objection | Extension | Suspension | FollowUp | SupervisionOrder | Appeal, ...]
    numbered = getattr(state, part)
    changed: tuple[Value, ...] = tuple(
        each.model_copy(update=update) if each.number == number else each for each in numbered
    )
    return state.model_copy(update={part: changed})


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


def _stop_one(state: CaseState, at: datetime, kind: ClockKind, department: str, number: int) -> CaseState:
    key = (kind, department, number)
    changed = tuple(
        clock.model_copy(update={"ended_at": at}) if clock.runs and clock.key == key else clock
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

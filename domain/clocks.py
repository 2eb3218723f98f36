"""When things are due, and what the clocks do when nobody acts (domain.md §4)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import lru_cache, partial

from domain.calendar import SHANGHAI, CalendarData, Due, Limit, Unit, WorkCalendar
from domain.case import (
    CaseState,
    Clock,
    Direction,
    Lengthening,
    OrganisationCode,
    Pause,
    Stage,
)
from domain.district import Terms
from domain.events import (
    CheckInConfirmed,
    ClockMove,
    Closed,
    Dispatched,
    Escalated,
    Event,
    ExtensionDecided,
    ObjectionReferred,
    Resumed,
    SignDeemed,
)
from domain.policy import CheckInLimit, ClockKind, LimitClass, Order, Policy, Rung, Urgency


@lru_cache(maxsize=64)
def calendar_of(data: CalendarData) -> WorkCalendar:
    """Return the calendar for this data; built once, for it is costly and never changes."""
    return WorkCalendar(data)


# --- deadlines ---------------------------------------------------------------------------------------------


def check_in_due(at: datetime, calendar: WorkCalendar, limit: CheckInLimit, urgency: Urgency) -> Due:
    """Return when a department must have checked in by the rule, without a wish of the township.

    Args:
        at: dispatch; compared in Asia/Shanghai. Exactly at the cut-off counts as before it; on a day whose office
            hours end earlier, what comes when they are over is for the next working day.

    Source: 同日报到, seed; cut-off and morning hour: district policy, domain.md §4.
    """
    if urgency is Urgency.URGENT:
        return calendar.due(at, limit.urgent)
    local = at.astimezone(SHANGHAI)
    closing = calendar.closing(local.date())
    if calendar.is_working_day(local.date()) and local.time() <= limit.cut_off and at < closing:
        due = closing
    else:
        next_day = calendar.next_working_day(local.date())
        due = datetime.combine(next_day, limit.next_day_by, SHANGHAI)
    return Due(due.astimezone(at.tzinfo), calendar.is_estimated(due))


def department_clocks(
    state: CaseState, department: OrganisationCode, limit_class: LimitClass, at: datetime, terms: Terms
) -> tuple[Clock, ...]:
    """Return the clocks that start for an office at dispatch, not at sign-for (domain.md §4).

    A check-in time that the township asked for replaces the rule, earlier or later, but never falls before the
    sign-for deadline; handling then counts from the time asked for, since nobody could begin before it. A township
    that is called by a department is on the spot already: nobody has to come.
    """
    start = partial(_start, state, at=at, terms=terms, department=department)
    sign = start(ClockKind.SIGN, _sign_due(state, at, terms))
    handling = start(ClockKind.HANDLING, handling_due(state, limit_class, at, terms))
    if state.call.direction is Direction.DOWN:
        return sign, handling
    return sign, start(ClockKind.CHECK_IN, _check_in_due(state, at, terms)), handling


def _sign_due(state: CaseState, at: datetime, terms: Terms) -> Due:
    return calendar_of(terms.calendar).due(at, terms.policy.limits.sign.of(state.call.urgency))


def _check_in_due(state: CaseState, at: datetime, terms: Terms) -> Due:
    calendar, limits = calendar_of(terms.calendar), terms.policy.limits
    asked = state.call.requested_check_in_at
    if asked is None:
        return check_in_due(at, calendar, limits.check_in, state.call.urgency)
    due = max(asked, _sign_due(state, at, terms).at)
    return Due(due, calendar.is_estimated(due))


def handling_due(state: CaseState, limit_class: LimitClass, at: datetime, terms: Terms) -> Due:
    """Return when handling that starts now must be done, by the item's limit class."""
    asked = state.call.requested_check_in_at
    start = max(at, asked) if asked else at
    return calendar_of(terms.calendar).due(start, terms.policy.limits.handling[limit_class])


def case_clock(state: CaseState, limit_class: LimitClass, at: datetime, terms: Terms) -> Clock:
    """Return the clock of the whole case; no transfer resets it."""
    return _start(state, ClockKind.CASE, handling_due(state, limit_class, at, terms), at=at, terms=terms)


def rework_clock(state: CaseState, department: OrganisationCode, at: datetime, terms: Terms) -> Clock:
    """Return the new handling clock of a department whose work came back; counted from now."""
    due = calendar_of(terms.calendar).due(at, terms.policy.limits.handling[state.limit_class])
    return _start(state, ClockKind.HANDLING, due, at=at, terms=terms, department=department)


def follow_up_clock(
    state: CaseState, department: OrganisationCode, on: date, number: int, at: datetime, terms: Terms
) -> Clock | None:
    """Return the clock after which somebody asks what became of it; None where the policy has none."""
    limit = terms.policy.limits.follow_up
    if limit is None:
        return None
    due = _follow_up_due(on, at, limit, terms)
    return _start(state, ClockKind.FOLLOW_UP, due, at=at, terms=terms, department=department, number=number)


def _follow_up_due(on: date, at: datetime, limit: Limit, terms: Terms) -> Due:
    """The others have the whole of their last day, so that the department's time begins when it has ended."""
    ended = datetime.combine(on + timedelta(days=1), time(), SHANGHAI) - timedelta(seconds=1)
    return calendar_of(terms.calendar).due(max(ended, at), limit)


def suspension_clock(state: CaseState, number: int, until: datetime, at: datetime, terms: Terms) -> Clock:
    """Return the clock that resumes the case by itself."""
    due = Due(until, estimated=False)
    return _start(state, ClockKind.SUSPENSION, due, at=at, terms=terms, number=number)


def step_clock(
    state: CaseState | None,
    kind: ClockKind,
    limit: Limit,
    at: datetime,
    terms: Terms,
    *,
    department: OrganisationCode | None = None,
) -> Clock:
    """Return the next clock of a kind whose limit is plainly counted from its start."""
    due = calendar_of(terms.calendar).due(at, limit)
    return _start(state, kind, due, at=at, terms=terms, department=department, unit=limit.unit)


def opening_clock(kind: ClockKind, urgency: Urgency, at: datetime, terms: Terms) -> Clock:
    """Return the first clock of a case: for release, admission, review or dispatch."""
    limits = terms.policy.limits
    limit = {
        ClockKind.RELEASE: limits.release,
        ClockKind.REVIEW: limits.review,
        ClockKind.ADMISSION: limits.admission,
    }.get(kind, limits.dispatch.of(urgency))
    assert limit is not None  # noqa: S101 - asked for only where the policy has it
    return step_clock(None, kind, limit, at, terms)


def confirm_clock(state: CaseState, department: OrganisationCode, at: datetime, terms: Terms) -> Clock:
    """Return the clock after which the township's silence confirms a check-in."""
    limit = terms.policy.limits.confirm
    return step_clock(state, ClockKind.CONFIRM, limit, at, terms, department=department)


def rating_clock(state: CaseState, at: datetime, terms: Terms) -> Clock:
    """Return the clock after which the case closes as unrated."""
    return step_clock(state, ClockKind.RATING, terms.policy.limits.rating, at, terms)


def rounds(state: CaseState | None, kind: ClockKind, department: str | None = None) -> int:
    """Return how many clocks of this kind the case has had, for numbering the next one."""
    clocks = state.clocks if state else ()
    return sum(clock.kind is kind and clock.department == department for clock in clocks)


def _start(
    state: CaseState | None,
    kind: ClockKind,
    due: Due,
    *,
    at: datetime,
    terms: Terms,
    department: OrganisationCode | None = None,
    number: int | None = None,
    unit: Unit | None = None,
) -> Clock:
    clock = Clock(
        kind=kind,
        department=department,
        round=number or rounds(state, kind, department) + 1,
        started_at=at,
        due_at=due.at,
        estimated=due.estimated,
    )
    warning = terms.policy.warning
    if warning is None or kind not in warning.kinds:
        return clock
    if unit is None:
        unit = _unit(state, clock, terms.policy) if state else Unit.CONTINUOUS
    return clock.model_copy(update={"yellow_at": _yellow_at(clock, due.at, unit, terms)})


# --- clocks that move --------------------------------------------------------------------------------------


def _limit(state: CaseState, kind: ClockKind, policy: Policy) -> Limit | None:
    """Return the limit of clocks that are plainly counted from their start; None for those with a rule of their own."""
    limits, urgency = policy.limits, state.call.urgency
    match kind:
        case ClockKind.RELEASE:
            return limits.release
        case ClockKind.REVIEW:
            return limits.review
        case ClockKind.ADMISSION:
            return limits.admission
        case ClockKind.DISPATCH:
            return limits.dispatch.of(urgency)
        case ClockKind.SIGN:
            return limits.sign.of(urgency)
        case ClockKind.CONFIRM:
            return limits.confirm
        case ClockKind.HANDLING | ClockKind.CASE:
            return limits.handling[state.limit_class]
        case ClockKind.OBJECTION:
            return limits.objection
        case ClockKind.RULING:
            return limits.ruling
        case ClockKind.ORDER:
            return limits.answer
        case ClockKind.RATING:
            return limits.rating
        case ClockKind.APPEAL:
            return limits.appeal.review if limits.appeal else None
        case ClockKind.FOLLOW_UP:
            return limits.follow_up
        case ClockKind.CHECK_IN | ClockKind.SUSPENSION:
            return None


def _unit(state: CaseState, clock: Clock, policy: Policy) -> Unit:
    """Return in which time a clock counts."""
    if clock.kind is ClockKind.SUSPENSION:
        return Unit.CONTINUOUS
    if clock.kind is ClockKind.CHECK_IN:
        by_rule = state.call.requested_check_in_at is None and state.call.urgency is Urgency.URGENT
        return policy.limits.check_in.urgent.unit if by_rule else Unit.WORKING_TIME
    limit = _limit(state, clock.kind, policy)
    return limit.unit if limit else Unit.CONTINUOUS


def _after_pause(moment: datetime, pause: Pause, unit: Unit, calendar: WorkCalendar) -> datetime:
    return calendar.after_pause(moment, pause.paused_at, pause.resumed_at, unit)


def _yellow_at(clock: Clock, due: datetime, unit: Unit, terms: Terms) -> datetime:
    """Return when `yellow_share` of the limit is left, counted in its own time and without its pauses."""
    calendar, share = calendar_of(terms.calendar), terms.policy.yellow_share
    pauses = [each for each in clock.changes if isinstance(each, Pause)]
    moment = calendar.yellow_at(clock.started_at, _without(pauses, clock, due, unit, calendar), unit, share)
    for pause in pauses:
        if moment > pause.paused_at:
            moment = _after_pause(moment, pause, unit, calendar)
    return min(moment, due)


def _without(
    pauses: Sequence[Pause], clock: Clock, due: datetime, unit: Unit, calendar: WorkCalendar
) -> datetime:
    """Return when the clock would be due had it never stood still."""
    if not pauses:
        return due
    if unit is Unit.CONTINUOUS:
        return due - sum((each.resumed_at - each.paused_at for each in pauses), timedelta(0))
    held = (calendar.working_time_between(each.paused_at, each.resumed_at) for each in pauses)
    whole = calendar.working_time_between(clock.started_at, due) - sum(held, timedelta(0))
    return calendar.add_working_time(clock.started_at, whole) if whole > timedelta(0) else due


def moves_after_pause(state: CaseState, resumed_at: datetime, terms: Terms) -> tuple[ClockMove, ...]:
    """Return where the clocks that stand still go on: each by exactly the time of its own that the pause held."""
    calendar = calendar_of(terms.calendar)
    moves = []
    for clock in state.clocks:
        if clock.paused_at is None or not (clock.runs or state.may_run_again(clock)):
            continue
        pause = Pause(paused_at=clock.paused_at, resumed_at=resumed_at)
        due = _after_pause(clock.due_at, pause, _unit(state, clock, terms.policy), calendar)
        changed = clock.model_copy(update={"changes": (*clock.changes, pause)})
        moves.append(_move(state, changed, due, terms))
    return tuple(moves)


def moves_of_extension(
    state: CaseState, department: OrganisationCode, add: Limit, terms: Terms
) -> tuple[ClockMove, ...]:
    """Return where an extension moves the department's handling, and the case's own clock if it would end before."""
    handling, whole = state.clock(ClockKind.HANDLING, department), state.clock(ClockKind.CASE)
    if handling is None:
        return ()
    due = calendar_of(terms.calendar).due(handling.due_at, add).at
    moves = [_move(state, handling, due, terms)]
    if whole is not None and whole.due_at < due:
        moves.append(_move(state, whole, due, terms))
    return tuple(moves)


def moves_of_terms(state: CaseState, at: datetime, terms: Terms) -> tuple[ClockMove, ...]:
    """Return where newer terms move the running clocks: computed anew from their starts, with all that moved them.

    Nobody becomes late by it: a limit that would lie in the past then stays where it was.
    """
    found = [clock for clock in state.running if clock.kind is not ClockKind.SUSPENSION]
    computed = {clock.key: _recomputed(state, clock, terms) for clock in found}
    lengthened = [
        computed.get(clock.key) or clock.due_at
        for clock in state.clocks
        if clock.kind is ClockKind.HANDLING and any(isinstance(each, Lengthening) for each in clock.changes)
    ]
    moves = []
    for clock in found:
        due = computed[clock.key]
        if due is None:
            continue
        if clock.kind is ClockKind.CASE:
            due = max(due, *lengthened) if lengthened else due
        if due < at <= clock.due_at:
            continue
        move = _move(state, clock, due, terms)
        if (move.due_at, move.estimated, move.yellow_at) != (clock.due_at, clock.estimated, clock.yellow_at):
            moves.append(move)
    return tuple(moves)


def _recomputed(state: CaseState, clock: Clock, terms: Terms) -> datetime | None:
    """Return when a clock is due under these terms; None when they have no such limit, and it stays as it is."""
    calendar, limit = calendar_of(terms.calendar), _limit(state, clock.kind, terms.policy)
    assignment = state.assignment(clock.department) if clock.department else None
    if clock.kind is ClockKind.CHECK_IN:
        due = _check_in_due(state, clock.started_at, terms).at
    elif limit is None:
        return None
    elif clock.kind is ClockKind.FOLLOW_UP:
        on = next(each.on for each in state.follow_ups if each.number == clock.round)
        due = _follow_up_due(on, clock.started_at, limit, terms).at
    elif clock.kind is ClockKind.CASE or (
        clock.kind is ClockKind.HANDLING and assignment is not None and assignment.round == 1
    ):
        due = handling_due(state, state.limit_class, clock.started_at, terms).at
    else:
        due = calendar.due(clock.started_at, limit).at
    unit = _unit(state, clock, terms.policy)
    for change in clock.changes:
        match change:
            case Pause():
                due = _after_pause(due, change, unit, calendar)
            case Lengthening():
                due = calendar.due(due, change.add).at
    return due


def _move(state: CaseState, clock: Clock, due: datetime, terms: Terms) -> ClockMove:
    warning = terms.policy.warning
    warns = warning is not None and clock.kind in warning.kinds
    return ClockMove(
        clock=clock.kind,
        department=clock.department,
        round=clock.round,
        due_at=due,
        estimated=calendar_of(terms.calendar).is_estimated(due),
        yellow_at=_yellow_at(clock, due, _unit(state, clock, terms.policy), terms) if warns else None,
    )


# --- dispatch ----------------------------------------------------------------------------------------------


def dispatched(
    state: CaseState,
    lead: OrganisationCode,
    cooperating: Sequence[OrganisationCode],
    limit_class: LimitClass,
    at: datetime,
    terms: Terms,
    *,
    note: str = "",
    reason: str = "",
    automatic: bool = False,
) -> Dispatched:
    """Return the event that names the departments, with every clock that starts for them."""
    everyone = (lead, *cooperating)
    started = [
        clock
        for department in everyone
        for clock in department_clocks(state, department, limit_class, at, terms)
    ]
    return Dispatched(
        lead=lead,
        cooperating=tuple(cooperating),
        limit_class=limit_class,
        note=note,
        resident=tuple(each for each in everyone if terms.is_stationed(each, state.call.township)),
        reason=reason,
        automatic=automatic,
        clocks=(*started, case_clock(state, limit_class, at, terms)),
    )


# --- what clocks do by themselves --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pending:
    """Something that a clock will do at a moment, unless somebody acts first."""

    at: datetime
    rank: int
    event: Callable[[], Event]


def pending(state: CaseState, terms: Terms) -> Iterator[Pending]:
    """Yield everything that the running clocks will do, in no order. A clock that stands still does nothing."""
    for clock in state.running:
        yield from _pending_of(state, clock, terms)


def _pending_of(state: CaseState, clock: Clock, terms: Terms) -> Iterator[Pending]:
    if clock.paused_at is not None:
        return
    yield from _own_effect(state, clock, terms)
    if clock.yellow_at is not None and 0 not in clock.fired:
        yield Pending(clock.yellow_at, 0, partial(_warned, clock, terms))
    for rung, after in rungs_of(state, clock.kind, terms.policy):
        if rung.level not in clock.fired:
            due = rung_due(clock, after, terms)
            yield Pending(due, rung.level, partial(_escalated, state, clock, rung, due, terms))


def rungs_of(state: CaseState, kind: ClockKind, policy: Policy) -> Iterable[tuple[Rung, Limit]]:
    """Return the rungs that this kind of clock climbs in this case, each with how long after red.

    Where the same matter came up before, the ladder starts higher: each rung falls due as early as the one that
    many below it, and the lowest ones together.
    """
    rungs, raised = policy.ladder.of(kind), state.call.raised
    return ((rung, rungs[max(place - raised, 0)].after) for place, rung in enumerate(rungs))


def rung_due(clock: Clock, after: Limit, terms: Terms) -> datetime:
    """Return when a rung falls due: at red for zero, else that long after red in its own unit."""
    return _due_after(terms.calendar, clock.due_at, after)


@lru_cache(maxsize=4096)
def _due_after(calendar: CalendarData, moment: datetime, limit: Limit) -> datetime:
    """Every act asks for every rung of every clock again; the answer never changes."""
    return calendar_of(calendar).due(moment, limit).at


def next_due(state: CaseState, terms: Terms) -> datetime | None:
    """Return the next moment at which a clock does something, or None when none runs."""
    return min((each.at for each in pending(state, terms)), default=None)


def acting_at(state: CaseState, terms: Terms, due: datetime) -> list[Clock]:
    """Return the clocks that do something at this very moment, those with the earliest limit first."""
    acting = [
        clock for clock in state.running if any(each.at == due for each in _pending_of(state, clock, terms))
    ]
    return sorted(acting, key=lambda clock: clock.due_at)


def first_overdue(state: CaseState, at: datetime, terms: Terms) -> Event | None:
    """Return what the clocks had to do first before `at`, or None.

    On time is up to and including the due moment, so that an act and its deadline at one instant go to the act.
    Of two things due at one moment a clock's own effect comes before its rungs, and a lower rung before a higher.
    """
    late = [each for each in pending(state, terms) if at > each.at]
    if not late:
        return None
    return min(late, key=lambda each: (each.at, each.rank)).event()


def wake_delay(case_id: str, spread: timedelta) -> timedelta:
    """Return how long after a due moment this case looks at its clocks, the same for ever for one case.

    A thousand departments are due at 17:30; spreading the work keeps the server answering. Due moments stay put.
    """
    slots = 1000
    position = sum((place + 1) * ord(letter) for place, letter in enumerate(case_id)) % slots
    return timedelta(milliseconds=1) + spread * position / slots


def _own_effect(state: CaseState, clock: Clock, terms: Terms) -> Iterator[Pending]:
    department, due = clock.department, clock.due_at
    match clock.kind:
        case ClockKind.DISPATCH if _dispatches_itself(state, terms):
            yield Pending(clock.started_at, 0, partial(_as_the_list_says, state, clock, terms))
        case ClockKind.SIGN if department is not None:
            assignment = state.assignment(department)
            if assignment is not None and not assignment.signed:
                yield Pending(due, 0, lambda: SignDeemed(department=department, due_at=due))
        case ClockKind.CONFIRM if department is not None:
            yield Pending(due, 0, lambda: CheckInConfirmed(department=department, by_silence=True))
        case ClockKind.HANDLING if department is not None:
            asked = next((e for e in state.extensions if e.is_open and e.department == department), None)
            if asked is not None:
                yield Pending(due, 0, partial(_lapsed, asked.number, department))
        case ClockKind.OBJECTION if department is not None:
            yield Pending(due, 0, partial(_referred, state, department, due, terms))
        case ClockKind.SUSPENSION:
            yield Pending(due, 0, partial(_resumed_by_date, state, clock, terms))
        case ClockKind.RATING:
            unrated = tuple(each.department for each in state.assignments if each.rating is None)
            yield Pending(due, 0, lambda: Closed(unrated=unrated))
        case _:
            return


def _dispatches_itself(state: CaseState, terms: Terms) -> bool:
    """Whether the list alone says who comes: the call names an item, and no departments of its own."""
    call = state.call
    return (
        terms.policy.automatic_dispatch
        and state.stage is Stage.CALLED
        and call.direction is Direction.UP
        and call.responsibility is not None
        and not call.departments
    )


def _as_the_list_says(state: CaseState, clock: Clock, terms: Terms) -> Dispatched:
    listed = state.call.responsibility
    assert listed is not None  # noqa: S101 - see _dispatches_itself
    return dispatched(
        state,
        listed.lead,
        listed.cooperating,
        state.limit_class,
        clock.started_at,
        terms,
        automatic=True,
    )


def _lapsed(number: int, department: OrganisationCode) -> ExtensionDecided:
    return ExtensionDecided(number=number, department=department, office=None, approved=False, granted=False)


def _referred(
    state: CaseState, department: OrganisationCode, at: datetime, terms: Terms
) -> ObjectionReferred:
    number = next(each.number for each in state.objections if each.is_open and each.department == department)
    limit = terms.policy.limits.ruling
    started = (step_clock(state, ClockKind.RULING, limit, at, terms, department=department),) if limit else ()
    return ObjectionReferred(number=number, department=department, clocks=started)


def _resumed_by_date(state: CaseState, clock: Clock, terms: Terms) -> Resumed:
    return Resumed(number=clock.round, by_date=True, moved=moves_after_pause(state, clock.due_at, terms))


def _warned(clock: Clock, terms: Terms) -> Escalated:
    assert clock.yellow_at is not None  # noqa: S101 - it warns
    warning = terms.policy.warning
    return Escalated(
        clock=clock.kind,
        department=clock.department,
        round=clock.round,
        level=0,
        order=Order.WARNING,
        receivers=warning.receivers if warning else (),
        due_at=clock.due_at,
        rung_due_at=clock.yellow_at,
    )


def _escalated(state: CaseState, clock: Clock, rung: Rung, due: datetime, terms: Terms) -> Escalated:
    """A supervision order has a clock of its own, where the policy wants it answered and somebody must."""
    limit = terms.policy.limits.answer
    started: tuple[Clock, ...] = ()
    number: int | None = None
    needs_answer = rung.order is Order.SUPERVISION and clock.kind is not ClockKind.ORDER
    if needs_answer and limit is not None and clock.department is not None:
        number = len(state.orders) + 1
        started = (step_clock(state, ClockKind.ORDER, limit, due, terms, department=clock.department),)
    return Escalated(
        clock=clock.kind,
        department=clock.department,
        round=clock.round,
        level=rung.level,
        order=rung.order,
        receivers=rung.receivers,
        due_at=clock.due_at,
        rung_due_at=due,
        supervision=number,
        clocks=started,
    )

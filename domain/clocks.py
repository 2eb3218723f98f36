"""When things are due, and what the clocks do when nobody acts (domain.md §4)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial

from domain.calendar import SHANGHAI, CalendarData, Due, Limit, WorkCalendar
from domain.case import CaseState, Clock, OrganisationCode
from domain.district import Terms
from domain.events import CheckInConfirmed, Closed, Escalated, Event, SignDeemed
from domain.policy import CheckInLimit, ClockKind, LimitClass, Rung, Urgency


@lru_cache(maxsize=64)
def calendar_of(data: CalendarData) -> WorkCalendar:
    """Return the calendar for this data; built once, for it is costly and never changes."""
    return WorkCalendar(data)


def check_in_due(at: datetime, calendar: WorkCalendar, limit: CheckInLimit, urgency: Urgency) -> Due:
    """Return when a department must have checked in by the rule, without a wish of the township.

    Args:
        at: dispatch; compared in Asia/Shanghai. Exactly at the cut-off counts as before it.

    Source: 同日报到, seed; cut-off and morning hour: district policy, domain.md §4.
    """
    if urgency is Urgency.URGENT:
        return calendar.due(at, limit.urgent)
    local = at.astimezone(SHANGHAI)
    if calendar.is_working_day(local.date()) and local.time() <= limit.cut_off:
        due = calendar.closing(local.date())
    else:
        next_day = calendar.next_working_day(local.date())
        due = datetime.combine(next_day, limit.next_day_by, SHANGHAI)
    return Due(due.astimezone(at.tzinfo), calendar.is_estimated(due))


def department_clocks(
    state: CaseState, department: OrganisationCode, limit_class: LimitClass, at: datetime, terms: Terms
) -> tuple[Clock, ...]:
    """Return the three clocks that start for a department at dispatch, not at sign-for (domain.md §4).

    A check-in time that the township asked for replaces the rule, earlier or later, but never falls before the
    sign-for deadline; handling then counts from the time asked for, since nobody could begin before it.
    """
    calendar, limits, urgency = calendar_of(terms.calendar), terms.policy.limits, state.call.urgency
    sign = calendar.due(at, limits.sign.of(urgency))
    asked = state.call.requested_check_in_at
    check_in = (
        Due(max(asked, sign.at), calendar.is_estimated(max(asked, sign.at)))
        if asked
        else check_in_due(at, calendar, limits.check_in, urgency)
    )
    handling = handling_due(state, limit_class, at, terms)
    return tuple(
        _clock(kind, at, due, department)
        for kind, due in (
            (ClockKind.SIGN, sign),
            (ClockKind.CHECK_IN, check_in),
            (ClockKind.HANDLING, handling),
        )
    )


def handling_due(state: CaseState, limit_class: LimitClass, at: datetime, terms: Terms) -> Due:
    """Return when handling that starts now must be done, by the item's limit class."""
    asked = state.call.requested_check_in_at
    start = max(at, asked) if asked else at
    return calendar_of(terms.calendar).due(start, terms.policy.limits.handling[limit_class])


def case_clock(state: CaseState, limit_class: LimitClass, at: datetime, terms: Terms) -> Clock:
    """Return the clock of the whole case; it never resets."""
    return _clock(ClockKind.CASE, at, handling_due(state, limit_class, at, terms))


def rework_clock(
    state: CaseState, department: OrganisationCode, number: int, at: datetime, terms: Terms
) -> Clock:
    """Return the new handling clock of a department whose work came back; counted from now."""
    limit = terms.policy.limits.handling[state.limit_class]
    return _clock(
        ClockKind.HANDLING, at, calendar_of(terms.calendar).due(at, limit), department, number=number
    )


def dispatch_clock(urgency: Urgency, at: datetime, terms: Terms) -> Clock:
    """Return the dispatcher's clock."""
    limit = terms.policy.limits.dispatch.of(urgency)
    return _clock(ClockKind.DISPATCH, at, calendar_of(terms.calendar).due(at, limit))


def confirm_clock(department: OrganisationCode, number: int, at: datetime, terms: Terms) -> Clock:
    """Return the clock after which the township's silence confirms a check-in."""
    due = calendar_of(terms.calendar).due(at, terms.policy.limits.confirm)
    return _clock(ClockKind.CONFIRM, at, due, department, number=number)


def rating_clock(number: int, at: datetime, terms: Terms) -> Clock:
    """Return the clock after which the case closes as unrated."""
    return _clock(
        ClockKind.RATING,
        at,
        calendar_of(terms.calendar).due(at, terms.policy.limits.rating),
        number=number,
    )


def rounds(state: CaseState, kind: ClockKind, department: str | None = None) -> int:
    """Return how many clocks of this kind the case has had, for numbering the next one."""
    return sum(clock.kind is kind and clock.department == department for clock in state.clocks)


@dataclass(frozen=True, slots=True)
class Pending:
    """Something that a clock will do at a moment, unless somebody acts first."""

    at: datetime
    rank: int
    event: Callable[[], Event]


def pending(state: CaseState, terms: Terms) -> Iterator[Pending]:
    """Yield everything that the running clocks will do, in no order."""
    for clock in state.running:
        yield from _own_effect(state, clock)
        for rung in terms.policy.ladder.of(clock.kind):
            if rung.level not in clock.fired:
                due = rung_due(clock, rung.after, terms)
                yield Pending(due, rung.level, partial(_escalated, clock, rung, due))


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


def _own_effect(state: CaseState, clock: Clock) -> Iterator[Pending]:
    department = clock.department
    match clock.kind:
        case ClockKind.SIGN if department is not None:
            assignment = state.assignment(department)
            if assignment is not None and not assignment.signed:
                yield Pending(clock.due_at, 0, lambda: SignDeemed(department=department, due_at=clock.due_at))
        case ClockKind.CONFIRM if department is not None:
            yield Pending(clock.due_at, 0, lambda: CheckInConfirmed(department=department, by_silence=True))
        case ClockKind.RATING:
            unrated = tuple(each.department for each in state.assignments if each.rating is None)
            yield Pending(clock.due_at, 0, lambda: Closed(unrated=unrated))
        case _:
            return


def _escalated(clock: Clock, rung: Rung, due: datetime) -> Escalated:
    return Escalated(
        clock=clock.kind,
        department=clock.department,
        round=clock.round,
        level=rung.level,
        order=rung.order,
        receivers=rung.receivers,
        due_at=clock.due_at,
        rung_due_at=due,
    )


def _clock(
    kind: ClockKind, at: datetime, due: Due, department: OrganisationCode | None = None, *, number: int = 1
) -> Clock:
    return Clock(
        kind=kind, department=department, round=number, started_at=at, due_at=due.at, estimated=due.estimated
    )

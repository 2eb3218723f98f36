"""Who is told of what. Persons are found in the roster when the notice is written; here only offices are named."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from domain.calendar import SHANGHAI
from domain.case import CaseState, Direction, PersonId, Role, Stage
from domain.district import OrganisationKind, Terms
from domain.events import (
    Adjudicated,
    Admitted,
    AppealDecided,
    Appealed,
    Called,
    CallRefused,
    Cancelled,
    CheckedIn,
    CheckInDisputed,
    Closed,
    Dispatched,
    DoneReported,
    Entry,
    Escalated,
    ExtensionAsked,
    ExtensionDecided,
    Instructed,
    Linked,
    Objected,
    ObjectionReferred,
    OrderAnswered,
    Released,
    Reopened,
    Resumed,
    ReworkOrdered,
    SuspensionAsked,
    SuspensionDecided,
    TermsAdopted,
    Transferred,
    UrgencyReviewed,
)
from domain.policy import ClockKind, Policy, Receiver, Urgency
from domain.words import STAGES, sentence, subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An office to be told: everybody with one of the roles there.

    Attributes:
        organisation: None for every office of the district with that role; empty when there is no such office.
        only_on_duty: only those on duty.
        stationed_in: for resident officers, their township.
        only_squad: only those of the township's squad.
        title: what the notice is called for them; empty for its own title.
    """

    roles: frozenset[Role]
    organisation: str | None
    only_on_duty: bool = False
    stationed_in: str | None = None
    only_squad: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to be told to some offices.

    Attributes:
        persons: somebody in particular, besides the offices.
    """

    title: str
    text: str
    to: tuple[Address, ...]
    persons: frozenset[PersonId] = frozenset()


def leaves_at(at: datetime, state: CaseState, policy: Policy) -> datetime:
    """Return when a notice of this moment may leave: quiet hours hold routine ones back, urgent ones never.

    Args:
        at: compared in Asia/Shanghai. At the very end of the quiet hours they are over.
    """
    quiet = policy.quiet_hours
    if quiet is None or state.call.urgency is Urgency.URGENT:
        return at
    local = at.astimezone(SHANGHAI)
    now, over_midnight = local.time(), quiet.start > quiet.end
    is_quiet = now >= quiet.start or now < quiet.end if over_midnight else quiet.start <= now < quiet.end
    if not is_quiet:
        return at
    ends = datetime.combine(local.date(), quiet.end, SHANGHAI)
    return ends if ends > local else ends + timedelta(days=1)


def notice_of(entry: Entry, state: CaseState, terms: Terms) -> Notice | None:
    """Return what is to be told of this entry, or None.

    Args:
        state: the case after the entry.
    """
    event, text = entry.event, f"{subject(state, terms)}({state.case_id}):{sentence(entry, terms)}"
    departments = state.departments()

    def notice(title: str, *to: Address, persons: Iterable[PersonId] = ()) -> Notice:
        return Notice(title=title, text=text, to=to, persons=frozenset(persons))

    match event:
        case Called():
            return notice(f"新呼叫{STAGES[state.stage]}", *_who_is_next(state))
        case Released() | Admitted():
            return notice("新呼叫待派单", _DISPATCHERS)
        case UrgencyReviewed() if not event.justified:
            return notice("紧急呼叫复核不成立", _DISPATCHERS, _township(state))
        case CallRefused():
            return notice("呼叫被退回", *_callers(state), persons=(state.caller.id,))
        case Dispatched():
            return notice("新派单待签收", *_departments(state, departments), _squad(state))
        case CheckedIn():
            return notice("部门已报到,请确认", _township(state))
        case CheckInDisputed():
            return notice("报到有异议", *_departments(state, (event.department,)))
        case Objected():
            return notice("部门提出异议", _COORDINATORS if event.before_group else _DISPATCHERS)
        case ObjectionReferred():
            return notice("异议待裁定", _COORDINATORS)
        case Adjudicated():
            joined = (event.owner,) if event.owner else ()
            return notice("异议已裁定", *_departments(state, (event.department, *joined)), _DISPATCHERS)
        case Transferred():
            return notice("转办", *_departments(state, (event.department, event.to)), _township(state))
        case ExtensionAsked():
            return notice("延期待审批", *_approvers(state), _COORDINATORS)
        case ExtensionDecided() if event.granted is not None:
            return notice("延期审批结果", *_departments(state, (event.department,)), *_callers(state))
        case SuspensionAsked():
            return notice("挂账待审批", _COORDINATORS)
        case SuspensionDecided() | Resumed():
            title = "案件恢复办理" if isinstance(event, Resumed) else "挂账审批结果"
            return notice(title, *_departments(state, departments), *_callers(state))
        case DoneReported() if event.clocks:
            return notice("办理完成,请评价", *_callers(state), persons=_citizen(state))
        case ReworkOrdered():
            return notice("退回重办", *_departments(state, (event.department,)))
        case Reopened():
            return notice("案件重新打开", *_departments(state, event.departments), _DISPATCHERS)
        case Escalated():
            to = tuple(_receiver(receiver, event, state, terms) for receiver in event.receivers)
            title = "时限预警" if event.level == 0 else f"第{event.level}级升级通知"
            return notice(title, *to, persons=state.watchers if event.level else ())
        case Instructed():
            told = (event.department,) if event.department else departments
            heads = tuple(
                Address(roles=frozenset({Role.DEPARTMENT_HEAD}), organisation=each) for each in told
            )
            title = "督办单,请答复" if event.order else "领导批示"
            return notice(title, *heads, *_departments(state, told), *_callers(state))
        case OrderAnswered():
            return notice("督办单已答复", _COORDINATORS, persons=state.watchers)
        case Appealed():
            return notice("申诉待复核", _SUPERVISORS)
        case AppealDecided() if event.upheld is not None:
            return notice("申诉结果", *_departments(state, (event.department,)), *_callers(state))
        case Linked():
            return notice("案件关联", *_callers(state), *_departments(state, departments))
        case TermsAdopted() if event.moved:
            return notice("时限调整", *_departments(state, departments), *_callers(state))
        case Cancelled() | Closed():
            title = "案件已办结" if isinstance(event, Closed) else "案件已撤销"
            people = {*state.watchers, *_citizen(state)}
            return notice(title, *_callers(state), *_departments(state, departments), persons=people)
        case _:
            return None


def _who_is_next(state: CaseState) -> tuple[Address, ...]:
    """Of an urgent call that went at once the approver hears too: it is reviewed after."""
    match state.awaits:
        case Stage.AWAITING_RELEASE:
            return _approvers(state)
        case Stage.AWAITING_ADMISSION:
            return (_COORDINATORS,)
        case _ if state.clock(ClockKind.REVIEW) is not None:
            return (_DISPATCHERS, *_approvers(state))
        case _:
            return (_DISPATCHERS,)


_DISPATCHERS = Address(roles=frozenset({Role.DISPATCHER}), organisation=None)
_COORDINATORS = Address(roles=frozenset({Role.COORDINATOR}), organisation=None)
_SUPERVISORS = Address(roles=frozenset({Role.SUPERVISOR}), organisation=None)


def _squad(state: CaseState) -> Address:
    """1 of 1+X+Y: the township's own squad comes to every case (seed); it is departments that sign (domain.md §2)."""
    roles = frozenset({Role.TOWNSHIP_OFFICER, Role.TOWNSHIP_APPROVER})
    return Address(roles=roles, organisation=state.call.township, only_squad=True, title="新派单,待部门签收")


def _callers(state: CaseState) -> tuple[Address, ...]:
    if state.call.direction is Direction.DOWN and state.call.caller_office is not None:
        roles = frozenset({Role.DEPARTMENT_OFFICER, Role.DEPARTMENT_HEAD})
        return (Address(roles=roles, organisation=state.call.caller_office),)
    return (_township(state),)


def _approvers(state: CaseState) -> tuple[Address, ...]:
    if state.call.direction is Direction.DOWN:
        return _callers(state)
    return (Address(roles=frozenset({Role.TOWNSHIP_APPROVER}), organisation=state.call.township),)


def _citizen(state: CaseState) -> tuple[PersonId, ...]:
    """The person who reported it, where that is nobody of an office."""
    reports = {Role.CITIZEN, Role.GRID_WORKER}
    return (state.caller.id,) if any(post.role in reports for post in state.caller.posts) else ()


def _township(state: CaseState) -> Address:
    roles = frozenset({Role.TOWNSHIP_OFFICER, Role.TOWNSHIP_APPROVER})
    return Address(roles=roles, organisation=state.call.township)


def _departments(state: CaseState, departments: Iterable[str]) -> tuple[Address, ...]:
    """The offices' desks for this case; a township that is itself called has its own people."""
    return tuple(address for department in departments for address in _desks(state, department))


def _desks(state: CaseState, department: str) -> tuple[Address, ...]:
    """X departments are told through their officers in the township; who is on duty hears of it from the ladder."""
    if department == state.call.township:
        return (_township(state),)
    residents = Address(
        roles=frozenset({Role.RESIDENT_OFFICER}), organisation=department, stationed_in=state.call.township
    )
    assignment = state.assignment(department)
    if assignment is not None and assignment.resident:
        return (residents,)
    on_duty = Address(roles=frozenset({Role.DEPARTMENT_OFFICER}), organisation=department, only_on_duty=True)
    return (on_duty, residents)


def _receiver(receiver: Receiver, event: Escalated, state: CaseState, terms: Terms) -> Address:
    """A clock of the whole case has no department: its lead is meant, or the dispatchers before there is one."""
    office = event.department or (state.lead.department if state.lead else None)
    if office == state.call.township and receiver in {Receiver.DUTY_OFFICER, Receiver.DEPARTMENT_HEAD}:
        return _township(state)
    match receiver:
        case Receiver.DUTY_OFFICER | Receiver.DEPARTMENT_HEAD if office is None:
            return _DISPATCHERS
        case Receiver.DUTY_OFFICER:
            return Address(roles=frozenset({Role.DEPARTMENT_OFFICER}), organisation=office, only_on_duty=True)
        case Receiver.DEPARTMENT_HEAD:
            return Address(roles=frozenset({Role.DEPARTMENT_HEAD}), organisation=office)
        case Receiver.DISPATCHER:
            return _DISPATCHERS
        case Receiver.COORDINATOR:
            return _coordinators(terms, OrganisationKind.COORDINATION_GROUP)
        case Receiver.CITY_COORDINATOR:
            return _coordinators(terms, OrganisationKind.CITY)
        case Receiver.TOWNSHIP:
            return _township(state)


def _coordinators(terms: Terms, kind: OrganisationKind) -> Address:
    office = next((each.code for each in terms.organisations if each.kind is kind), "")
    return Address(roles=frozenset({Role.COORDINATOR}), organisation=office)

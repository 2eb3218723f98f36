"""Who is told of what. Persons are found in the roster when the notice is written; here only offices are named."""

from dataclasses import dataclass

from domain.case import CaseState, Role
from domain.district import OrganisationKind, Terms
from domain.events import (
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
    ReworkOrdered,
)
from domain.policy import Receiver
from domain.words import sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An office to be told: everybody with one of the roles there.

    Attributes:
        organisation: None for every office of the district with that role; empty when there is no such office.
        only_on_duty: only those on duty.
        stationed_in: for resident officers, their township.
    """

    roles: frozenset[Role]
    organisation: str | None
    only_on_duty: bool = False
    stationed_in: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to be told to some offices."""

    title: str
    text: str
    to: tuple[Address, ...]


def notice_of(entry: Entry, state: CaseState, terms: Terms) -> Notice | None:
    """Return what is to be told of this entry, or None.

    Args:
        state: the case after the entry.
    """
    event, text = entry.event, sentence(entry, terms)
    departments = state.departments()
    match event:
        case Called():
            return Notice(title="新呼叫待派单", text=text, to=(_DISPATCHERS,))
        case CallRefused():
            return Notice(title="呼叫被退回", text=text, to=(_township(state),))
        case Dispatched():
            return Notice(title="新派单待签收", text=text, to=_departments(state, departments))
        case CheckedIn():
            return Notice(title="部门已报到,请确认", text=text, to=(_township(state),))
        case CheckInDisputed():
            return Notice(title="报到有异议", text=text, to=_departments(state, (event.department,)))
        case DoneReported() if event.clocks:
            return Notice(title="办理完成,请评价", text=text, to=(_township(state),))
        case ReworkOrdered():
            return Notice(title="退回重办", text=text, to=_departments(state, (event.department,)))
        case Escalated():
            to = tuple(_receiver(receiver, event, state, terms) for receiver in event.receivers)
            return Notice(title=f"第{event.level}级升级通知", text=text, to=to)
        case Cancelled() | Closed():
            title = "案件已办结" if isinstance(event, Closed) else "案件已撤销"
            to = (_township(state), *_departments(state, departments))
            return Notice(title=title, text=text, to=to)
        case _:
            return None


_DISPATCHERS = Address(roles=frozenset({Role.DISPATCHER}), organisation=None)


def _township(state: CaseState) -> Address:
    roles = frozenset({Role.TOWNSHIP_OFFICER, Role.TOWNSHIP_APPROVER})
    return Address(roles=roles, organisation=state.call.township)


def _departments(state: CaseState, departments: tuple[str, ...]) -> tuple[Address, ...]:
    return tuple(
        address
        for department in departments
        for address in (
            Address(roles=frozenset({Role.DEPARTMENT_OFFICER}), organisation=department, only_on_duty=True),
            Address(
                roles=frozenset({Role.RESIDENT_OFFICER}),
                organisation=department,
                stationed_in=state.call.township,
            ),
        )
    )


def _receiver(receiver: Receiver, event: Escalated, state: CaseState, terms: Terms) -> Address:
    match receiver:
        case Receiver.DUTY_OFFICER:
            return Address(
                roles=frozenset({Role.DEPARTMENT_OFFICER}), organisation=event.department, only_on_duty=True
            )
        case Receiver.DEPARTMENT_HEAD:
            return Address(roles=frozenset({Role.DEPARTMENT_HEAD}), organisation=event.department)
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

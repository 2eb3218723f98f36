"""The mechanism: what may happen to a case (`decide`), and what it is then (`evolve`).

Both are pure. `decide` raises and changes nothing, or returns the events to record; `evolve` folds one entry.
The workflow, the ledger's projection, the auditor and the tests all use these two and nothing else.

The rules stand by subject: `opening`, `responsibility`, `work`, `judgement`, `relief`, `attention`; here is who asks
which of them. For each act there is what the case must be like (`ready`), and what it causes (`decide`).
"""

from datetime import datetime
from typing import assert_never

from domain import access, attention, clocks, judgement, opening, relief, responsibility, work
from domain.case import Actor, CaseState, Direction, OrganisationCode, Stage
from domain.commands import (
    COMMANDS,
    Act,
    Adjudicate,
    AdoptTerms,
    AnswerOrder,
    AnyCommand,
    Cancel,
    CheckIn,
    ConfirmCheckIn,
    DecideAppeal,
    DecideExtension,
    DecideSuspension,
    DepartmentCommand,
    Dispatch,
    DisputeCheckIn,
    Extend,
    FileAppeal,
    Instruct,
    LinkCase,
    Object,
    Plan,
    Rate,
    Refuse,
    Release,
    Reopen,
    ReportDone,
    Resume,
    Rework,
    Sign,
    Suspend,
    TakeAction,
    Transfer,
    Watch,
)
from domain.district import Terms
from domain.errors import DomainError, Refused
from domain.events import Entry, Event, TermsAdopted
from domain.evolution import evolve, evolved, fold
from domain.opening import open_case
from domain.requirements import require_stage
from domain.words import STAGES

__all__ = [
    "ABOUT_AN_OFFICE",
    "AFTER_THE_END",
    "allowed_acts",
    "decide",
    "evolve",
    "fold",
    "open_case",
    "overdue",
    "terms_after",
]


def decide(state: CaseState, command: AnyCommand, at: datetime, terms: Terms) -> list[Event]:
    """Return the events that the act causes now.

    What the clocks had to do before `at` must have been applied already: see `overdue`.

    Raises:
        Forbidden: the person may not.
        Refused: the case is not in a state for it.
        Invalid: the act names something that does not exist, or a time that cannot be.
    """
    access.permit(command.by, command.act, state, getattr(command, "department", None))
    _require_alive(state, command.act)
    match command:
        case Release():
            return opening.release(state, command, at, terms)
        case Refuse():
            return opening.refuse(state, command)
        case Cancel():
            return opening.cancel(state, command)
        case LinkCase():
            return opening.link(state, command)
        case Dispatch():
            return responsibility.dispatch(state, command, at, terms)
        case Object():
            return responsibility.object_to(state, command, at, terms)
        case Adjudicate():
            return responsibility.adjudicate(state, command, at, terms)
        case Transfer():
            return responsibility.transfer(state, command, at, terms)
        case Sign():
            return work.sign(state, command, at)
        case CheckIn():
            return work.check_in(state, command, at, terms)
        case ConfirmCheckIn():
            return work.confirm_check_in(state, command)
        case DisputeCheckIn():
            return work.dispute_check_in(state, command)
        case Plan():
            return work.plan(state, command)
        case TakeAction():
            return work.take_action(state, command, at, terms)
        case ReportDone():
            return work.report_done(state, command, at, terms)
        case Rate():
            return judgement.rate(state, command, at, terms)
        case Rework():
            return judgement.rework(state, command, at, terms)
        case Reopen():
            return judgement.reopen(state, command, at, terms)
        case FileAppeal():
            return judgement.appeal(state, command, at, terms)
        case DecideAppeal():
            return judgement.decide_appeal(state, command, terms)
        case Extend():
            return relief.extend(state, command, at, terms)
        case DecideExtension():
            return relief.decide_extension(state, command, terms)
        case Suspend():
            return relief.suspend(state, command, at, terms)
        case DecideSuspension():
            return relief.decide_suspension(state, command, at, terms)
        case Resume():
            return relief.resume(state, command, at, terms)
        case AdoptTerms():
            return relief.adopt_terms(state, command, at, terms)
        case Watch():
            return attention.watch(state, command)
        case Instruct():
            return attention.instruct(state, command, at, terms)
        case AnswerOrder():
            return attention.answer_order(state, command)
        case _:
            assert_never(command)


def overdue(state: CaseState, at: datetime, terms: Terms) -> list[Event]:
    """Return everything that the clocks had to do before `at`, in the order in which it fell due.

    Each is decided on the state that the one before left: a deemed sign-for may open what a rung then finds.
    """
    events: list[Event] = []
    while (event := clocks.first_overdue(state, at, terms)) is not None:
        events.append(event)
        state = evolved(state, event, at)
    return events


def terms_after(entry: Entry, terms: Terms) -> Terms:
    """Return the terms that hold once the entry has happened."""
    return entry.event.terms if isinstance(entry.event, TermsAdopted) else terms


def allowed_acts(state: CaseState, actor: Actor, at: datetime, terms: Terms) -> list[tuple[Act, str | None]]:
    """Return the acts that this person may do now, each with the department that it concerns, if any.

    What reaches many cases at once (`adopt_terms`) is not offered on one.
    """
    offices: tuple[str | None, ...] = (None, *state.departments())
    if state.call.direction is Direction.UP and state.assignments:
        offices = (*offices, state.call.township)
    return [
        (act, office)
        for act in Act
        if act is not Act.ADOPT_TERMS
        for office in offices
        if (office is not None) == (act in ABOUT_AN_OFFICE) and _allows(state, actor, act, office, at, terms)
    ]


ABOUT_AN_OFFICE = frozenset(
    act for act, command in COMMANDS.items() if issubclass(command, DepartmentCommand)
) | {Act.SUSPEND}
"""Acts that name an office of the case."""

AFTER_THE_END = frozenset(
    {Act.REOPEN, Act.APPEAL, Act.DECIDE_APPEAL, Act.ACTION, Act.ANSWER_ORDER, Act.ADOPT_TERMS}
)
"""What may be done once a case has ended: an action only to settle a follow-up, newer terms only while a clock runs."""
_WHILE_SUSPENDED = frozenset(
    {Act.RESUME, Act.WATCH, Act.INSTRUCT, Act.ANSWER_ORDER, Act.LINK, Act.CANCEL, Act.ADOPT_TERMS}
)


def _require_alive(state: CaseState, act: Act) -> None:
    if state.is_over and act not in AFTER_THE_END:
        raise Refused("case_over", f"案件{STAGES[state.stage]},不能再办理。")
    if state.stage is Stage.SUSPENDED and act not in _WHILE_SUSPENDED:
        raise Refused("suspended", "案件正在挂账,时钟暂停;恢复后才能办理。")


def _allows(
    state: CaseState, actor: Actor, act: Act, department: str | None, at: datetime, terms: Terms
) -> bool:
    try:
        access.permit(actor, act, state, department)
        _require_ready(state, actor, act, OrganisationCode(department or ""), at, terms)
    except DomainError:
        return False
    return True


def _require_ready(
    state: CaseState, actor: Actor, act: Act, department: OrganisationCode, at: datetime, terms: Terms
) -> None:
    """Raise unless the state admits the act, whatever its body says."""
    _require_alive(state, act)
    match act:
        case Act.RELEASE:
            opening.releasable(state)
        case Act.REFUSE:
            opening.refusable(state)
        case Act.CANCEL:
            opening.cancellable(state)
        case Act.DISPATCH:
            require_stage(state, Stage.CALLED)
        case Act.OBJECT:
            responsibility.objectable(state, department, terms)
        case Act.ADJUDICATE:
            responsibility.adjudicable(state, department)
        case Act.TRANSFER:
            responsibility.transferable(state, department)
        case Act.SIGN:
            work.signable(state, department)
        case Act.CHECK_IN:
            work.can_check_in(state, department)
        case Act.CONFIRM_CHECK_IN:
            work.unconfirmed(state, department)
        case Act.DISPUTE_CHECK_IN:
            work.disputable(state, department)
        case Act.PLAN:
            work.can_plan(state, department)
        case Act.ACTION:
            work.can_act(state, department)
        case Act.DONE:
            work.can_finish(state, department)
        case Act.RATE:
            judgement.ratable(state, department)
        case Act.REWORK:
            judgement.can_rework(state, department)
        case Act.REOPEN:
            judgement.reopenable(state, actor, at, terms)
        case Act.APPEAL:
            judgement.appealable(state, department, at, terms)
        case Act.DECIDE_APPEAL:
            judgement.decidable_appeal(state, department)
        case Act.EXTEND:
            relief.extendable(state, department, at, terms)
        case Act.DECIDE_EXTENSION:
            relief.decidable_extension(state, department)
        case Act.SUSPEND:
            relief.suspendable(state, department, terms)
        case Act.DECIDE_SUSPENSION:
            relief.decidable_suspension(state)
        case Act.RESUME:
            relief.resumable(state)
        case Act.ANSWER_ORDER:
            attention.unanswered(state, department)
        case Act.INSTRUCT:
            attention.instructable(state, actor, terms)
        case Act.LINK | Act.WATCH | Act.ADOPT_TERMS:
            return
        case _:
            assert_never(act)

"""领导关注, 批示, and supervision orders with their answers (domain.md §2, §4)."""

from datetime import datetime

from domain import clocks
from domain.case import Actor, CaseState, OrganisationCode, Role, SupervisionOrder
from domain.commands import AnswerOrder, Instruct, Watch
from domain.district import Terms
from domain.errors import Forbidden, Invalid, Refused
from domain.events import Event, Instructed, OrderAnswered, Watched
from domain.policy import ClockKind
from domain.requirements import assigned, not_in_policy


def watch(state: CaseState, command: Watch) -> list[Event]:
    """领导关注, or no longer."""
    if (command.by.id in state.watchers) is command.watching:
        raise Refused("watching_already", "您已关注该案件。" if command.watching else "您未关注该案件。")
    return [Watched(watching=command.watching)]


def instructable(state: CaseState, by: Actor, terms: Terms) -> None:
    """Raise unless the person is a leader, or may issue a supervision order to somebody."""
    if any(post.role is Role.LEADER for post in by.posts):
        return
    if terms.policy.limits.answer is None:
        raise not_in_policy("督办单答复")
    if not state.assignments:
        raise Refused("not_dispatched", "案件尚未派单。")


def instruct(state: CaseState, command: Instruct, at: datetime, terms: Terms) -> list[Event]:
    """批示; as a supervision order it names a department, whose head must answer in time."""
    instructable(state, command.by, terms)
    if command.department is not None:
        assigned(state, command.department)
    if not command.answer_required:
        if not any(post.role is Role.LEADER for post in command.by.posts):
            raise Forbidden(
                "instructions_are_for_leaders", "批示由领导作出;协调小组请签发督办单(answer_required)。"
            )
        return [Instructed(text=command.text, department=command.department)]
    limit = terms.policy.limits.answer
    if limit is None:
        raise not_in_policy("督办单答复")
    if command.department is None:
        raise Invalid("missing_field", "督办单须指明部门(department)。")
    clock = clocks.step_clock(state, ClockKind.ORDER, limit, at, terms, department=command.department)
    return [
        Instructed(
            text=command.text,
            department=command.department,
            order=len(state.orders) + 1,
            clocks=(clock,),
        )
    ]


def unanswered(state: CaseState, department: OrganisationCode) -> list[SupervisionOrder]:
    """Return the department's supervision orders that wait for an answer, oldest first."""
    found = [each for each in state.orders if each.department == department and each.answered_at is None]
    if not found:
        raise Refused("no_order", "本部门没有待答复的督办单。")
    return found


def answer_order(state: CaseState, command: AnswerOrder) -> list[Event]:
    """答复督办单."""
    waiting = unanswered(state, command.department)
    number = waiting[0].number if command.number is None else command.number
    if all(each.number != number for each in waiting):
        raise Invalid("unknown_order", f"本部门没有编号为 {number} 的待答复督办单。")
    return [OrderAnswered(number=number, department=command.department, text=command.text)]

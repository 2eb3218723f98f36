"""What an office does on a case: sign, check in, plan, enforce, report done (domain.md §3, §5)."""

from datetime import datetime

from domain import clocks
from domain.calendar import SHANGHAI
from domain.case import (
    Action,
    ActionKind,
    Assignment,
    Attachment,
    CaseState,
    CheckIn,
    Clock,
    Direction,
    FollowUp,
    OrganisationCode,
)
from domain.commands import CheckIn as CheckInCommand
from domain.commands import ConfirmCheckIn, DisputeCheckIn, Plan, ReportDone, Sign, TakeAction
from domain.district import Terms
from domain.errors import Invalid, Refused
from domain.events import (
    ActionTaken,
    CheckedIn,
    CheckInConfirmed,
    CheckInDisputed,
    DoneReported,
    Event,
    PlanAgreed,
    Signed,
)
from domain.policy import ClockKind
from domain.requirements import assigned
from domain.words import STAGES


def signable(state: CaseState, department: OrganisationCode) -> Assignment:
    """Return the assignment that waits for a signature."""
    assignment = assigned(state, department)
    if assignment.signed_at is not None:
        raise Refused("already_signed", "本部门已签收,无需重复签收。")
    if assignment.check_in is not None:
        raise Refused("already_checked_in", "本部门已报到,无需再签收。")
    return assignment


def sign(state: CaseState, command: Sign, at: datetime) -> list[Event]:
    """签收."""
    signable(state, command.department)
    clock = state.clock(ClockKind.SIGN, command.department)
    return [Signed(department=command.department, late=clock is not None and clock.is_red(at))]


# --- check-in ----------------------------------------------------------------------------------------------


def can_check_in(state: CaseState, department: OrganisationCode) -> Assignment:
    """Return the assignment of a department whose people are expected."""
    assignment = assigned(state, department)
    if state.call.direction is Direction.DOWN:
        raise Refused("no_check_in", "部门交办镇街的事项由镇街就地办理,无需报到。")
    if not assignment.signed:
        raise Refused("not_signed", "请先签收,再登记报到。")
    if assignment.check_in is not None and assignment.check_in.stands:
        raise Refused("already_checked_in", "本部门已登记报到,无需重复登记。")
    return assignment


def check_in(state: CaseState, command: CheckInCommand, at: datetime, terms: Terms) -> list[Event]:
    """报到: it counts once the township has confirmed it, or kept silent for the limit."""
    assignment = can_check_in(state, command.department)
    arrived_at = command.arrived_at or at
    if arrived_at > at:
        raise Invalid("time_in_future", "到达时间不能晚于当前时间。")
    if arrived_at < assignment.dispatched_at:
        raise Invalid("time_before_dispatch", "到达时间不能早于派单时间。")
    return [
        CheckedIn(
            department=command.department,
            officers=command.officers,
            arrived_at=arrived_at,
            note=command.note,
            clocks=(clocks.confirm_clock(state, command.department, at, terms),),
        )
    ]


def unconfirmed(state: CaseState, department: OrganisationCode) -> CheckIn:
    """Return the check-in on which the township has not had its say."""
    check_in = assigned(state, department).check_in
    if check_in is None or not check_in.stands:
        raise Refused("not_checked_in", "该部门尚未登记报到。")
    if check_in.counts:
        raise Refused("already_confirmed", "该部门的报到已确认。")
    return check_in


def confirm_check_in(state: CaseState, command: ConfirmCheckIn) -> list[Event]:
    """确认报到."""
    unconfirmed(state, command.department)
    return [CheckInConfirmed(department=command.department, by_silence=False)]


def disputable(state: CaseState, department: OrganisationCode) -> None:
    """Raise unless the township may still say that they did not come."""
    unconfirmed(state, department)
    if assigned(state, department).rating is not None:
        raise Refused("already_rated", "该部门已评价,评价提交后不可修改。")


def dispute_check_in(state: CaseState, command: DisputeCheckIn) -> list[Event]:
    """报到异议."""
    disputable(state, command.department)
    return [CheckInDisputed(department=command.department, reason=command.reason)]


# --- enforcement -------------------------------------------------------------------------------------------


def at_work(state: CaseState, department: OrganisationCode) -> Assignment:
    """Return the assignment of an office that is on the spot and not done."""
    assignment = assigned(state, department)
    if assignment.done_at is not None:
        raise Refused("already_done", "本部门已报告办理完成;如需继续办理,请由镇街退回重办。")
    if state.call.direction is Direction.DOWN:
        if not assignment.signed:
            raise Refused("not_signed", "请先签收,再登记办理情况。")
    elif assignment.check_in is None or not assignment.check_in.stands:
        raise Refused("not_checked_in", "请先到镇街报到,再登记办理情况。")
    return assignment


def can_plan(state: CaseState, department: OrganisationCode) -> None:
    """Raise unless the office leads and is on the spot."""
    if not at_work(state, department).lead:
        raise Refused("not_the_lead", "处置方案由牵头单位登记。")


def plan(state: CaseState, command: Plan) -> list[Event]:
    """方案."""
    can_plan(state, command.department)
    return [PlanAgreed(department=command.department, text=command.text)]


def can_act(state: CaseState, office: OrganisationCode) -> None:
    """Raise unless the office may record an action now: at work, or with a follow-up of its own to settle.

    The township that called records its own part, too (domain.md §7), once somebody has been dispatched.
    """
    if any(each.department == office for each in open_follow_ups(state)):
        return
    if state.is_over:
        raise Refused("case_over", f"案件{STAGES[state.stage]},不能再办理。")
    if _is_calling_township(state, office):
        if not state.assignments:
            raise Refused("not_dispatched", "案件尚未派单。")
        return
    at_work(state, office)


def _is_calling_township(state: CaseState, office: OrganisationCode) -> bool:
    return state.call.direction is Direction.UP and office == state.call.township


def open_follow_ups(state: CaseState) -> list[FollowUp]:
    """Return what still has to be looked at."""
    return [each for each in state.follow_ups if each.settled_at is None]


def take_action(state: CaseState, command: TakeAction, at: datetime, terms: Terms) -> list[Event]:
    """联合执法: one action with its result; one with a date of its own opens a follow-up that a clock watches."""
    if command.settles is not None:
        _require_own_follow_up(state, command)
    elif state.is_over:
        raise Refused("case_over", f"案件{STAGES[state.stage]},只能登记后续跟踪的结果(settles)。")
    elif not _is_calling_township(state, command.department):
        at_work(state, command.department)
    elif not state.assignments:
        raise Refused("not_dispatched", "案件尚未派单。")
    if command.follow_up_on is not None and command.follow_up_on < at.astimezone(SHANGHAI).date():
        raise Invalid("time_in_past", "整改期限不能早于今天。")
    if command.kind is ActionKind.DEMOLITION_NOTICE and command.follow_up_on is None:
        raise Invalid("follow_up_missing", "限期拆除通知须写明整改期限(follow_up_on)。")
    _require_known_evidence(state, command.attachments)
    action = Action(
        kind=command.kind,
        department=command.department,
        description=command.description,
        result=command.result,
        attachments=command.attachments,
        follow_up_on=command.follow_up_on,
        settles=command.settles,
        at=at,
    )
    started: tuple[Clock, ...] = ()
    if command.follow_up_on is not None:
        number = len(state.follow_ups) + 1
        clock = clocks.follow_up_clock(state, command.department, command.follow_up_on, number, at, terms)
        started = (clock,) if clock else ()
    return [ActionTaken(action=action, clocks=started)]


def _require_own_follow_up(state: CaseState, command: TakeAction) -> None:
    found = next((each for each in state.follow_ups if each.number == command.settles), None)
    if found is None or found.department != command.department:
        raise Invalid("unknown_follow_up", f"本部门没有编号为 {command.settles} 的后续跟踪事项。")
    if found.settled_at is not None:
        raise Refused("already_settled", "该后续跟踪事项已登记结果。")


# --- done --------------------------------------------------------------------------------------------------


def can_finish(state: CaseState, department: OrganisationCode) -> Assignment:
    """Return the assignment of an office that has done something since it was called, or called back."""
    assignment = at_work(state, department)
    if not assignment.acted_in_round:
        raise Refused("no_action", "请先登记本部门采取的措施及结果,再报告办理完成。")
    return assignment


def report_done(state: CaseState, command: ReportDone, at: datetime, terms: Terms) -> list[Event]:
    """办理完成. The lead's word stands for the matter, and needs what the item says closes it (domain.md §5)."""
    assignment = can_finish(state, command.department)
    _require_known_evidence(state, command.attachments)
    if assignment.lead and (missing := missing_evidence(state, command.attachments)):
        raise Refused(
            "evidence_missing",
            f"办结条件为“{_closing_condition(state)}”,尚缺佐证材料:{'、'.join(missing)}。"
            "请在附件中以 evidence 注明材料名称。",
        )
    others_done = all(each.done_at for each in state.assignments if each.department != command.department)
    started = (clocks.rating_clock(state, at, terms),) if others_done else ()
    return [
        DoneReported(
            department=command.department,
            result=command.result,
            attachments=command.attachments,
            clocks=started,
        )
    ]


def missing_evidence(state: CaseState, given: tuple[Attachment, ...] = ()) -> tuple[str, ...]:
    """Return which of the item's evidence neither an action of anybody nor these attachments show."""
    listed = state.call.responsibility
    if listed is None:
        return ()
    shown = {each.evidence for each in given}
    shown |= {name for each in state.assignments for name in each.evidence}
    shown |= {attachment.evidence for action in state.actions for attachment in action.attachments}
    return tuple(name for name in listed.evidence if name not in shown)


def _require_known_evidence(state: CaseState, attachments: tuple[Attachment, ...]) -> None:
    """A name that the item does not ask for is a slip of the pen that would be noticed too late."""
    listed = state.call.responsibility
    known = listed.evidence if listed else ()
    for each in attachments:
        if each.evidence and each.evidence not in known:
            asked = "、".join(known) or "无"
            raise Invalid("unknown_evidence", f"事项不要求佐证材料“{each.evidence}”;所要求的为:{asked}。")


def _closing_condition(state: CaseState) -> str:
    return state.call.responsibility.closing_condition if state.call.responsibility else ""

"""Whose job it is: dispatch by the list, objections and their ruling, transfer (domain.md §3, §5)."""

from datetime import datetime

from domain import clocks
from domain.case import Assignment, CaseState, Clock, Direction, Objection, OrganisationCode, Stage
from domain.commands import Adjudicate, Dispatch, Object, Transfer
from domain.district import OrganisationKind, Terms
from domain.errors import Invalid, Refused
from domain.events import Adjudicated, Event, Objected, Transferred
from domain.policy import ClockKind
from domain.requirements import assigned, is_kind, not_in_policy, require_department, require_stage

# --- dispatch ----------------------------------------------------------------------------------------------


def dispatch(state: CaseState, command: Dispatch, at: datetime, terms: Terms) -> list[Event]:
    """Name one lead and the cooperating departments; to differ from the list needs a reason."""
    require_stage(state, Stage.CALLED)
    lead, cooperating = _who(state, command)
    everyone = (lead, *cooperating)
    for office in everyone:
        _require_assignable(state, office, terms)
    if len(set(everyone)) != len(everyone):
        raise Invalid("department_twice", "同一部门不能重复派单,牵头单位也不能同时为配合单位。")
    if _differs_from_list(state, lead, cooperating) and not command.reason:
        raise Invalid("reason_missing", "派单与事项清单的牵头或配合单位不一致,须说明理由(reason)。")
    return [
        clocks.dispatched(
            state,
            lead,
            cooperating,
            command.limit_class or state.limit_class,
            at,
            terms,
            note=command.note,
            reason=command.reason,
        )
    ]


def _differs_from_list(
    state: CaseState, lead: OrganisationCode, cooperating: tuple[OrganisationCode, ...]
) -> bool:
    """Departments that the call itself named may come besides those of the list without another reason."""
    listed, asked = state.call.responsibility, set(state.call.departments)
    if listed is None or state.call.direction is Direction.DOWN:
        return False
    others = set(cooperating)
    return (
        lead != listed.lead
        or not set(listed.cooperating) <= others
        or not others - set(listed.cooperating) <= asked
    )


def _who(state: CaseState, command: Dispatch) -> tuple[OrganisationCode, tuple[OrganisationCode, ...]]:
    listed = state.call.responsibility
    if state.call.direction is Direction.DOWN:
        return command.lead or state.call.township, command.cooperating or ()
    if command.lead is not None:
        return command.lead, command.cooperating or ()
    asked = state.call.departments
    if listed is None and not asked:
        raise Invalid("lead_missing", "该案件未列事项,请指定牵头单位(lead)。")
    lead, others = (listed.lead, listed.cooperating) if listed else (asked[0], asked[1:])
    if command.cooperating is not None:
        return lead, command.cooperating
    return lead, (*others, *(each for each in asked if each != lead and each not in others))


def _require_assignable(state: CaseState, office: OrganisationCode, terms: Terms) -> None:
    if state.call.direction is Direction.UP:
        require_department(terms, office)
    elif not is_kind(terms, office, OrganisationKind.TOWNSHIP):
        raise Invalid("unknown_township", f"镇街“{office}”不存在,请从组织机构中选择。")


# --- objection ---------------------------------------------------------------------------------------------


def objectable(state: CaseState, department: OrganisationCode, terms: Terms) -> Assignment:
    """Return the assignment of a department that may still say that it is not its job."""
    if terms.policy.limits.objection is None:
        raise not_in_policy("异议")
    assignment = assigned(state, department)
    _require_upward(state)
    if open_objection(state, department) is not None:
        raise Refused("objection_open", "本部门的异议正在处理,请等待裁定。")
    if assignment.bound:
        raise Refused("ruling_binds", "协调小组已经裁定,裁定具有约束力,不能再提异议。")
    if assignment.check_in is not None and assignment.check_in.stands:
        raise Refused("already_checked_in", "本部门已报到,不能再退单;确有困难请申请转办或延期。")
    if assignment.done_at is not None or assignment.acted_in_round:
        raise Refused("work_has_begun", "本部门已开展办理,不能再退单。")
    return assignment


def object_to(state: CaseState, command: Object, at: datetime, terms: Terms) -> list[Event]:
    """Say that it is another's, on what basis and whose; the department's clocks go on.

    The dispatcher has the limit to settle it. It goes straight to the coordination group when this department's
    objection was turned down once, or when so many departments have declined the lead as the policy says.
    """
    assignment = objectable(state, command.department, terms)
    limits = terms.policy.limits
    require_department(terms, command.proposed)
    if command.proposed == command.department:
        raise Invalid("proposed_itself", "建议承办单位不能是本部门。")
    declined = {each.department for each in state.objections if each.as_lead}
    if assignment.lead:
        declined.add(command.department)
    again = any(each.department == command.department for each in state.objections)
    before_group = again or len(declined) >= terms.policy.objections_to_group
    kind, limit = (
        (ClockKind.RULING, limits.ruling) if before_group else (ClockKind.OBJECTION, limits.objection)
    )
    assert limit is not None  # noqa: S101 - a policy has both or neither
    return [
        Objected(
            number=len(state.objections) + 1,
            department=command.department,
            basis=command.basis,
            reason=command.reason,
            proposed=command.proposed,
            before_group=before_group,
            clocks=(clocks.step_clock(state, kind, limit, at, terms, department=command.department),),
        )
    ]


def open_objection(state: CaseState, department: str) -> Objection | None:
    """Return the department's objection that nobody has decided, or None."""
    return next((each for each in state.objections if each.is_open and each.department == department), None)


def adjudicable(state: CaseState, department: OrganisationCode) -> Objection:
    """Return the open objection of a department."""
    assigned(state, department)
    objection = open_objection(state, department)
    if objection is None:
        raise Refused("no_objection", "该部门没有待裁定的异议。")
    return objection


def adjudicate(state: CaseState, command: Adjudicate, at: datetime, terms: Terms) -> list[Event]:
    """Decide an objection; the coordination group's ruling binds. Work that is done is not given to another."""
    objection = adjudicable(state, command.department)
    binding = objection.before_group
    if not command.uphold:
        if command.owner is not None:
            raise Invalid("owner_without_upholding", "驳回异议时不能另行指定承办单位。")
        rejected = Adjudicated(
            number=objection.number,
            department=command.department,
            upheld=False,
            reason=command.reason,
            binding=binding,
        )
        return [rejected]
    if assigned(state, command.department).done_at is not None:
        raise Refused("already_done", "该部门已报告办理完成,不再改派;请驳回其异议。")
    owner = command.owner or objection.proposed
    leads, started = _successor(state, command.department, owner, at, terms)
    return [
        Adjudicated(
            number=objection.number,
            department=command.department,
            upheld=True,
            reason=command.reason,
            owner=owner,
            owner_leads=leads,
            owner_resident=terms.is_stationed(owner, state.call.township),
            binding=binding,
            clocks=started,
        )
    ]


def _successor(
    state: CaseState, department: OrganisationCode, owner: OrganisationCode, at: datetime, terms: Terms
) -> tuple[bool, tuple[Clock, ...]]:
    """Return whether who takes the place leads, and the clocks that start for it.

    The case's own clock is untouched. One that is on the case already goes on with the clocks that it has.
    """
    require_department(terms, owner)
    if owner == department:
        raise Invalid("owner_is_the_same", "接办单位不能是原承办部门。")
    leads = assigned(state, department).lead
    there = state.assignment(owner)
    if there is not None and there.done_at is not None:
        raise Refused("owner_is_done", "接办单位已报告办理完成,不能再接办;请另选单位,或由镇街先退回重办。")
    if there is None:
        return leads, clocks.department_clocks(state, owner, state.limit_class, at, terms)
    return leads, ()


def _require_upward(state: CaseState) -> None:
    if state.call.direction is Direction.DOWN:
        raise Refused("not_for_downward_calls", "部门交办镇街的事项在准入时审查,不能退单或转办。")


# --- transfer ----------------------------------------------------------------------------------------------


def transferable(state: CaseState, department: OrganisationCode) -> Assignment:
    """Return the assignment of a department that has not come yet."""
    assignment = assigned(state, department)
    _require_upward(state)
    if open_objection(state, department) is not None:
        raise Refused("objection_open", "该部门的异议正在处理,请先裁定。")
    if (assignment.check_in is not None and assignment.check_in.stands) or assignment.acted_in_round:
        raise Refused("already_checked_in", "该部门已报到办理,不能转办。")
    return assignment


def transfer(state: CaseState, command: Transfer, at: datetime, terms: Terms) -> list[Event]:
    """Let another department take the place of one that has not come yet."""
    transferable(state, command.department)
    leads, started = _successor(state, command.department, command.to, at, terms)
    return [
        Transferred(
            department=command.department,
            to=command.to,
            leads=leads,
            resident=terms.is_stationed(command.to, state.call.township),
            reason=command.reason,
            clocks=started,
        )
    ]

"""Who may do what (domain.md §7): deny unless a rule here allows.

Two questions: which cases may this person see (`sight`), and may this person do this act on this case (`permit`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from domain.case import Actor, CaseState, Direction, Role, Stage
from domain.commands import Act
from domain.errors import Forbidden

_READS_DISTRICT = frozenset(
    {Role.DISPATCHER, Role.COORDINATOR, Role.LEADER, Role.SUPERVISOR, Role.AUDITOR},
)
_TOWNSHIP = frozenset({Role.TOWNSHIP_OFFICER, Role.TOWNSHIP_APPROVER})
_APPROVERS = frozenset({Role.TOWNSHIP_APPROVER})
_DEPARTMENT = frozenset({Role.DEPARTMENT_OFFICER, Role.DEPARTMENT_HEAD})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """Which cases a person may see: the union of all that is set.

    Attributes:
        everything: every case of every district.
        district: every case of this district.
        townships: cases of these townships, in `home`.
        departments: cases with an assignment of these departments, in `home`.
        stationed: (department, township) pairs of resident officers, in `home`.
        called_in_by: cases that this person called in.
        home: the person's own district; codes mean something only within it.
    """

    home: str
    everything: bool = False
    district: str | None = None
    townships: frozenset[str] = frozenset()
    departments: frozenset[str] = frozenset()
    stationed: frozenset[tuple[str, str]] = frozenset()
    called_in_by: str = ""


def sight(actor: Actor) -> Sight:
    """Return which cases the person may see. Nobody sees nothing by mistake: no post, only the own calls."""
    district_wide = [post for post in actor.posts if post.role in _READS_DISTRICT]
    return Sight(
        home=actor.district,
        everything=any(post.city for post in district_wide),
        district=actor.district if district_wide else None,
        townships=frozenset(post.organisation for post in actor.posts if post.role in _TOWNSHIP),
        departments=frozenset(post.organisation for post in actor.posts if post.role in _DEPARTMENT),
        stationed=frozenset(
            (post.organisation, post.township)
            for post in actor.posts
            if post.role is Role.RESIDENT_OFFICER and post.township
        ),
        called_in_by=actor.id,
    )


def may_see(actor: Actor, state: CaseState) -> bool:
    """Whether the person may read this case."""
    seen = sight(actor)
    if seen.everything or seen.called_in_by == state.caller.id:
        return True
    if state.call.district != seen.home:
        return False
    assigned = {each.department for each in state.assignments}
    assigned |= {each.assignment.department for each in state.former}
    return bool(
        seen.district
        or state.call.caller_office in seen.departments
        or state.call.township in seen.townships
        or assigned & seen.departments
        or any(dep in assigned and town == state.call.township for dep, town in seen.stationed)
    )


def sees_contact(actor: Actor, state: CaseState) -> bool:
    """Whether the person works on the case, and so sees the caller's name and telephone unmasked (domain.md §7)."""
    dispatches = _is(actor, state, Role.DISPATCHER)
    works_on_it = _of_township(actor, state) or any(
        _of_department(actor, state, each.department) for each in state.assignments
    )
    return dispatches or works_on_it or actor.id == state.caller.id


def may_call(actor: Actor, district: str, township: str, *, department: str | None = None) -> bool:
    """Whether the person may call for this township, or on behalf of a department ask something of it.

    A township's officers call, its grid workers report to it, citizens report to any; a channel speaks for all.
    A department's own people ask.
    """
    if actor.district != district:
        return False
    if department is not None:
        return any(post.role in _DEPARTMENT and post.organisation == department for post in actor.posts)
    return any(
        (post.role in _TOWNSHIP | {Role.GRID_WORKER} and post.organisation == township)
        or post.role in {Role.INTEGRATION, Role.CITIZEN}
        for post in actor.posts
    )


def require_may_adopt(actor: Actor, district: str) -> None:
    """Raise `role_may_not` unless the person may let newer terms hold for a district's running cases."""
    roles = {Role.ADMINISTRATOR, Role.COORDINATOR}
    if not any(post.role in roles and (post.city or actor.district == district) for post in actor.posts):
        raise Forbidden("role_may_not", "您的岗位不能执行此操作;该操作由管理员或协调小组办理。")


def is_group(actor: Actor) -> bool:
    """Whether the person decides for the coordination group."""
    return any(post.role is Role.COORDINATOR for post in actor.posts)


def permit(actor: Actor, act: Act, state: CaseState, department: str | None = None) -> None:
    """Say nothing if the person may do the act on this case.

    Args:
        department: the department that the act concerns, for the acts of departments.

    Raises:
        Forbidden: `case_not_visible`, `not_your_department` or `role_may_not`.
    """
    rule = _RULES[act]
    if not may_see(actor, state) and not (rule.unseen and rule.allows(actor, state, department)):
        raise Forbidden("case_not_visible", "您无权查看或办理该案件。")
    if rule.allows(actor, state, department):
        return
    if rule.of_department and any(post.role in _DEPARTMENT | {Role.RESIDENT_OFFICER} for post in actor.posts):
        raise Forbidden("not_your_department", "只能代表本部门办理;请由该部门的工作人员操作。")
    who = rule.who if isinstance(rule.who, str) else rule.who(state, department)
    raise Forbidden("role_may_not", f"您的岗位不能执行此操作;该操作由{who}办理。")


def _here(actor: Actor, state: CaseState) -> bool:
    return actor.district == state.call.district


def _is(actor: Actor, state: CaseState, *roles: Role) -> bool:
    """Whether the person holds one of the roles in the case's district, or at city level (domain.md §7)."""
    return any(post.role in roles and (post.city or _here(actor, state)) for post in actor.posts)


def _of_township(actor: Actor, state: CaseState, roles: frozenset[Role] = _TOWNSHIP) -> bool:
    return _here(actor, state) and any(
        post.role in roles and post.organisation == state.call.township for post in actor.posts
    )


def _of_department(actor: Actor, state: CaseState, department: str | None) -> bool:
    return _here(actor, state) and any(
        post.organisation == department
        and (
            post.role in _DEPARTMENT | _TOWNSHIP
            or (post.role is Role.RESIDENT_OFFICER and post.township == state.call.township)
        )
        for post in actor.posts
    )


def _heads(actor: Actor, state: CaseState, office: str | None) -> bool:
    """Whether the person answers for the office: a department's head, a township's approver."""
    return _here(actor, state) and any(
        post.organisation == office and post.role in {Role.DEPARTMENT_HEAD, Role.TOWNSHIP_APPROVER}
        for post in actor.posts
    )


def _calls(actor: Actor, state: CaseState, *, alone: bool = False) -> bool:
    """Whether the person is on the caller's side.

    Args:
        alone: of a citizen's report only the citizen, for what is the caller's own judgement.
    """
    call = state.call
    if call.direction is Direction.DOWN:
        return _of_department(actor, state, call.caller_office)
    by_citizen = any(post.role is Role.CITIZEN for post in state.caller.posts)
    if alone and by_citizen:
        return actor.id == state.caller.id
    return _of_township(actor, state) or (by_citizen and actor.id == state.caller.id)


def _releases(actor: Actor, state: CaseState) -> bool:
    if state.stage is Stage.AWAITING_ADMISSION:
        return _is(actor, state, Role.COORDINATOR)
    return _of_township(actor, state, _APPROVERS)


def _refuses(actor: Actor, state: CaseState) -> bool:
    match state.stage:
        case Stage.AWAITING_RELEASE:
            return _of_township(actor, state, _APPROVERS)
        case Stage.AWAITING_ADMISSION:
            return _is(actor, state, Role.COORDINATOR)
        case _:
            return _is(actor, state, Role.DISPATCHER)


def _is_before_group(state: CaseState, department: str | None) -> bool:
    return any(
        each.before_group for each in state.objections if each.is_open and each.department == department
    )


def _adjudicates(actor: Actor, state: CaseState, department: str | None) -> bool:
    """The dispatcher first, then the coordination group; the dispatcher has no say any more then."""
    role = Role.COORDINATOR if _is_before_group(state, department) else Role.DISPATCHER
    return _is(actor, state, role)


def _approves_extension(actor: Actor, state: CaseState) -> bool:
    """The caller's side and the coordination group; never the office that asks for the time itself."""
    if _is(actor, state, Role.COORDINATOR):
        return True
    if state.call.direction is Direction.DOWN:
        return _heads(actor, state, state.call.caller_office)
    return _of_township(actor, state, _APPROVERS)


@dataclass(frozen=True, slots=True)
class _Rule:
    """Who may do an act.

    Attributes:
        unseen: also without seeing the case: what reaches all cases at once.
    """

    who: str | Callable[[CaseState, str | None], str]
    allows: Callable[[Actor, CaseState, str | None], bool]
    of_department: bool = False
    unseen: bool = False


_DISPATCHER = _Rule("指挥中心派单员", lambda actor, state, _: _is(actor, state, Role.DISPATCHER))
_COORDINATOR = _Rule("区协调小组", lambda actor, state, _: _is(actor, state, Role.COORDINATOR))
_TOWNSHIP_OF_CASE = _Rule("呼叫的镇街", lambda actor, state, _: _of_township(actor, state))
_CALLER = _Rule("呼叫人", lambda actor, state, _: _calls(actor, state))
_JUDGE = _Rule("呼叫人", lambda actor, state, _: _calls(actor, state, alone=True))
_OWN_DEPARTMENT = _Rule("承办部门", _of_department, of_department=True)
_HEAD = _Rule("承办部门负责人", _heads, of_department=True)

_REFUSERS = {Stage.AWAITING_RELEASE: "镇街审批人", Stage.AWAITING_ADMISSION: "协调小组"}
_RULES: dict[Act, _Rule] = {
    Act.RELEASE: _Rule(
        lambda state, _: "协调小组" if state.stage is Stage.AWAITING_ADMISSION else "镇街审批人",
        lambda actor, state, _: _releases(actor, state),
    ),
    Act.REFUSE: _Rule(
        lambda state, _: _REFUSERS.get(state.stage, "派单员"), lambda actor, state, _: _refuses(actor, state)
    ),
    Act.DISPATCH: _DISPATCHER,
    Act.CANCEL: _CALLER,
    Act.LINK: _DISPATCHER,
    Act.TRANSFER: _DISPATCHER,
    Act.OBJECT: _OWN_DEPARTMENT,
    Act.ADJUDICATE: _Rule(
        lambda state, department: (
            "协调小组" if _is_before_group(state, department) else "派单员(逾期未处理的转协调小组)"
        ),
        _adjudicates,
    ),
    Act.SIGN: _OWN_DEPARTMENT,
    Act.CHECK_IN: _OWN_DEPARTMENT,
    Act.CONFIRM_CHECK_IN: _TOWNSHIP_OF_CASE,
    Act.DISPUTE_CHECK_IN: _TOWNSHIP_OF_CASE,
    Act.PLAN: _OWN_DEPARTMENT,
    Act.ACTION: _OWN_DEPARTMENT,
    Act.DONE: _OWN_DEPARTMENT,
    Act.RATE: _JUDGE,
    Act.REWORK: _JUDGE,
    Act.REOPEN: _Rule(
        "呼叫人或协调小组",
        lambda actor, state, _: _calls(actor, state) or _is(actor, state, Role.COORDINATOR),
    ),
    Act.APPEAL: _HEAD,
    Act.DECIDE_APPEAL: _Rule("督查", lambda actor, state, _: _is(actor, state, Role.SUPERVISOR)),
    Act.EXTEND: _OWN_DEPARTMENT,
    Act.DECIDE_EXTENSION: _Rule(
        "呼叫镇街审批人和协调小组", lambda actor, state, _: _approves_extension(actor, state)
    ),
    Act.SUSPEND: _OWN_DEPARTMENT,
    Act.DECIDE_SUSPENSION: _COORDINATOR,
    Act.RESUME: _COORDINATOR,
    Act.WATCH: _Rule(
        "领导、协调小组或督查",
        lambda actor, state, _: _is(actor, state, Role.LEADER, Role.COORDINATOR, Role.SUPERVISOR),
    ),
    Act.INSTRUCT: _Rule(
        "领导或协调小组", lambda actor, state, _: _is(actor, state, Role.LEADER, Role.COORDINATOR)
    ),
    Act.ANSWER_ORDER: _HEAD,
    Act.ADOPT_TERMS: _Rule(
        "管理员或协调小组",
        lambda actor, state, _: _is(actor, state, Role.ADMINISTRATOR, Role.COORDINATOR),
        unseen=True,
    ),
}

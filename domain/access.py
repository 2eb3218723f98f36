"""Who may do what (domain.md §7): deny unless a rule here allows.

Two questions: which cases may this person see (`sight`), and may this person do this act on this case (`permit`).
"""

from collections.abc import Callable
from dataclasses import dataclass

from domain.case import Actor, CaseState, Role
from domain.commands import Act
from domain.errors import Forbidden

_READS_DISTRICT = frozenset(
    {Role.DISPATCHER, Role.COORDINATOR, Role.LEADER, Role.SUPERVISOR, Role.AUDITOR},
)
_TOWNSHIP = frozenset({Role.TOWNSHIP_OFFICER, Role.TOWNSHIP_APPROVER})
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
    return bool(
        seen.district
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


def may_call(actor: Actor, district: str, township: str) -> bool:
    """Whether the person may blow the whistle for this township: its own officers, or a channel of the district."""
    return actor.district == district and any(
        (post.role in _TOWNSHIP and post.organisation == township) or post.role is Role.INTEGRATION
        for post in actor.posts
    )


def permit(actor: Actor, act: Act, state: CaseState, department: str | None = None) -> None:
    """Say nothing if the person may do the act on this case.

    Args:
        department: the department that the act concerns, for the acts of departments.

    Raises:
        Forbidden: `case_not_visible`, `not_your_department` or `role_may_not`.
    """
    if not may_see(actor, state):
        raise Forbidden("case_not_visible", "您无权查看或办理该案件。")
    rule = _RULES[act]
    if rule.allows(actor, state, department):
        return
    if rule.of_department and any(post.role in _DEPARTMENT | {Role.RESIDENT_OFFICER} for post in actor.posts):
        raise Forbidden("not_your_department", "只能代表本部门办理;请由该部门的工作人员操作。")
    raise Forbidden("role_may_not", f"您的岗位不能执行此操作;该操作由{rule.who}办理。")


def _here(actor: Actor, state: CaseState) -> bool:
    return actor.district == state.call.district


def _is(actor: Actor, state: CaseState, role: Role) -> bool:
    return _here(actor, state) and any(post.role is role for post in actor.posts)


def _of_township(actor: Actor, state: CaseState) -> bool:
    return _here(actor, state) and any(
        post.role in _TOWNSHIP and post.organisation == state.call.township for post in actor.posts
    )


def _of_department(actor: Actor, state: CaseState, department: str | None) -> bool:
    return _here(actor, state) and any(
        post.organisation == department
        and (
            post.role in _DEPARTMENT
            or (post.role is Role.RESIDENT_OFFICER and post.township == state.call.township)
        )
        for post in actor.posts
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    who: str
    allows: Callable[[Actor, CaseState, str | None], bool]
    of_department: bool = False


_DISPATCHER = _Rule("指挥中心派单员", lambda actor, state, _: _is(actor, state, Role.DISPATCHER))
_CALLER = _Rule("呼叫的镇街", lambda actor, state, _: _of_township(actor, state))
_OWN_DEPARTMENT = _Rule("承办部门", _of_department, of_department=True)

_RULES: dict[Act, _Rule] = {
    Act.DISPATCH: _DISPATCHER,
    Act.REFUSE: _DISPATCHER,
    Act.CANCEL: _CALLER,
    Act.SIGN: _OWN_DEPARTMENT,
    Act.CHECK_IN: _OWN_DEPARTMENT,
    Act.CONFIRM_CHECK_IN: _CALLER,
    Act.DISPUTE_CHECK_IN: _CALLER,
    Act.PLAN: _OWN_DEPARTMENT,
    Act.ACTION: _OWN_DEPARTMENT,
    Act.DONE: _OWN_DEPARTMENT,
    Act.RATE: _CALLER,
    Act.REWORK: _CALLER,
}

"""What people may ask for: imperative, one class an act, each with who asks.

`Act` names them at the doors: `check-in` over HTTP, `check_in` as Temporal update.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated, ClassVar, get_args

from pydantic import Field

from domain.calendar import Limit, Moment
from domain.case import (
    ActionKind,
    Actor,
    AppealAbout,
    Attachment,
    Basis,
    CaseId,
    Grade,
    LinkKind,
    Officer,
    OrganisationCode,
    Stars,
    Value,
)
from domain.district import AdoptionScope, Terms
from domain.policy import LimitClass

Text = Annotated[str, Field(min_length=1, max_length=2000)]
Note = Annotated[str, Field(max_length=2000)]


class Act(StrEnum):
    """Every act on a case, by the name of its Temporal update."""

    RELEASE = "release"
    REFUSE = "refuse"
    DISPATCH = "dispatch"
    SIGN = "sign"
    OBJECT = "object"
    ADJUDICATE = "adjudicate"
    TRANSFER = "transfer"
    CHECK_IN = "check_in"
    CONFIRM_CHECK_IN = "confirm_check_in"
    DISPUTE_CHECK_IN = "dispute_check_in"
    PLAN = "plan"
    ACTION = "action"
    DONE = "done"
    RATE = "rate"
    REWORK = "rework"
    EXTEND = "extend"
    DECIDE_EXTENSION = "decide_extension"
    SUSPEND = "suspend"
    DECIDE_SUSPENSION = "decide_suspension"
    RESUME = "resume"
    LINK = "link"
    WATCH = "watch"
    INSTRUCT = "instruct"
    ANSWER_ORDER = "answer_order"
    CANCEL = "cancel"
    REOPEN = "reopen"
    APPEAL = "appeal"
    DECIDE_APPEAL = "decide_appeal"
    ADOPT_TERMS = "adopt_terms"


class Command(Value):
    """Base of all acts.

    Attributes:
        by: the person, as the door authenticated them.
        key: the request's idempotency key; the same key again has no second effect.
        body_digest: what the request said, so that the same key with another body is noticed.
    """

    act: ClassVar[Act]
    by: Actor
    key: str = ""
    body_digest: str = ""


class DepartmentCommand(Command):
    """An act that concerns one department of the case."""

    department: OrganisationCode


class Release(Command):
    """放行: the township's approver lets a call go, or says afterwards whether an urgent one was; the coordination
    group admits a downward call (准入).
    """

    act = Act.RELEASE
    justified: bool = True
    note: Note = ""


class Dispatch(Command):
    """派单. Without lead or cooperating departments the item's are taken; to differ from the item needs a reason."""

    act = Act.DISPATCH
    lead: OrganisationCode | None = None
    cooperating: tuple[OrganisationCode, ...] | None = None
    limit_class: LimitClass | None = None
    note: Note = ""
    reason: Note = ""


class Refuse(Command):
    """退回: not a matter for a call; with the reason.

    Attributes:
        self_handled: the township handles it by itself.
    """

    act = Act.REFUSE
    reason: Text
    self_handled: bool = False


class Object(DepartmentCommand):
    """退单/异议: not ours; on what basis, and whose it is."""

    act = Act.OBJECT
    basis: Basis
    reason: Text
    proposed: OrganisationCode


class Adjudicate(DepartmentCommand):
    """裁定 of a department's open objection, by the dispatcher within the limit, else by the coordination group.

    Attributes:
        owner: who takes its place when it is upheld; whom the department proposed when left out.
    """

    act = Act.ADJUDICATE
    uphold: bool
    owner: OrganisationCode | None = None
    reason: Text


class Transfer(DepartmentCommand):
    """转办 by the dispatcher, from one department to another; the case's own clock goes on."""

    act = Act.TRANSFER
    to: OrganisationCode
    reason: Text


class Cancel(Command):
    """撤销, by the caller, with the reason."""

    act = Act.CANCEL
    reason: Text


class Sign(DepartmentCommand):
    """签收."""

    act = Act.SIGN


class CheckIn(DepartmentCommand):
    """报到: named officers have arrived. `arrived_at` is now when not given."""

    act = Act.CHECK_IN
    officers: Annotated[tuple[Officer, ...], Field(min_length=1, max_length=50)]
    arrived_at: Moment | None = None
    note: Note = ""


class ConfirmCheckIn(DepartmentCommand):
    """The township confirms that they came."""

    act = Act.CONFIRM_CHECK_IN


class DisputeCheckIn(DepartmentCommand):
    """The township says that they did not come as reported."""

    act = Act.DISPUTE_CHECK_IN
    reason: Text


class Plan(DepartmentCommand):
    """方案, recorded by the lead department; a later one replaces it, the record keeps both."""

    act = Act.PLAN
    text: Text


class TakeAction(DepartmentCommand):
    """联合执法: one action on site with its result."""

    act = Act.ACTION
    kind: ActionKind
    description: Text
    result: Text
    attachments: Annotated[tuple[Attachment, ...], Field(max_length=20)] = ()
    follow_up_on: date | None = None
    settles: int | None = None


class ReportDone(DepartmentCommand):
    """The department's part is done, with the result."""

    act = Act.DONE
    result: Text
    attachments: Annotated[tuple[Attachment, ...], Field(max_length=20)] = ()


class Rate(DepartmentCommand):
    """评价, by the caller; 'not solved' sends the matter back."""

    act = Act.RATE
    grade: Grade
    solved: bool
    response: Stars | None = None
    action: Stars | None = None
    result: Stars | None = None
    comment: Note = ""


class Rework(DepartmentCommand):
    """重办: the caller sends a reported result back before rating it."""

    act = Act.REWORK
    reason: Text


class Extend(DepartmentCommand):
    """延期, asked before the deadline.

    Attributes:
        add: at most the original limit, and in its unit; the whole of it when left out.
    """

    act = Act.EXTEND
    reason: Text
    add: Limit | None = None


class DecideExtension(DepartmentCommand):
    """The caller's township and the coordination group each decide; both must approve."""

    act = Act.DECIDE_EXTENSION
    approve: bool
    reason: Note = ""


class Suspend(Command):
    """挂账, asked with an end.

    Attributes:
        department: on whose behalf it is asked.
    """

    act = Act.SUSPEND
    department: OrganisationCode
    reason: Text
    until: Moment


class DecideSuspension(Command):
    """The coordination group approves or refuses."""

    act = Act.DECIDE_SUSPENSION
    approve: bool
    reason: Note = ""


class Resume(Command):
    """恢复 before the end date."""

    act = Act.RESUME
    reason: Text


class LinkCase(Command):
    """关联, or 并案 of a duplicate, which ends this case: the other goes on.

    Attributes:
        other_called_at: when the other was called, as the door found it.
    """

    act = Act.LINK
    other: CaseId
    other_called_at: Moment | None = None
    kind: LinkKind
    note: Note = ""


class Watch(Command):
    """领导关注."""

    act = Act.WATCH
    watching: bool = True


class Instruct(Command):
    """批示, to everybody on the case or to one department; as a supervision order it must be answered."""

    act = Act.INSTRUCT
    text: Text
    department: OrganisationCode | None = None
    answer_required: bool = False


class AnswerOrder(DepartmentCommand):
    """答复督办单.

    Attributes:
        number: which order; the oldest that waits when left out.
    """

    act = Act.ANSWER_ORDER
    text: Text
    number: int | None = None


class Reopen(Command):
    """重新打开 a closed case.

    Attributes:
        departments: whose work begins again; everybody's when left out.
    """

    act = Act.REOPEN
    reason: Text
    departments: Annotated[tuple[OrganisationCode, ...], Field(max_length=50)] = ()


class FileAppeal(DepartmentCommand):
    """申诉, by the department, after closure."""

    act = Act.APPEAL
    about: AppealAbout
    reason: Text


class DecideAppeal(DepartmentCommand):
    """One reviewer's decision.

    Attributes:
        grade, solved: what the rating should have been, where the appeal is about it.
    """

    act = Act.DECIDE_APPEAL
    uphold: bool
    reason: Text
    grade: Grade | None = None
    solved: bool | None = None


class AdoptTerms(Command):
    """A newer calendar or policy reaches a running case, by explicit command (domain.md §4).

    Attributes:
        terms: from which the parts named by `scope` are taken.
    """

    act = Act.ADOPT_TERMS
    scope: AdoptionScope
    terms: Terms
    reason: Text


AnyCommand = (
    Release
    | Dispatch
    | Refuse
    | Cancel
    | Sign
    | CheckIn
    | ConfirmCheckIn
    | DisputeCheckIn
    | Plan
    | TakeAction
    | ReportDone
    | Rate
    | Rework
    | Object
    | Adjudicate
    | Transfer
    | Extend
    | DecideExtension
    | Suspend
    | DecideSuspension
    | Resume
    | LinkCase
    | Watch
    | Instruct
    | AnswerOrder
    | Reopen
    | FileAppeal
    | DecideAppeal
    | AdoptTerms
)
COMMANDS: dict[Act, type[AnyCommand]] = {command.act: command for command in get_args(AnyCommand)}

"""What people may ask for: imperative, one class an act, each with who asks.

`Act` names them at the doors: `check-in` over HTTP, `check_in` as Temporal update.
"""

from datetime import date
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from domain.calendar import Moment
from domain.case import ActionKind, Actor, Attachment, Grade, Officer, OrganisationCode, Stars, Value
from domain.policy import LimitClass

Text = Annotated[str, Field(min_length=1, max_length=2000)]


class Act(StrEnum):
    """Every act on a case, by the name of its Temporal update."""

    DISPATCH = "dispatch"
    REFUSE = "refuse"
    CANCEL = "cancel"
    SIGN = "sign"
    CHECK_IN = "check_in"
    CONFIRM_CHECK_IN = "confirm_check_in"
    DISPUTE_CHECK_IN = "dispute_check_in"
    PLAN = "plan"
    ACTION = "action"
    DONE = "done"
    RATE = "rate"
    REWORK = "rework"


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


class Dispatch(Command):
    """派单."""

    act = Act.DISPATCH
    lead: OrganisationCode
    cooperating: tuple[OrganisationCode, ...] = ()
    limit_class: LimitClass | None = None
    note: Annotated[str, Field(max_length=2000)] = ""


class Refuse(Command):
    """退回: not a matter for a call; with the reason."""

    act = Act.REFUSE
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
    note: Annotated[str, Field(max_length=2000)] = ""


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
    comment: Annotated[str, Field(max_length=2000)] = ""


class Rework(DepartmentCommand):
    """重办: the caller sends a reported result back before rating it."""

    act = Act.REWORK
    reason: Text


AnyCommand = (
    Dispatch
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
)
COMMANDS: dict[Act, type[AnyCommand]] = {
    command.act: command
    for command in (
        Dispatch,
        Refuse,
        Cancel,
        Sign,
        CheckIn,
        ConfirmCheckIn,
        DisputeCheckIn,
        Plan,
        TakeAction,
        ReportDone,
        Rate,
        Rework,
    )
}

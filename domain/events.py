"""What has happened: past tense, with everything that later states need, so that folding asks nobody.

Deadlines are computed once, when the event is decided, and travel in it as started clocks:
whoever folds the events needs neither policy nor calendar.
"""

from typing import Annotated, Literal

from pydantic import Field

from domain.calendar import Moment
from domain.case import (
    Action,
    Actor,
    Attachment,
    CallDetails,
    CaseId,
    Clock,
    Grade,
    Officer,
    OrganisationCode,
    Stars,
    Value,
)
from domain.policy import ClockKind, LimitClass, Order, Receiver


class Happening(Value):
    """Base of all events.

    Attributes:
        clocks: the clocks that start with it.
    """

    clocks: tuple[Clock, ...] = ()


class Called(Happening):
    """吹哨: the case is open."""

    kind: Literal["called"] = "called"
    call: CallDetails
    policy_version: str
    calendar_version: str
    catalogue_version: str = ""


class CallRefused(Happening):
    """退回: the dispatcher sent the call back."""

    kind: Literal["call_refused"] = "call_refused"
    reason: str


class Cancelled(Happening):
    """撤销: the caller withdrew it."""

    kind: Literal["cancelled"] = "cancelled"
    reason: str


class Dispatched(Happening):
    """派单: one lead, any number cooperating."""

    kind: Literal["dispatched"] = "dispatched"
    lead: OrganisationCode
    cooperating: tuple[OrganisationCode, ...]
    limit_class: LimitClass
    note: str = ""


class Signed(Happening):
    """签收."""

    kind: Literal["signed"] = "signed"
    department: OrganisationCode
    late: bool


class SignDeemed(Happening):
    """视同签收: the limit passed unsigned; it counts against the department, and the other clocks go on."""

    kind: Literal["sign_deemed"] = "sign_deemed"
    department: OrganisationCode
    due_at: Moment


class CheckedIn(Happening):
    """报到, as the department reports it."""

    kind: Literal["checked_in"] = "checked_in"
    department: OrganisationCode
    officers: tuple[Officer, ...]
    arrived_at: Moment
    note: str = ""


class CheckInConfirmed(Happening):
    """The township says that they came, or did not say otherwise in time."""

    kind: Literal["check_in_confirmed"] = "check_in_confirmed"
    department: OrganisationCode
    by_silence: bool


class CheckInDisputed(Happening):
    """The township says that they did not come as reported; it does not count and the clock goes on."""

    kind: Literal["check_in_disputed"] = "check_in_disputed"
    department: OrganisationCode
    reason: str


class PlanAgreed(Happening):
    """方案: the lead department records what was agreed on site."""

    kind: Literal["plan_agreed"] = "plan_agreed"
    department: OrganisationCode
    text: str


class ActionTaken(Happening):
    """联合执法: one action with its result."""

    kind: Literal["action_taken"] = "action_taken"
    action: Action


class DoneReported(Happening):
    """The department says that its part is done; only the caller's rating closes it."""

    kind: Literal["done_reported"] = "done_reported"
    department: OrganisationCode
    result: str
    attachments: tuple[Attachment, ...] = ()


class Rated(Happening):
    """评价: locked from here on."""

    kind: Literal["rated"] = "rated"
    department: OrganisationCode
    grade: Grade
    solved: bool
    response: Stars | None = None
    action: Stars | None = None
    result: Stars | None = None
    comment: str = ""


class ReworkOrdered(Happening):
    """重办: back to the department with a new handling clock."""

    kind: Literal["rework_ordered"] = "rework_ordered"
    department: OrganisationCode
    reason: str
    round: int


class Escalated(Happening):
    """A late clock has climbed one rung; the owner stays accountable.

    Attributes:
        due_at: the limit that was passed.
        rung_due_at: when this rung fell due.
    """

    kind: Literal["escalated"] = "escalated"
    clock: ClockKind
    department: OrganisationCode | None
    round: int
    level: int
    order: Order
    receivers: tuple[Receiver, ...]
    due_at: Moment
    rung_due_at: Moment


class Closed(Happening):
    """办结: every department is rated, or the rating limit has passed."""

    kind: Literal["closed"] = "closed"
    unrated: tuple[OrganisationCode, ...] = ()


Event = Annotated[
    Called
    | CallRefused
    | Cancelled
    | Dispatched
    | Signed
    | SignDeemed
    | CheckedIn
    | CheckInConfirmed
    | CheckInDisputed
    | PlanAgreed
    | ActionTaken
    | DoneReported
    | Rated
    | ReworkOrdered
    | Escalated
    | Closed,
    Field(discriminator="kind"),
]


class Entry(Value):
    """One event in its place: what the ledger holds, and what the hash chain binds.

    Attributes:
        sequence: 1 for the call, then without gaps.
        at: when it was decided. For what a clock did: when the clock was looked at; the due moment is in the event.
        by: the person who acted; None for the clock.
        key: the idempotency key of the request that caused it, empty for the clock.
        previous: hash of the entry before; 64 zeros for the first.
        hash: SHA-256 over this entry without the hash itself; see `domain.audit`.
    """

    case_id: CaseId
    sequence: int
    at: Moment
    by: Actor | None
    key: str = ""
    event: Event
    previous: str
    hash: str = ""

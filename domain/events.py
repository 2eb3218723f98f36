"""What has happened: past tense, with everything that later states need, so that folding asks nobody.

Deadlines are computed once, when the event is decided, and travel in it as started clocks:
whoever folds the events needs neither policy nor calendar.
"""

from typing import Annotated, Literal

from pydantic import Field

from domain.calendar import Limit, Moment
from domain.case import (
    Action,
    Actor,
    AppealAbout,
    Attachment,
    Basis,
    CallDetails,
    CaseId,
    Clock,
    Grade,
    LinkKind,
    Officer,
    OrganisationCode,
    Stage,
    Stars,
    Value,
)
from domain.district import AdoptionScope, Terms
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
    awaits: Stage | None = None


class Released(Happening):
    """放行: the call goes to the dispatcher."""

    kind: Literal["released"] = "released"
    note: str = ""


class Admitted(Happening):
    """准入: the coordination group lets an unlisted downward call go to the township."""

    kind: Literal["admitted"] = "admitted"
    note: str = ""


class UrgencyReviewed(Happening):
    """The township's approver says afterwards whether an urgent call was one."""

    kind: Literal["urgency_reviewed"] = "urgency_reviewed"
    justified: bool
    note: str = ""


class CallRefused(Happening):
    """退回: the township's approver, the dispatcher or the coordination group sent the call back."""

    kind: Literal["call_refused"] = "call_refused"
    reason: str
    self_handled: bool = False


class Cancelled(Happening):
    """撤销: the caller withdrew it."""

    kind: Literal["cancelled"] = "cancelled"
    reason: str


class Dispatched(Happening):
    """派单: one lead, any number cooperating.

    Attributes:
        resident: those of them whose officers resident in the township are called first (X).
        reason: why it differs from the list.
        automatic: done as the list says, by the system.
    """

    kind: Literal["dispatched"] = "dispatched"
    lead: OrganisationCode
    cooperating: tuple[OrganisationCode, ...]
    limit_class: LimitClass
    note: str = ""
    resident: tuple[OrganisationCode, ...] = ()
    reason: str = ""
    automatic: bool = False


class Objected(Happening):
    """退单/异议. The department's clocks go on."""

    kind: Literal["objected"] = "objected"
    number: int
    department: OrganisationCode
    basis: Basis
    reason: str
    proposed: OrganisationCode
    before_group: bool = False


class ObjectionReferred(Happening):
    """The dispatcher did not settle it in time: it is for the coordination group."""

    kind: Literal["objection_referred"] = "objection_referred"
    number: int
    department: OrganisationCode


class Adjudicated(Happening):
    """裁定.

    Attributes:
        owner: who takes the department's place; None when it stays, or nobody need come instead.
        owner_leads, owner_resident: as what it comes.
        binding: the coordination group has ruled: no further objection.
    """

    kind: Literal["adjudicated"] = "adjudicated"
    number: int
    department: OrganisationCode
    upheld: bool
    reason: str
    owner: OrganisationCode | None = None
    owner_leads: bool = False
    owner_resident: bool = False
    binding: bool = False


class Transferred(Happening):
    """转办: another department takes the place; the case's own clock is untouched."""

    kind: Literal["transferred"] = "transferred"
    department: OrganisationCode
    to: OrganisationCode
    leads: bool
    resident: bool = False
    reason: str


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
        level: 0 is the warning at yellow.
        due_at: the limit that was passed, or for a warning will be.
        rung_due_at: when this rung fell due.
        supervision: number of the supervision order that it issues, which its head must answer.
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
    supervision: int | None = None


class ClockMove(Value):
    """A running clock's new due moment."""

    clock: ClockKind
    department: OrganisationCode | None = None
    round: int = 1
    due_at: Moment
    estimated: bool = False
    yellow_at: Moment | None = None


class ExtensionAsked(Happening):
    """延期申请."""

    kind: Literal["extension_asked"] = "extension_asked"
    number: int
    department: OrganisationCode
    reason: str
    add: Limit


class ExtensionDecided(Happening):
    """One office has decided; granted once both have approved.

    Attributes:
        office: the caller's township or the coordination group; None when the limit passed undecided.
        granted: None while the other office still has to decide.
        moved: the clocks that the extension moves.
    """

    kind: Literal["extension_decided"] = "extension_decided"
    number: int
    department: OrganisationCode
    office: Literal["township", "group"] | None
    approved: bool
    reason: str = ""
    granted: bool | None = None
    moved: tuple[ClockMove, ...] = ()


class SuspensionAsked(Happening):
    """挂账申请."""

    kind: Literal["suspension_asked"] = "suspension_asked"
    number: int
    department: OrganisationCode | None
    reason: str
    until: Moment


class SuspensionDecided(Happening):
    """Approved, every clock stands still from now on."""

    kind: Literal["suspension_decided"] = "suspension_decided"
    number: int
    approved: bool
    reason: str = ""


class Resumed(Happening):
    """恢复: by a person, or by itself at the end date; each clock goes on by what it had left."""

    kind: Literal["resumed"] = "resumed"
    number: int
    by_date: bool
    reason: str = ""
    moved: tuple[ClockMove, ...] = ()


class Linked(Happening):
    """关联 or 并案."""

    kind: Literal["linked"] = "linked"
    other: CaseId
    link: LinkKind
    note: str = ""


class Watched(Happening):
    """领导关注, or no longer."""

    kind: Literal["watched"] = "watched"
    watching: bool


class Instructed(Happening):
    """批示.

    Attributes:
        order: number of the supervision order that it issues; None when it needs no answer.
    """

    kind: Literal["instructed"] = "instructed"
    text: str
    department: OrganisationCode | None = None
    order: int | None = None


class OrderAnswered(Happening):
    """督办单答复."""

    kind: Literal["order_answered"] = "order_answered"
    number: int
    department: OrganisationCode
    text: str


class Reopened(Happening):
    """重新打开: the departments' work begins again, with new clocks.

    Attributes:
        by_group: with the coordination group's approval.
    """

    kind: Literal["reopened"] = "reopened"
    reason: str
    departments: tuple[OrganisationCode, ...]
    by_group: bool = False


class Appealed(Happening):
    """申诉."""

    kind: Literal["appealed"] = "appealed"
    number: int
    department: OrganisationCode
    about: AppealAbout
    reason: str


class AppealDecided(Happening):
    """One reviewer has decided.

    Attributes:
        upheld: None while another reviewer still has to decide.
    """

    kind: Literal["appeal_decided"] = "appeal_decided"
    number: int
    department: OrganisationCode
    uphold: bool
    reason: str
    grade: Grade | None = None
    solved: bool | None = None
    upheld: bool | None = None


class TermsAdopted(Happening):
    """A newer calendar or policy holds for this case from now on; what that moves is in here."""

    kind: Literal["terms_adopted"] = "terms_adopted"
    scope: AdoptionScope
    reason: str
    terms: Terms
    moved: tuple[ClockMove, ...] = ()


class Closed(Happening):
    """办结: every department is rated, or the rating limit has passed."""

    kind: Literal["closed"] = "closed"
    unrated: tuple[OrganisationCode, ...] = ()


Event = Annotated[
    Called
    | Released
    | Admitted
    | UrgencyReviewed
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
    | Objected
    | ObjectionReferred
    | Adjudicated
    | Transferred
    | ExtensionAsked
    | ExtensionDecided
    | SuspensionAsked
    | SuspensionDecided
    | Resumed
    | Linked
    | Watched
    | Instructed
    | OrderAnswered
    | Reopened
    | Appealed
    | AppealDecided
    | TermsAdopted
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

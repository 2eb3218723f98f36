"""One case: what is known of it at a moment, as frozen values.

The state is what `lifecycle.evolve` makes of the events; nothing else may make one.
History models tolerate unknown fields, so that old histories load for ever.
"""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, NewType

from pydantic import BaseModel, ConfigDict, Field

from domain.calendar import Moment
from domain.policy import ClockKind, LimitClass, Urgency

CaseId = NewType("CaseId", str)
"""`<district>-<yyyymmdd>-<six characters>`; the Temporal workflow id is `case/<case id>`."""
OrganisationCode = NewType("OrganisationCode", str)
"""Code of a township, a department or an office of the district, from `organisations.csv`."""
PersonId = NewType("PersonId", str)


class Value(BaseModel):
    """Base of everything that goes into a history: frozen, and deaf to fields that it does not know."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Role(StrEnum):
    """Who people are (domain.md §7)."""

    CITIZEN = "citizen"
    GRID_WORKER = "grid_worker"
    TOWNSHIP_OFFICER = "township_officer"
    TOWNSHIP_APPROVER = "township_approver"
    DISPATCHER = "dispatcher"
    DEPARTMENT_OFFICER = "department_officer"
    DEPARTMENT_HEAD = "department_head"
    RESIDENT_OFFICER = "resident_officer"
    COORDINATOR = "coordinator"
    LEADER = "leader"
    SUPERVISOR = "supervisor"
    AUDITOR = "auditor"
    ADMINISTRATOR = "administrator"
    INTEGRATION = "integration"


class Post(Value):
    """One role that a person holds, and where.

    Attributes:
        organisation: the township, department or office; a resident officer's is the home department.
        township: only for a resident officer: the township where the officer is stationed.
        city: the post is at city level and reaches every district (domain.md §7).
    """

    role: Role
    organisation: OrganisationCode
    township: OrganisationCode | None = None
    city: bool = False


class Actor(Value):
    """The person who acts, as the door authenticated them. No telephone or identity number in here."""

    id: PersonId
    name: str
    district: str
    posts: tuple[Post, ...]


class Category(StrEnum):
    """诉求类别 (seed)."""

    LIVELIHOOD = "livelihood"
    ENFORCEMENT = "enforcement"
    DEVELOPMENT = "development"


class Stage(StrEnum):
    """Where the case stands as a whole; see `CaseState.stage` for the rule."""

    CALLED = "called"
    DISPATCHED = "dispatched"
    SIGNED = "signed"
    CHECKED_IN = "checked_in"
    ENFORCING = "enforcing"
    AWAITING_RATING = "awaiting_rating"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    REFUSED = "refused"


class Location(Value):
    """Where it is. Coordinates are WGS-84 degrees, decimal so that their text, and so the hash, is exact."""

    address: Annotated[str, Field(min_length=1, max_length=200)]
    longitude: Annotated[Decimal, Field(ge=-180, le=180, max_digits=10, decimal_places=7)] | None = None
    latitude: Annotated[Decimal, Field(ge=-90, le=90, max_digits=10, decimal_places=7)] | None = None


class Attachment(Value):
    """A file by reference: its digest is in the ledger, its bytes are not."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]


class CallDetails(Value):
    """What the caller said. The caller's name and telephone number stay outside, in the intake.

    Attributes:
        requested_check_in_at: the township decides when people should come (domain.md §4); None for the rule.
        item_name: as the catalogue had it at that moment.
        limit_class: from the item; ordinary for a call without one.
        departments: the departments that the caller asks for; the dispatcher decides.
    """

    district: str
    township: OrganisationCode
    category: Category
    title: str
    description: str
    item_code: str | None = None
    item_name: str | None = None
    limit_class: LimitClass = LimitClass.ORDINARY
    urgency: Urgency = Urgency.ROUTINE
    location: Location
    requested_check_in_at: Moment | None = None
    departments: tuple[OrganisationCode, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    channel: str = "api"


class Clock(Value):
    """One limit that runs for someone.

    Attributes:
        department: whose clock it is; None for the case's own (dispatch, case, rating).
        round: 1, and one more for each rework: a new handling clock is another clock.
        due_at: on time up to and including this moment.
        estimated: the due moment rests on a calendar year without published notice.
        ended_at: when it stopped; None while it runs.
        fired: the levels of the ladder that this clock has climbed, lowest first.
    """

    kind: ClockKind
    department: OrganisationCode | None = None
    round: int = 1
    started_at: Moment
    due_at: Moment
    estimated: bool = False
    ended_at: Moment | None = None
    fired: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells this clock from every other of its case."""
        return (self.kind, self.department or "", self.round)

    @property
    def runs(self) -> bool:
        """Whether it has not been stopped."""
        return self.ended_at is None

    def is_red(self, at: datetime) -> bool:
        """Whether the limit is, or was when the clock stopped, passed."""
        return (self.ended_at or at) > self.due_at

    def is_yellow(self, at: datetime, share: float) -> bool:
        """Whether it still runs, is not red, and less than `share` of the limit is left, in gross time."""
        left: timedelta = self.due_at - at
        return self.runs and not self.is_red(at) and left <= (self.due_at - self.started_at) * share


class Grade(StrEnum):
    """满意, 基本满意, 不满意 (domain.md §6)."""

    SATISFIED = "satisfied"
    BASICALLY_SATISFIED = "basically_satisfied"
    DISSATISFIED = "dissatisfied"


Stars = Annotated[int, Field(ge=1, le=5)]


class Rating(Value):
    """The caller's judgement of one department; locked once given.

    Attributes:
        response, action, result: 1 to 5 stars, optional.
        solved: False sends the matter back to the department for rework.
    """

    grade: Grade
    solved: bool
    response: Stars | None = None
    action: Stars | None = None
    result: Stars | None = None
    comment: str = ""
    at: Moment
    round: int = 1


class ActionKind(StrEnum):
    """What was done on site: the kinds that the seed names."""

    DEMOLITION = "demolition"
    DEMOLITION_NOTICE = "demolition_notice"
    SEALING = "sealing"
    CLOSURE_ORDER = "closure_order"
    SEIZURE = "seizure"
    FINE = "fine"
    MEDIATION = "mediation"
    OTHER = "other"


class Action(Value):
    """One act of enforcement with its result.

    Attributes:
        follow_up_on: local date by which somebody else must have done something (e.g. demolished it themselves).
    """

    kind: ActionKind
    department: OrganisationCode
    description: str
    result: str
    attachments: tuple[Attachment, ...] = ()
    follow_up_on: date | None = None
    at: Moment


class Officer(Value):
    """A named officer who came. Officials on duty: names are part of the public record of the case."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    id: PersonId | None = None


class CheckIn(Value):
    """报到: who came and when; it counts once the township has confirmed it, or kept silent for the limit."""

    officers: tuple[Officer, ...]
    arrived_at: Moment
    reported_at: Moment
    confirmed_at: Moment | None = None
    by_silence: bool = False
    disputed: str | None = None

    @property
    def stands(self) -> bool:
        """Whether it has not been disputed: work on site may be recorded."""
        return self.disputed is None

    @property
    def counts(self) -> bool:
        """Whether the caller's side has accepted it."""
        return self.confirmed_at is not None and self.stands


class Assignment(Value):
    """One department on the case.

    Attributes:
        sign_deemed_at: set when the limit passed unsigned; stays set when the department signs later.
        acted_in_round: whether it has recorded an action since dispatch, or since the latest rework.
        past_ratings: the ratings that led to rework, kept.
        round: 1, and one more for each rework.
    """

    department: OrganisationCode
    lead: bool
    dispatched_at: Moment
    signed_at: Moment | None = None
    sign_deemed_at: Moment | None = None
    check_in: CheckIn | None = None
    acted_in_round: bool = False
    done_at: Moment | None = None
    result: str | None = None
    rating: Rating | None = None
    past_ratings: tuple[Rating, ...] = ()
    round: int = 1

    @property
    def signed(self) -> bool:
        """Whether it has been signed for, by a person or by the clock."""
        return self.signed_at is not None or self.sign_deemed_at is not None

    @property
    def status(self) -> str:
        """Where this department stands: dispatched, signed, checked_in, confirmed, enforcing, done or rated."""
        if self.rating is not None:
            return "rated"
        if self.done_at is not None:
            return "done"
        if self.acted_in_round or self.round > 1:
            return "enforcing"
        if self.check_in is not None and self.check_in.stands:
            return "confirmed" if self.check_in.counts else "checked_in"
        return "signed" if self.signed else "dispatched"


class Closure(Value):
    """How it ended.

    Attributes:
        unrated: the departments that the caller did not rate in time: neither satisfied nor dissatisfied.
    """

    stage: Stage
    at: Moment
    reason: str = ""
    unrated: tuple[OrganisationCode, ...] = ()


class CaseState(Value):
    """Everything that is known of a case.

    Attributes:
        sequence: how many events have been folded into this state.
        acted_at: moment of the latest event.
    """

    case_id: CaseId
    call: CallDetails
    caller: Actor
    policy_version: str
    calendar_version: str
    called_at: Moment
    acted_at: Moment
    sequence: int
    assignments: tuple[Assignment, ...] = ()
    limit_class: LimitClass = LimitClass.ORDINARY
    clocks: tuple[Clock, ...] = ()
    plan: str | None = None
    actions: tuple[Action, ...] = ()
    closure: Closure | None = None

    @property
    def stage(self) -> Stage:
        """Return where the case stands.

        Signed and checked in mean *every* department; enforcing starts with the first action on site, so that
        a department which stays away cannot hide that the others are at work. Awaiting rating: all report done.
        """
        if self.closure is not None:
            return self.closure.stage
        if not self.assignments:
            return Stage.CALLED
        everyone = self.assignments
        if all(each.done_at for each in everyone):
            return Stage.AWAITING_RATING
        if self.actions:
            return Stage.ENFORCING
        if all(each.check_in and each.check_in.counts for each in everyone):
            return Stage.CHECKED_IN
        return Stage.SIGNED if all(each.signed for each in everyone) else Stage.DISPATCHED

    @property
    def is_over(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.closure is not None

    @property
    def lead(self) -> Assignment | None:
        """The lead department's assignment; None before dispatch."""
        return next((each for each in self.assignments if each.lead), None)

    @property
    def running(self) -> Iterator[Clock]:
        """The clocks that run."""
        return (clock for clock in self.clocks if clock.runs)

    @property
    def next_deadline(self) -> Moment | None:
        """The earliest limit that somebody can be late for, in the past when somebody is; None when no clock runs.

        The township's time to dispute a check-in is none: its silence is an answer.
        """
        limits = (clock.due_at for clock in self.running if clock.kind is not ClockKind.CONFIRM)
        return min(limits, default=None)

    @property
    def escalation_level(self) -> int:
        """The highest rung that any clock of the case has climbed; 0 for none."""
        return max((level for clock in self.clocks for level in clock.fired), default=0)

    def assignment(self, department: str) -> Assignment | None:
        """Return the department's assignment, or None when it is not on the case."""
        return next((each for each in self.assignments if each.department == department), None)

    def clock(self, kind: ClockKind, department: str | None = None) -> Clock | None:
        """Return the running clock of this kind, or None."""
        return next(
            (each for each in self.running if each.kind is kind and each.department == department), None
        )

    def is_overdue(self, at: datetime) -> bool:
        """Whether any clock that somebody can be late for runs and is red."""
        return any(clock.is_red(at) for clock in self.running)

    def departments(self) -> tuple[OrganisationCode, ...]:
        """Return every department on the case, the lead first."""
        ordered: Iterable[Assignment] = sorted(self.assignments, key=lambda each: not each.lead)
        return tuple(each.department for each in ordered)

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

from domain.calendar import Limit, Moment
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
        squad: the person belongs to the township's own enforcement squad, the 1 of 1+X+Y (domain.md §3.5).
    """

    role: Role
    organisation: OrganisationCode
    township: OrganisationCode | None = None
    city: bool = False
    squad: bool = False


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

    AWAITING_RELEASE = "awaiting_release"
    AWAITING_ADMISSION = "awaiting_admission"
    CALLED = "called"
    DISPATCHED = "dispatched"
    SIGNED = "signed"
    CHECKED_IN = "checked_in"
    ENFORCING = "enforcing"
    AWAITING_RATING = "awaiting_rating"
    SUSPENDED = "suspended"
    CLOSED = "closed"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    MERGED = "merged"


class Direction(StrEnum):
    """Up: 镇街吹哨, the district's departments come. Down: a department asks something of a township (domain.md §3.3)."""

    UP = "up"
    DOWN = "down"


class Location(Value):
    """Where it is. Coordinates are WGS-84 degrees, decimal so that their text, and so the hash, is exact."""

    address: Annotated[str, Field(min_length=1, max_length=200)]
    longitude: Annotated[Decimal, Field(ge=-180, le=180, max_digits=10, decimal_places=7)] | None = None
    latitude: Annotated[Decimal, Field(ge=-90, le=90, max_digits=10, decimal_places=7)] | None = None


class Attachment(Value):
    """A file by reference: its digest is in the ledger, its bytes are not.

    Attributes:
        evidence: which of the evidence that the item asks for this is; empty for none in particular.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(ge=0)]
    evidence: Annotated[str, Field(max_length=100)] = ""


class Responsibility(Value):
    """What the list says of the item, as it stood when the case was opened: a running case keeps that version.

    Attributes:
        lead: the one department with 主体责任.
        evidence: names of what must be attached before the lead may say 'done'.
    """

    lead: OrganisationCode
    cooperating: tuple[OrganisationCode, ...] = ()
    township_duty: str = ""
    basis: str = ""
    closing_condition: str = ""
    evidence: tuple[str, ...] = ()
    flow: tuple[str, ...] = ()


class CallDetails(Value):
    """What the caller said. The caller's name and telephone number stay outside, in the intake.

    Attributes:
        requested_check_in_at: the township decides when people should come (domain.md §4); None for the rule.
        item_name: as the catalogue had it at that moment.
        limit_class: from the item; ordinary for a call without one.
        departments: the departments that the caller asks for; the dispatcher decides.
        caller_office: the department that calls, when it calls a township.
        recurs: earlier cases of the same item and place, newest first (domain.md §5).
        raised: how many rungs higher the ladder starts for that.
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
    direction: Direction = Direction.UP
    caller_office: OrganisationCode | None = None
    responsibility: Responsibility | None = None
    recurs: tuple[CaseId, ...] = ()
    raised: int = 0


class Pause(Value):
    """Time for which a clock stood still (挂账)."""

    paused_at: Moment
    resumed_at: Moment


class Lengthening(Value):
    """Time by which an approved extension moved a clock."""

    add: Limit


class Clock(Value):
    """One limit that runs for someone.

    Attributes:
        department: whose clock it is; None for the case's own (dispatch, case, rating).
        round: 1, and one more for each rework: a new handling clock is another clock.
        due_at: on time up to and including this moment.
        estimated: the due moment rests on a calendar year without published notice.
        yellow_at: when it turns yellow; None where the policy does not warn.
        ended_at: when it stopped; None while it runs.
        paused_at: since when it stands still; None while it does not.
        changes: what has moved the due moment since the start, in order.
        fired: the levels of the ladder that this clock has climbed, lowest first; 0 is the warning at yellow.
    """

    kind: ClockKind
    department: OrganisationCode | None = None
    round: int = 1
    started_at: Moment
    due_at: Moment
    estimated: bool = False
    yellow_at: Moment | None = None
    ended_at: Moment | None = None
    paused_at: Moment | None = None
    changes: tuple[Pause | Lengthening, ...] = ()
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
        """Whether the limit is, or was when the clock stopped or was paused, passed."""
        return (self.ended_at or self.paused_at or at) > self.due_at

    def is_yellow(self, at: datetime, share: float) -> bool:
        """Whether it still runs, is not red, and at most `share` of the limit is left.

        In the limit's own unit where the policy warns, else in gross time.
        """
        if not self.runs or self.is_red(at):
            return False
        if self.yellow_at is not None:
            return (self.paused_at or at) >= self.yellow_at
        left: timedelta = self.due_at - at
        return left <= (self.due_at - self.started_at) * share

    def gross(self, at: datetime) -> timedelta:
        """Return the time since the start, or from start to end, pauses and all."""
        return max((self.ended_at or at) - self.started_at, timedelta(0))

    def net(self, at: datetime) -> timedelta:
        """Return the gross time without the pauses."""
        end = self.ended_at or at
        paused = sum(
            (
                max(min(each.resumed_at, end) - each.paused_at, timedelta(0))
                for each in self.changes
                if isinstance(each, Pause)
            ),
            timedelta(0),
        )
        if self.paused_at is not None:
            paused += max(end - self.paused_at, timedelta(0))
        return max(self.gross(at) - paused, timedelta(0))


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
        settles: number of the follow-up whose outcome this is.
    """

    kind: ActionKind
    department: OrganisationCode
    description: str
    result: str
    attachments: tuple[Attachment, ...] = ()
    follow_up_on: date | None = None
    settles: int | None = None
    at: Moment


class FollowUp(Value):
    """后续跟踪: something that others must have done by a date, and that the department then looks at.

    Attributes:
        number: 1 for the case's first.
        action: place of the action that set it, from 0.
        settled_at: when the department said what became of it.
    """

    number: int
    department: OrganisationCode
    on: date
    action: int
    settled_at: Moment | None = None


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
        resident: its officers resident in the township are called first (X).
        bound: the coordination group's ruling put it there: no further objection.
        corrected: the rating as an upheld appeal corrected it; the original stays.
        exempted: an upheld appeal takes its lateness out of the figures.
        evidence: what its report of this round has shown.
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
    resident: bool = False
    bound: bool = False
    corrected: Rating | None = None
    exempted: bool = False
    evidence: tuple[str, ...] = ()

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


class LeavingBy(StrEnum):
    """How a department left a case: by a ruling it leaves the figures, too; a transfer takes nothing off it."""

    ADJUDICATION = "adjudication"
    TRANSFER = "transfer"


class Former(Value):
    """A department that was on the case, as it stood when it left. It stays in the record (domain.md §6)."""

    assignment: Assignment
    left_at: Moment
    by: LeavingBy
    reason: str
    successor: OrganisationCode | None = None

    @property
    def in_figures(self) -> bool:
        """Whether it counts: released by a ruling it does not."""
        return self.by is LeavingBy.TRANSFER


class Basis(StrEnum):
    """On what an objection rests."""

    CATALOGUE = "catalogue"
    LAW = "law"
    MANDATE = "mandate"
    FACTS = "facts"


class Objection(Value):
    """退单/异议: 'this is not ours', with its basis and who it should be.

    Attributes:
        before_group: it is, or was, for the coordination group.
        upheld: None while it is open.
    """

    number: int
    department: OrganisationCode
    as_lead: bool
    basis: Basis
    reason: str
    proposed: OrganisationCode
    objected_at: Moment
    before_group: bool = False
    decided_at: Moment | None = None
    upheld: bool | None = None
    ruling: str = ""

    @property
    def is_open(self) -> bool:
        """Whether nobody has decided it."""
        return self.decided_at is None


class Extension(Value):
    """延期: asked by a department, approved by the caller's township and the coordination group.

    Attributes:
        township, group: how each decided; None while it has not.
        granted: None while it is open; False also when it lapsed: the limit passed, or the work ended, undecided.
    """

    number: int
    department: OrganisationCode
    reason: str
    add: Limit
    asked_at: Moment
    township: bool | None = None
    group: bool | None = None
    decided_at: Moment | None = None
    granted: bool | None = None

    @property
    def is_open(self) -> bool:
        """Whether it waits for a decision."""
        return self.decided_at is None


class Suspension(Value):
    """挂账: the clocks stand still from approval to the end date, or until somebody resumes; all of it kept.

    Attributes:
        approved: None while it is open.
    """

    number: int
    department: OrganisationCode | None
    reason: str
    until: Moment
    asked_at: Moment
    approved: bool | None = None
    approved_by: str = ""
    began_at: Moment | None = None
    ended_at: Moment | None = None

    @property
    def is_open(self) -> bool:
        """Whether it waits for a decision."""
        return self.approved is None

    @property
    def holds(self) -> bool:
        """Whether the case stands still by it."""
        return self.began_at is not None and self.ended_at is None


class SupervisionOrder(Value):
    """督办单: issued by the ladder, or by a person; the department's head answers it."""

    number: int
    department: OrganisationCode
    text: str
    issued_at: Moment
    answered_at: Moment | None = None
    answer: str = ""


class AppealAbout(StrEnum):
    """What an appeal wants changed."""

    RATING = "rating"
    LATENESS = "lateness"


class Verdict(Value):
    """One reviewer's decision on an appeal."""

    reviewer: PersonId
    name: str
    uphold: bool
    grade: Grade | None = None
    solved: bool | None = None
    reason: str
    at: Moment


class Appeal(Value):
    """申诉 of one department, after closure; both versions of what it is about are kept.

    Attributes:
        round: of the department's work that it is about.
    """

    number: int
    department: OrganisationCode
    about: AppealAbout
    reason: str
    appealed_at: Moment
    round: int = 1
    verdicts: tuple[Verdict, ...] = ()
    decided_at: Moment | None = None
    upheld: bool | None = None

    @property
    def is_open(self) -> bool:
        """Whether the reviewers have not come to an end."""
        return self.decided_at is None


class LinkKind(StrEnum):
    """How cases belong together."""

    RELATED = "related"
    DUPLICATE = "duplicate"


class Link(Value):
    """Another case that belongs to this one."""

    other: CaseId
    kind: LinkKind
    note: str = ""
    at: Moment


class Instruction(Value):
    """批示 of a leader."""

    by: str
    text: str
    department: OrganisationCode | None = None
    at: Moment


class CaseState(Value):
    """Everything that is known of a case.

    Attributes:
        sequence: how many events have been folded into this state.
        acted_at: moment of the latest event.
        awaits: the stage before the dispatcher's in which the call waits; None once it has passed.
        urgency_justified: what the approver said of an urgent call afterwards; None before, and for routine calls.
        former: departments that were on the case.
        watchers: leaders who follow it.
        past_closures: how it ended before it was reopened.
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
    awaits: Stage | None = None
    urgency_justified: bool | None = None
    former: tuple[Former, ...] = ()
    objections: tuple[Objection, ...] = ()
    extensions: tuple[Extension, ...] = ()
    suspensions: tuple[Suspension, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()
    orders: tuple[SupervisionOrder, ...] = ()
    appeals: tuple[Appeal, ...] = ()
    links: tuple[Link, ...] = ()
    instructions: tuple[Instruction, ...] = ()
    watchers: tuple[PersonId, ...] = ()
    past_closures: tuple[Closure, ...] = ()

    @property
    def stage(self) -> Stage:
        """Return where the case stands.

        Signed and checked in mean *every* department; enforcing starts with the first action on site, so that
        a department which stays away cannot hide that the others are at work. Awaiting rating: all report done.
        """
        if self.closure is not None:
            return self.closure.stage
        if self.suspension is not None:
            return Stage.SUSPENDED
        if self.awaits is not None:
            return self.awaits
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
    def awaiting_sign(self) -> tuple[OrganisationCode, ...]:
        """The departments that have still to sign: also one that stays away while others are at work.

        None of a case that stands still, or has ended; one whose limit has passed counts as signed (domain.md §4).
        """
        if self.stage not in {Stage.DISPATCHED, Stage.ENFORCING}:
            return ()
        return tuple(each.department for each in self.assignments if each.status == "dispatched")

    @property
    def is_over(self) -> bool:
        """Whether it has ended; a follow-up or an appeal may still be open."""
        return self.closure is not None

    @property
    def is_settled(self) -> bool:
        """Whether it has ended and nothing of it runs any more: its workflow may end, too."""
        return self.closure is not None and all(clock.ended_at is not None for clock in self.clocks)

    @property
    def suspension(self) -> Suspension | None:
        """The suspension by which the case stands still, if it does."""
        return next((each for each in self.suspensions if each.holds), None)

    @property
    def lead(self) -> Assignment | None:
        """The lead department's assignment; None before dispatch."""
        return next((each for each in self.assignments if each.lead), None)

    @property
    def running(self) -> Iterator[Clock]:
        """The clocks that run."""
        return (clock for clock in self.clocks if clock.runs)

    @property
    def next_limit(self) -> Clock | None:
        """The clock with the earliest limit that somebody can be late for; None when no such clock runs.

        The township's time to dispute a check-in is none: its silence is an answer. Nor is the end of a suspension,
        and what stands still is due at no moment that one could name.
        """
        limits = (
            clock for clock in self.running if clock.kind not in NOBODY_IS_LATE and clock.paused_at is None
        )
        return min(limits, key=lambda clock: clock.due_at, default=None)

    @property
    def next_deadline(self) -> Moment | None:
        """The moment of `next_limit`, in the past when somebody is late."""
        limit = self.next_limit
        return limit.due_at if limit else None

    def coming_deadline(self, at: datetime) -> Moment | None:
        """Return the earliest limit that is not passed at `at`; None when every limit is passed, or none runs."""
        coming = (
            clock.due_at
            for clock in self.running
            if clock.kind not in NOBODY_IS_LATE and clock.paused_at is None and clock.due_at >= at
        )
        return min(coming, default=None)

    @property
    def escalation_level(self) -> int:
        """The highest rung that any clock of the case has climbed; 0 for none."""
        return max((level for clock in self.clocks for level in clock.fired), default=0)

    def may_run_again(self, clock: Clock) -> bool:
        """Whether a clock that has ended goes on if the township disputes a check-in on which it has its say yet."""
        stops = {ClockKind.CHECK_IN, ClockKind.HANDLING}
        return (
            not clock.runs
            and clock.kind in stops
            and self.clock(ClockKind.CONFIRM, clock.department) is not None
        )

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
        return any(clock.is_red(at) for clock in self.running if clock.kind is not ClockKind.SUSPENSION)

    def departments(self) -> tuple[OrganisationCode, ...]:
        """Return every department on the case, the lead first."""
        ordered: Iterable[Assignment] = sorted(self.assignments, key=lambda each: not each.lead)
        return tuple(each.department for each in ordered)


NOBODY_IS_LATE = frozenset({ClockKind.CONFIRM, ClockKind.SUSPENSION})

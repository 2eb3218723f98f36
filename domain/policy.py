"""Policy: the limits, the ladder and the weights of a district, as one versioned value.

A case carries the policy that it was opened under in its own history; nothing here is read from a file
while a case runs. Source of the defaults: domain.md §4; they live in `districts/*/policy.toml`, not here.
"""

from datetime import time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from domain.calendar import Limit, Unit


class Urgency(StrEnum):
    """How fast a call must be answered."""

    ROUTINE = "routine"
    URGENT = "urgent"


class LimitClass(StrEnum):
    """How long handling may take, by the item (domain.md §4: simple 1, ordinary 3, hard 5, complex 15 working days)."""

    SIMPLE = "simple"
    ORDINARY = "ordinary"
    HARD = "hard"
    COMPLEX = "complex"


class ClockKind(StrEnum):
    """The clocks of a case. `case` is never reset by a transfer; the others belong to one step."""

    RELEASE = "release"
    REVIEW = "review"
    ADMISSION = "admission"
    DISPATCH = "dispatch"
    SIGN = "sign"
    CHECK_IN = "check_in"
    CONFIRM = "confirm"
    HANDLING = "handling"
    OBJECTION = "objection"
    RULING = "ruling"
    ORDER = "order"
    FOLLOW_UP = "follow_up"
    SUSPENSION = "suspension"
    CASE = "case"
    RATING = "rating"
    APPEAL = "appeal"


class Order(StrEnum):
    """What is sent: a warning 预警 at yellow, a reminder 催办, a supervision order 督办单, or a report to superiors."""

    WARNING = "warning"
    REMINDER = "reminder"
    SUPERVISION = "supervision"
    REPORT = "report"


class Receiver(StrEnum):
    """Who is told, as an office; persons are looked up in the roster when the notice leaves."""

    DUTY_OFFICER = "duty_officer"
    DEPARTMENT_HEAD = "department_head"
    DISPATCHER = "dispatcher"
    COORDINATOR = "coordinator"
    CITY_COORDINATOR = "city_coordinator"
    TOWNSHIP = "township"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ByUrgency(_Part):
    """One limit for routine calls and one for urgent ones."""

    routine: Limit
    urgent: Limit

    def of(self, urgency: Urgency) -> Limit:
        """Return the limit for a call of this urgency."""
        return self.urgent if urgency is Urgency.URGENT else self.routine


class CheckInLimit(_Part):
    """Same-day 报到 (seed); cut-off and morning hour are policy (domain.md §4).

    Attributes:
        cut_off: local time; dispatched up to and including it on a working day means the same day.
        next_day_by: local time on the next working day for what comes later, or on a day off.
        urgent: continuous limit for urgent calls.
        asked_within: how long after the call the moment may lie that the township asks for. It moves the limits of
            check-in and handling: without a bound a call could be put to sleep for years, which is a suspension,
            and needs approval.
    """

    cut_off: time
    next_day_by: time
    urgent: Limit
    asked_within: Limit = Limit(unit=Unit.CONTINUOUS, time=timedelta(days=30))

    @model_validator(mode="after")
    def _asked_for_some_time(self) -> Self:
        if not (self.asked_within.time or self.asked_within.days):
            msg = "asked_within 须大于零:否则任何要求报到时间都会被拒绝"
            raise ValueError(msg)
        return self


class ExtensionLimit(_Part):
    """延期 (domain.md §4): asked before the deadline, approved twice, each adds at most the original limit.

    Attributes:
        most: how often a department's handling may be extended.
    """

    most: Annotated[int, Field(ge=1)] = 2


class SuspensionLimit(_Part):
    """挂账 (domain.md §4): approved by the coordination group, with an end.

    Attributes:
        longest: how far ahead the end may lie.
    """

    longest: Limit


class ReopenLimit(_Part):
    """重新打开 (domain.md §5).

    Attributes:
        within: how long after closure the caller may reopen.
        without_approval: how often the caller may do so alone; after that, and later, the coordination group does.
    """

    within: Limit
    without_approval: Annotated[int, Field(ge=0)] = 1


class AppealLimit(_Part):
    """申诉 (domain.md §5): once for each department and round of work, after closure.

    Attributes:
        within: how long after closure a department may appeal.
        review: how long the reviewers have.
        reviewers: how many must agree for an appeal to be upheld.
    """

    within: Limit
    review: Limit
    reviewers: Annotated[int, Field(ge=2)] = 2


class Limits(_Part):
    """Every limit. A step whose limit a policy leaves out does not exist in that district.

    Attributes:
        release: for the township's approver to release a routine call.
        review: for the approver to review an urgent call that went out at once.
        admission: for the coordination group to admit a downward call.
        objection: for the dispatcher to settle an objection; then it goes to the coordination group.
        ruling: for the coordination group to rule.
        answer: for the department's head to answer a supervision order.
        follow_up: after a follow-up's own date, for the department to say what became of it.
    """

    dispatch: ByUrgency
    sign: ByUrgency
    check_in: CheckInLimit
    confirm: Limit
    handling: dict[LimitClass, Limit]
    rating: Limit
    release: Limit | None = None
    review: Limit | None = None
    admission: Limit | None = None
    objection: Limit | None = None
    ruling: Limit | None = None
    answer: Limit | None = None
    follow_up: Limit | None = None
    extension: ExtensionLimit | None = None
    suspension: SuspensionLimit | None = None
    reopen: ReopenLimit | None = None
    appeal: AppealLimit | None = None

    @model_validator(mode="after")
    def _objections_have_a_second_instance(self) -> Self:
        if (self.objection is None) is not (self.ruling is None):
            msg = "limits.objection 与 limits.ruling 须同时设置:派单员逾期未处理的异议由协调小组裁定"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _every_class_has_a_limit(self) -> Self:
        missing = [limit_class.value for limit_class in LimitClass if limit_class not in self.handling]
        if missing:
            msg = f"handling 缺少时限类别:{'、'.join(missing)}"
            raise ValueError(msg)
        return self


class Rung(_Part):
    """One rung of the escalation ladder.

    Attributes:
        level: 1 is the lowest. Each (clock, level) fires exactly once.
        after: how long after red, in its own unit; zero means the moment that the limit is passed.
        order: what is sent.
        receivers: the offices that are told. The owner stays accountable at every rung.
    """

    level: Annotated[int, Field(ge=1)]
    after: Limit
    order: Order
    receivers: Annotated[tuple[Receiver, ...], Field(min_length=1)]


class Ladder(_Part):
    """Who is told of what is late: any number of rungs for each kind of owner.

    Attributes:
        department: sign-for, check-in, handling and follow-ups.
        order: supervision orders that were not answered.
        township: calls that wait for release or review.
        group: what waits for the coordination group or the reviewers of an appeal.
    """

    department: tuple[Rung, ...]
    dispatch: tuple[Rung, ...] = ()
    case: tuple[Rung, ...] = ()
    order: tuple[Rung, ...] = ()
    township: tuple[Rung, ...] = ()
    group: tuple[Rung, ...] = ()

    @model_validator(mode="after")
    def _levels_ascend(self) -> Self:
        for name in type(self).model_fields:
            levels = [rung.level for rung in getattr(self, name)]
            if levels != sorted(set(levels)):
                msg = f"ladder.{name} 的级别必须逐级递增且不重复"
                raise ValueError(msg)
        return self

    def of(self, kind: ClockKind) -> tuple[Rung, ...]:
        """Return the rungs that a late clock of this kind climbs; where silence is an answer there are none."""
        match kind:
            case ClockKind.SIGN | ClockKind.CHECK_IN | ClockKind.HANDLING | ClockKind.FOLLOW_UP:
                return self.department
            case ClockKind.DISPATCH:
                return self.dispatch
            case ClockKind.CASE:
                return self.case
            case ClockKind.ORDER:
                return self.order
            case ClockKind.RELEASE | ClockKind.REVIEW:
                return self.township
            case ClockKind.ADMISSION | ClockKind.RULING | ClockKind.APPEAL:
                return self.group
            case ClockKind.CONFIRM | ClockKind.RATING | ClockKind.OBJECTION | ClockKind.SUSPENSION:
                return ()


class YellowWarning(_Part):
    """预警: told once for each clock, at the moment when it turns yellow.

    Attributes:
        kinds: which clocks warn.
    """

    receivers: Annotated[tuple[Receiver, ...], Field(min_length=1)]
    kinds: tuple[ClockKind, ...] = (ClockKind.CHECK_IN, ClockKind.HANDLING, ClockKind.CASE)


class QuietHours(_Part):
    """Local hours in which routine notices wait; `start` later than `end` goes over midnight. Urgent ones leave."""

    start: time
    end: time


class Recurrence(_Part):
    """The same item and place again (domain.md §5): linked, and the ladder climbs that many rungs higher.

    Attributes:
        within: continuous time back from the call.
        raised: how many rungs.
        radius_metres: places with coordinates that lie closer are the same place.
    """

    within: Limit
    raised: Annotated[int, Field(ge=0)] = 1
    radius_metres: Annotated[int, Field(ge=0, le=5000)] = 50


class Assessment(_Part):
    """Weights of the township's rating (seed; domain.md §6).

    Attributes:
        resident_weight: share of a resident unit's score; at least 0.6.
        department_weight: share of a reporting department's yearly score; about one third.
    """

    resident_weight: Annotated[Decimal, Field(ge=Decimal("0.6"), le=1)] = Decimal("0.6")
    department_weight: Annotated[Decimal, Field(ge=0, le=1)] = Decimal("0.3333")


class Ranking(_Part):
    """Rank lists in figures and bulletins (domain.md §5): off unless a district wants them, and never of a few.

    Attributes:
        least: a group with a smaller denominator is in no list; at least 10.
    """

    shown: bool = False
    least: Annotated[int, Field(ge=10)] = 10


_SPREAD = AliasChoices("wake_spread", "wake_spread_seconds")


class Policy(_Part):
    """All that a district may decide for itself, with a version.

    Attributes:
        version: named by the district; cases show it and figures quote it.
        yellow_share: the share of a limit that is left when a clock turns yellow (domain.md §4: a quarter).
        wake_spread: escalation work of cases that fall due at one moment is spread over this long.
            The recorded due time is never moved.
        automatic_dispatch: a released call with an item is dispatched at once as the list says.
        objections_to_group: after so many departments have declined the lead, the next goes straight to the group.
    """

    version: Annotated[str, Field(min_length=1, max_length=64)]
    limits: Limits
    ladder: Ladder
    yellow_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    wake_spread: Annotated[
        timedelta, Field(ge=timedelta(0), le=timedelta(minutes=5), validation_alias=_SPREAD)
    ] = timedelta(0)
    automatic_dispatch: bool = False
    objections_to_group: Annotated[int, Field(ge=2)] = 3
    warning: YellowWarning | None = None
    quiet_hours: QuietHours | None = None
    recurrence: Recurrence | None = None
    assessment: Assessment = Assessment()
    ranking: Ranking = Ranking()

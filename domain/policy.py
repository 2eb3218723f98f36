"""Policy: the limits, the ladder and the weights of a district, as one versioned value.

A case carries the policy that it was opened under in its own history; nothing here is read from a file
while a case runs. Source of the defaults: domain.md §4; they live in `districts/*/policy.toml`, not here.
"""

from datetime import time, timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

from domain.calendar import Limit


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
    """The clocks of a case. `case` never resets; the others belong to one step."""

    DISPATCH = "dispatch"
    SIGN = "sign"
    CHECK_IN = "check_in"
    CONFIRM = "confirm"
    HANDLING = "handling"
    CASE = "case"
    RATING = "rating"


class Order(StrEnum):
    """What a rung of the ladder sends: a reminder 催办, a supervision order 督办单, or a report to superiors."""

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
    """

    cut_off: time
    next_day_by: time
    urgent: Limit


class Limits(_Part):
    """Every limit of the straight path."""

    dispatch: ByUrgency
    sign: ByUrgency
    check_in: CheckInLimit
    confirm: Limit
    handling: dict[LimitClass, Limit]
    rating: Limit

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
    """The rungs for a department's clocks, for the dispatcher's, and for the whole case's."""

    department: tuple[Rung, ...]
    dispatch: tuple[Rung, ...] = ()
    case: tuple[Rung, ...] = ()

    @model_validator(mode="after")
    def _levels_ascend(self) -> Self:
        for name in ("department", "dispatch", "case"):
            levels = [rung.level for rung in getattr(self, name)]
            if levels != sorted(set(levels)):
                msg = f"ladder.{name} 的级别必须逐级递增且不重复"
                raise ValueError(msg)
        return self

    def of(self, kind: ClockKind) -> tuple[Rung, ...]:
        """Return the rungs that a late clock of this kind climbs; rating and confirmation have none."""
        match kind:
            case ClockKind.SIGN | ClockKind.CHECK_IN | ClockKind.HANDLING:
                return self.department
            case ClockKind.DISPATCH:
                return self.dispatch
            case ClockKind.CASE:
                return self.case
            case ClockKind.CONFIRM | ClockKind.RATING:
                return ()


_SPREAD = AliasChoices("wake_spread", "wake_spread_seconds")


class Policy(_Part):
    """All that a district may decide for itself, with a version.

    Attributes:
        version: named by the district; cases show it and figures quote it.
        yellow_share: the share of a limit that is left when a clock turns yellow (domain.md §4: a quarter).
        wake_spread: escalation work of cases that fall due at one moment is spread over this long.
            The recorded due time is never moved.
    """

    version: Annotated[str, Field(min_length=1, max_length=64)]
    limits: Limits
    ladder: Ladder
    yellow_share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    wake_spread: Annotated[
        timedelta, Field(ge=timedelta(0), le=timedelta(minutes=5), validation_alias=_SPREAD)
    ] = timedelta(0)

"""The figures of domain.md §6, so that everyone computes the same; each definition is told in docs/figures.md.

No rate stands without its denominator, and a rate of nothing has no value: never 100 %. What leaves the figures
stays counted as marked, with the reason. The number of calls is shown and enters no score.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from domain.calendar import SHANGHAI
from domain.case import Assignment, CaseState, CheckIn, Clock, Direction, Grade, Rating, Stage
from domain.errors import Invalid
from domain.policy import Assessment, ClockKind, Ranking

BASICALLY = Decimal("0.9")
"""What 基本满意 counts for in satisfaction (domain.md §6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A part of a whole, with the whole beside it.

    Attributes:
        numerator: whole but for satisfaction, where 基本满意 counts 0.9.
        n: the denominator.
    """

    numerator: Decimal
    n: int

    @property
    def value(self) -> Decimal | None:
        """The share, 0 to 1; None when there is nothing to divide by."""
        return self.numerator / self.n if self.n else None


def rate(numerator: Decimal | int, n: int) -> Rate:
    """Return the rate of a count."""
    return Rate(numerator=Decimal(numerator), n=n)


class LeftOut(StrEnum):
    """Why something that is in the record is not in the figures."""

    DOWNWARD = "downward"
    NOT_RELEASED = "not_released"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    MERGED = "merged"
    RULING = "released_by_ruling"
    EXEMPTED = "exempted_by_appeal"


_STAGES_LEFT_OUT = {
    Stage.AWAITING_RELEASE: LeftOut.NOT_RELEASED,
    Stage.AWAITING_ADMISSION: LeftOut.NOT_RELEASED,
    Stage.REFUSED: LeftOut.REFUSED,
    Stage.CANCELLED: LeftOut.CANCELLED,
    Stage.MERGED: LeftOut.MERGED,
}
_NO_STEPS = frozenset({ClockKind.SUSPENSION})


def case_left_out(state: CaseState) -> LeftOut | None:
    """Return why the whole case is not in the figures, or None.

    A department that asks something of a township is no 报到; a duplicate would count one matter twice.
    """
    if state.call.direction is Direction.DOWN:
        return LeftOut.DOWNWARD
    return _STAGES_LEFT_OUT.get(state.stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attendance:
    """One department on one case, or that was on it, with the clocks of that time.

    Attributes:
        left_at: when it left the case; None while it is on it.
        left_out: why it is in no figure at all. One that an appeal exempts is: only its punctuality is not.
        closed: the case has closed with the department on it.
    """

    assignment: Assignment
    clocks: tuple[Clock, ...]
    left_at: datetime | None = None
    left_out: LeftOut | None = None
    closed: bool = False

    @property
    def check_in(self) -> CheckIn | None:
        """The check-in that counts: the township has confirmed it, or can no longer dispute it.

        A case may close before the township's time to say so is over: who closes it has taken the work, and with it
        that somebody came (domain.md §4: silence confirms).
        """
        check_in = self.assignment.check_in
        accepted = check_in is not None and (check_in.counts or (self.closed and check_in.stands))
        return check_in if accepted else None

    @property
    def untimed(self) -> LeftOut | None:
        """Why sign-for, check-in and hours do not count; the rating of one that is exempted does."""
        return self.left_out or (LeftOut.EXEMPTED if self.assignment.exempted else None)

    def clock(self, kind: ClockKind) -> Clock | None:
        """Return its first clock of this kind, or None."""
        return next((each for each in self.clocks if each.kind is kind), None)


def attendances(state: CaseState) -> tuple[Attendance, ...]:
    """Return every department that is or was on the case; one that came back stands for each of its times."""
    whole = case_left_out(state)
    found = [
        Attendance(
            assignment=each.assignment,
            clocks=_clocks_between(state, each.assignment.department, before=each.left_at),
            left_at=each.left_at,
            left_out=whole or (None if each.in_figures else LeftOut.RULING),
        )
        for each in state.former
    ]
    found += [
        Attendance(
            assignment=each,
            clocks=_clocks_between(state, each.department),
            left_out=whole,
            closed=state.stage is Stage.CLOSED,
        )
        for each in state.assignments
    ]
    return tuple(found)


def _clocks_between(state: CaseState, department: str, before: datetime | None = None) -> tuple[Clock, ...]:
    """Return the department's clocks that started since it last left the case, or since it did before that."""
    left = [each.left_at for each in state.former if each.assignment.department == department]
    since = max((each for each in left if before is None or each < before), default=None)
    return tuple(
        clock
        for clock in state.clocks
        if clock.department == department
        and (before is None or clock.started_at < before)
        and (since is None or clock.started_at >= since)
    )


def rating_as_given(assignment: Assignment) -> Rating | None:
    """Return the latest rating as the caller gave it.

    One that sent the work back counts until the next is given: a rework that nobody rates wipes nothing out.
    """
    return assignment.rating or (assignment.past_ratings[-1] if assignment.past_ratings else None)


def rating_that_counts(assignment: Assignment) -> Rating | None:
    """Return the latest rating, as an upheld appeal corrected it where one did."""
    given, corrected = rating_as_given(assignment), assignment.corrected
    return (
        corrected if given is not None and corrected is not None and corrected.round == given.round else given
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Median and 90th percentile (nearest rank) in hours; None of nothing."""

    n: int
    median: float | None
    p90: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepHours:
    """How long a step took, from the start of its clock to its end: raw, and without what was suspended."""

    step: ClockKind
    gross: Spread
    net: Spread


def spread(hours: Iterable[float]) -> Spread:
    """Return where the middle and the slow end lie."""
    ordered = sorted(hours)
    if not ordered:
        return Spread(n=0, median=None, p90=None)
    place = math.ceil(len(ordered) * 9 / 10) - 1
    return Spread(n=len(ordered), median=statistics.median(ordered), p90=ordered[place])


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All figures of a set of cases and department assignments; see docs/figures.md for each definition.

    Attributes:
        due: assignments that had to check in by now, or have come before they had to.
        signed: by a person, in time or not; `deemed`: the limit passed unsigned.
        awaiting_confirmation: come, but the township has not said so yet.
        satisfaction: by the ratings that count; `satisfaction_as_given` by the same ratings before correction.
        corrected: how many ratings an upheld appeal corrected.
        channels: share of each channel in the cases.
        policy_versions: how many cases were opened under, or have adopted, each.
    """

    cases: int
    dispatched: int
    due: int
    signed: int
    deemed: int
    awaiting_confirmation: int
    sign_for: Rate
    timely_sign_for: Rate
    check_in: Rate
    same_day: Rate
    on_time: Rate
    closed: Rate
    closed_on_time: Rate
    rework: Rate
    reopened: Rate
    objection: Rate
    objection_upheld: Rate
    satisfaction: Rate
    satisfaction_as_given: Rate
    unrated: Rate
    resolution: Rate
    corrected: int
    grades: Mapping[Grade, int]
    steps: tuple[StepHours, ...]
    channels: Mapping[str, Rate]
    policy_versions: Mapping[str, int]
    cases_left_out: Mapping[LeftOut, int]
    assignments_left_out: Mapping[LeftOut, int]

    def rates(self) -> Mapping[str, Rate]:
        """Return every rate by its name, the channels apart."""
        found = {name: getattr(self, name) for name in type(self).__dataclass_fields__}
        return {name: each for name, each in found.items() if isinstance(each, Rate)}


class _Count(StrEnum):
    CASES = "cases"
    DISPATCHED = "dispatched"
    SIGNED = "signed"
    DEEMED = "deemed"
    TIMELY = "timely"
    DUE = "due"
    CONFIRMED = "confirmed"
    UNCONFIRMED = "unconfirmed"
    SAME_DAY = "same_day"
    ON_TIME = "on_time"
    CLOSED = "closed"
    DUE_TO_CLOSE = "due_to_close"
    CLOSED_ON_TIME = "closed_on_time"
    DONE_ONCE = "done_once"
    REWORKED = "reworked"
    CLOSED_ONCE = "closed_once"
    REOPENED = "reopened"
    SENT_OUT = "sent_out"
    OBJECTED = "objected"
    RULED = "ruled"
    UPHELD = "upheld"
    UNRATED = "unrated"
    SOLVED = "solved"
    CORRECTED = "corrected"


@dataclass(slots=True)
class Tally:
    """Counts cases and assignments one by one and keeps none of them; `figures` says what has been counted.

    Args:
        moment: aware; what has passed by then has passed. It is not after the states.
    """

    moment: datetime
    _counts: Counter[_Count] = field(default_factory=Counter)
    _given: Counter[Grade] = field(default_factory=Counter)
    _grades: Counter[Grade] = field(default_factory=Counter)
    _hours: dict[ClockKind, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    _channels: Counter[str] = field(default_factory=Counter)
    _versions: Counter[str] = field(default_factory=Counter)
    _cases_left_out: Counter[LeftOut] = field(default_factory=Counter)
    _assignments_left_out: Counter[LeftOut] = field(default_factory=Counter)

    def add_case(self, state: CaseState, departments: Sequence[Attendance]) -> None:
        """Count what concerns the case as a whole; the departments are those of `attendances`."""
        left_out = case_left_out(state)
        if left_out is not None:
            self._cases_left_out[left_out] += 1
            return
        self._channels[state.call.channel] += 1
        self._versions[state.policy_version] += 1
        whole = [clock for clock in state.clocks if clock.kind is ClockKind.CASE]
        late = any(clock.is_red(self.moment) for clock in whole)
        closed, closed_once = state.stage is Stage.CLOSED, bool(state.closure or state.past_closures)
        everyone = [each.assignment for each in departments if each.left_out is None]
        reworked = any(each.round > 1 for each in everyone)
        decided = [each for each in state.objections if each.upheld is not None]
        self._count(
            {
                _Count.CASES: True,
                _Count.CLOSED: closed,
                _Count.DUE_TO_CLOSE: closed or late,
                _Count.CLOSED_ON_TIME: closed and not late,
                _Count.DONE_ONCE: reworked or any(each.done_at is not None for each in everyone),
                _Count.REWORKED: reworked,
                _Count.CLOSED_ONCE: closed_once,
                _Count.REOPENED: bool(state.past_closures),
                _Count.SENT_OUT: bool(state.assignments or state.former),
                _Count.OBJECTED: bool(state.objections),
            }
        )
        self._counts[_Count.RULED] += len(decided)
        self._counts[_Count.UPHELD] += sum(each.upheld is True for each in decided)
        self._time(clock for clock in state.clocks if clock.department is None)

    def add_attendance(self, state: CaseState, one: Attendance) -> None:
        """Count what concerns one department on the case."""
        if one.untimed is not None:
            self._assignments_left_out[one.untimed] += 1
        else:
            self._punctuality(one)
        if one.left_out is None:
            self._judgement(state, one.assignment)

    def figures(self) -> Figures:
        """Return what has been counted so far."""
        counts, rated = self._counts, sum(self._grades.values())
        return Figures(
            cases=counts[_Count.CASES],
            dispatched=counts[_Count.DISPATCHED],
            due=counts[_Count.DUE],
            signed=counts[_Count.SIGNED],
            deemed=counts[_Count.DEEMED],
            awaiting_confirmation=counts[_Count.UNCONFIRMED],
            sign_for=self._rate(_Count.SIGNED, _Count.DISPATCHED),
            timely_sign_for=self._rate(_Count.TIMELY, _Count.DISPATCHED),
            check_in=self._rate(_Count.CONFIRMED, _Count.DUE),
            same_day=self._rate(_Count.SAME_DAY, _Count.DUE),
            on_time=self._rate(_Count.ON_TIME, _Count.DUE),
            closed=self._rate(_Count.CLOSED, _Count.CASES),
            closed_on_time=self._rate(_Count.CLOSED_ON_TIME, _Count.DUE_TO_CLOSE),
            rework=self._rate(_Count.REWORKED, _Count.DONE_ONCE),
            reopened=self._rate(_Count.REOPENED, _Count.CLOSED_ONCE),
            objection=self._rate(_Count.OBJECTED, _Count.SENT_OUT),
            objection_upheld=self._rate(_Count.UPHELD, _Count.RULED),
            satisfaction=_satisfaction(self._grades),
            satisfaction_as_given=_satisfaction(self._given),
            unrated=rate(counts[_Count.UNRATED], counts[_Count.UNRATED] + rated),
            resolution=rate(counts[_Count.SOLVED], rated),
            corrected=counts[_Count.CORRECTED],
            grades={grade: self._grades[grade] for grade in Grade},
            steps=tuple(
                StepHours(
                    step=kind,
                    gross=spread(gross for gross, _ in self._hours[kind]),
                    net=spread(net for _, net in self._hours[kind]),
                )
                for kind in ClockKind
                if kind in self._hours
            ),
            channels={
                channel: rate(count, counts[_Count.CASES])
                for channel, count in sorted(self._channels.items())
            },
            policy_versions=dict(sorted(self._versions.items())),
            cases_left_out=dict(sorted(self._cases_left_out.items())),
            assignments_left_out=dict(sorted(self._assignments_left_out.items())),
        )

    def _punctuality(self, one: Attendance) -> None:
        assignment, check_in, limit = one.assignment, one.check_in, one.clock(ClockKind.CHECK_IN)
        due = limit is not None and (check_in is not None or self._has_fallen_due(limit, one.left_at))
        came = check_in is not None and limit is not None
        told = assignment.check_in
        self._count(
            {
                _Count.DISPATCHED: True,
                _Count.SIGNED: assignment.signed_at is not None,
                _Count.DEEMED: assignment.sign_deemed_at is not None,
                _Count.TIMELY: assignment.signed_at is not None and assignment.sign_deemed_at is None,
                _Count.DUE: due,
                _Count.CONFIRMED: came,
                _Count.UNCONFIRMED: check_in is None and told is not None and told.stands,
            }
        )
        if came and check_in is not None and limit is not None:
            arrived, deadline = check_in.arrived_at, limit.due_at
            self._count(
                {
                    _Count.SAME_DAY: arrived.astimezone(SHANGHAI).date()
                    <= deadline.astimezone(SHANGHAI).date(),
                    _Count.ON_TIME: arrived <= deadline,
                }
            )
        left_at = one.left_at
        self._time(
            clock
            for clock in one.clocks
            if left_at is None or (clock.ended_at is not None and clock.ended_at < left_at)
        )

    def _has_fallen_due(self, limit: Clock, left_at: datetime | None) -> bool:
        """Whether the deadline was reached; not for one that was relieved, or stands still, before it."""
        until = min(each for each in (self.moment, limit.paused_at, left_at) if each is not None)
        return limit.due_at <= until

    def _judgement(self, state: CaseState, assignment: Assignment) -> None:
        counts, given = rating_that_counts(assignment), rating_as_given(assignment)
        if counts is None or given is None:
            still_on_it = state.assignment(assignment.department) is assignment
            self._count({_Count.UNRATED: state.stage is Stage.CLOSED and still_on_it})
            return
        self._grades[counts.grade] += 1
        self._given[given.grade] += 1
        self._count({_Count.SOLVED: counts.solved, _Count.CORRECTED: counts is not given})

    def _time(self, clocks: Iterable[Clock]) -> None:
        hour = timedelta(hours=1)
        for clock in clocks:
            if clock.ended_at is not None and clock.kind not in _NO_STEPS:
                ended = clock.ended_at
                self._hours[clock.kind].append((clock.gross(ended) / hour, clock.net(ended) / hour))

    def _count(self, what: Mapping[_Count, bool]) -> None:
        self._counts.update({each: 1 for each, holds in what.items() if holds})

    def _rate(self, part: _Count, whole: _Count) -> Rate:
        return rate(self._counts[part], self._counts[whole])


def _satisfaction(grades: Counter[Grade]) -> Rate:
    numerator = grades[Grade.SATISFIED] + BASICALLY * grades[Grade.BASICALLY_SATISFIED]
    return rate(numerator, sum(grades.values()))


# --- grouping ----------------------------------------------------------------------------------------------


class By(StrEnum):
    """What figures may be told apart by. A case belongs to its lead department; its month is that of the call."""

    DISTRICT = "district"
    TOWNSHIP = "township"
    DEPARTMENT = "department"
    FIELD = "field"
    ITEM = "item"
    CHANNEL = "channel"
    MONTH = "month"


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """One group. Codes mean something only within a district; it is empty where a group spans districts.

    Attributes:
        code: empty for what belongs to none: a call without item, a case that nobody has dispatched.
    """

    district: str
    code: str


class Grouping:
    """Counts cases as they come, in all and by group; the order in which they come does not matter.

    Args:
        by: None for the total only.
        field_of: the field (领域) of an item of a district, for grouping by field.
    """

    def __init__(
        self, moment: datetime, by: By | None = None, field_of: Callable[[str, str], str] | None = None
    ) -> None:
        self._moment, self._by, self._field_of = moment, by, field_of
        self._total = Tally(moment)
        self._groups: dict[Key, Tally] = {}

    def add(self, states: Iterable[CaseState]) -> None:
        """Count these."""
        for state in states:
            lead, departments = state.lead.department if state.lead else "", attendances(state)
            for tally in self._tallies(state, lead):
                tally.add_case(state, departments)
            for one in departments:
                for tally in self._tallies(state, one.assignment.department):
                    tally.add_attendance(state, one)

    @property
    def total(self) -> Figures:
        """The figures of everything that was counted."""
        return self._total.figures()

    def rows(self) -> dict[Key, Figures]:
        """Return the figures of each group, by key."""
        return {key: self._groups[key].figures() for key in sorted(self._groups)}

    def _tallies(self, state: CaseState, department: str) -> Sequence[Tally]:
        if self._by is None:
            return (self._total,)
        key = self._key(state, department, self._by)
        return (self._total, self._groups.setdefault(key, Tally(self._moment)))

    def _key(self, state: CaseState, department: str, by: By) -> Key:
        call = state.call
        match by:
            case By.DISTRICT:
                return Key(call.district, call.district)
            case By.TOWNSHIP:
                return Key(call.district, call.township)
            case By.DEPARTMENT:
                return Key(call.district, department)
            case By.ITEM:
                return Key(call.district, call.item_code or "")
            case By.FIELD:
                return Key("", self._field(call.district, call.item_code))
            case By.CHANNEL:
                return Key("", call.channel)
            case By.MONTH:
                return Key("", f"{state.called_at.astimezone(SHANGHAI):%Y-%m}")

    def _field(self, district: str, item: str | None) -> str:
        return "" if item is None or self._field_of is None else self._field_of(district, item)


def require_period(begin: datetime | None, before: datetime | None) -> None:
    """Raise `empty_period` unless the half-open period holds any moment; None is open."""
    if begin is not None and before is not None and begin >= before:
        raise Invalid("empty_period", "统计起始时间(from)须早于截止时间(before)。")


def ranked(rows: Mapping[Key, Figures], of: str, ranking: Ranking) -> dict[Key, int]:
    """Return the place of each group by one of its rates, highest first, equal ones sharing a place.

    Empty unless the policy lets lists be shown; groups with fewer than `least` are left out. Only rates can be
    ranked: no list by the number of calls can be asked for.
    """
    if not ranking.shown:
        return {}
    listed = {
        key: each.value
        for key, each in ((key, row.rates()[of]) for key, row in rows.items())
        if each.value is not None and each.n >= ranking.least
    }
    return {key: 1 + sum(other > value for other in listed.values()) for key, value in listed.items()}


# --- assessment --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """0 to 100, with what it is made of. Townships have none.

    Attributes:
        rating: satisfaction as the townships rated; with its n.
        weight: its share of the score; `policy_version` says whose.
        other: the imported part, 0 to 100; None when it is not known yet.
    """

    rating: Rate
    weight: Decimal
    policy_version: str
    other: Decimal | None = None

    @property
    def rating_points(self) -> Decimal | None:
        """What the rating contributes; None without any rating."""
        return None if self.rating.value is None else self.rating.value * 100 * self.weight

    @property
    def value(self) -> Decimal | None:
        """The whole score; None while a part of it is missing."""
        if self.rating_points is None or self.other is None:
            return None
        return self.rating_points + self.other * (1 - self.weight)


def resident_score(
    rating: Rate, weights: Assessment, policy_version: str, home: Decimal | None = None
) -> Score:
    """Return a resident unit's score: w × the township's rating + (1 − w) × the home department's, w at least 0.6.

    Raises:
        Invalid: `score_out_of_range`.
    """
    return _score(rating, weights.resident_weight, policy_version, home)


def department_score(
    rating: Rate, weights: Assessment, policy_version: str, other: Decimal | None = None
) -> Score:
    """Return a department's yearly score: about one third the townships' rating, the rest imported.

    Raises:
        Invalid: `score_out_of_range`.
    """
    return _score(rating, weights.department_weight, policy_version, other)


_FULL = 100


def _score(rating: Rate, weight: Decimal, policy_version: str, other: Decimal | None) -> Score:
    if other is not None and not 0 <= other <= _FULL:
        raise Invalid("score_out_of_range", "导入的考核分须在 0 至 100 之间。")
    return Score(rating=rating, weight=weight, policy_version=policy_version, other=other)


@dataclass(frozen=True, slots=True)
class Unit:
    """Who is assessed: a department, or its officers resident in one township."""

    district: str
    department: str
    township: str = ""


class RatingsByUnit:
    """Collects the ratings that count, for departments and for their units resident in townships."""

    def __init__(self) -> None:
        self._grades: dict[Unit, Counter[Grade]] = defaultdict(Counter)

    def add(self, states: Iterable[CaseState]) -> None:
        """Collect what these say."""
        for state in states:
            for one in attendances(state):
                assignment, district = one.assignment, state.call.district
                counts = None if one.left_out else rating_that_counts(assignment)
                if counts is None:
                    continue
                self._grades[Unit(district, assignment.department)][counts.grade] += 1
                if assignment.resident:
                    unit = Unit(district, assignment.department, state.call.township)
                    self._grades[unit][counts.grade] += 1

    def rates(self) -> dict[Unit, Rate]:
        """Return satisfaction for each."""
        ordered = sorted(self._grades, key=lambda unit: (unit.district, unit.department, unit.township))
        return {unit: _satisfaction(self._grades[unit]) for unit in ordered}

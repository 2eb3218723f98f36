"""Ratings that look mechanical or bought (domain.md §5): flagged for people to look at, never dropped."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.case import CaseId, CaseState, Rating, Role
from domain.figures import attendances
from domain.policy import ClockKind


class Pattern(StrEnum):
    """What is striking about them."""

    UNIFORM = "uniform"
    LAST_MINUTE = "last_minute"
    TOO_FAST = "too_fast"


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenRating:
    """One rating as it was given; a correction is none.

    Attributes:
        rater: the caller's side: the township, or the citizen who called. The case does not keep which officer it was.
        used: share of the rating limit that had gone by, 0 to 1; None when no limit ran.
    """

    case_id: CaseId
    district: str
    township: str
    department: str
    rater: str
    rating: Rating
    used: float | None = None

    @property
    def at(self) -> datetime:
        """When it was given."""
        return self.rating.at

    @property
    def judgement(self) -> tuple[Hashable, ...]:
        """The grade with its stars."""
        return (self.rating.grade, self.rating.response, self.rating.action, self.rating.result)


@dataclass(frozen=True, slots=True, kw_only=True)
class RatingFlag:
    """Something to look at, with the ratings that it rests on, oldest first.

    Attributes:
        of: how many ratings of the same rater or township were looked at.
    """

    pattern: Pattern
    district: str
    rater: str
    ratings: tuple[GivenRating, ...]
    of: int


def given_ratings(state: CaseState) -> tuple[GivenRating, ...]:
    """Return every rating that was given on the case, those that led to rework too; in no figures or not."""
    by_citizen = any(post.role is Role.CITIZEN for post in state.caller.posts)
    clocks = [clock for clock in state.clocks if clock.kind is ClockKind.RATING]

    def used(at: datetime) -> float | None:
        """Pauses and all: the limit as the rater saw it on the calendar."""
        ran = [clock for clock in clocks if clock.started_at <= at]
        if not ran or ran[-1].due_at <= ran[-1].started_at:
            return None
        return min((at - ran[-1].started_at) / (ran[-1].due_at - ran[-1].started_at), 1.0)

    return tuple(
        GivenRating(
            case_id=state.case_id,
            district=state.call.district,
            township=state.call.township,
            department=each.assignment.department,
            rater=state.caller.id if by_citizen else state.call.township,
            rating=rating,
            used=used(rating.at),
        )
        for each in attendances(state)
        for rating in (
            *each.assignment.past_ratings,
            *((each.assignment.rating,) if each.assignment.rating else ()),
        )
    )


def uniform(ratings: Iterable[GivenRating], *, run: int = 10) -> list[RatingFlag]:
    """Flag raters who gave the same grade and stars at least `run` times in a row, whichever the departments."""
    return [
        _flag(Pattern.UNIFORM, rater, same, len(given))
        for rater, given in _by(ratings, lambda each: (each.district, each.rater))
        for same in _runs(given, lambda before, after: before.judgement == after.judgement)
        if len(same) >= run
    ]


def last_minute(
    ratings: Iterable[GivenRating], *, last_share: float = 0.1, most: float = 0.5, least: int = 10
) -> list[RatingFlag]:
    """Flag townships that gave more than `most` of their ratings in the last `last_share` of the rating limit.

    Args:
        least: how many ratings with a limit there must be before anything is said.
    """
    flags = []
    for township, given in _by(ratings, lambda each: (each.district, each.township)):
        timed = [each for each in given if each.used is not None]
        late = [each for each in timed if each.used is not None and each.used >= 1 - last_share]
        if len(timed) >= least and len(late) > most * len(timed):
            flags.append(_flag(Pattern.LAST_MINUTE, township, late, len(timed)))
    return flags


def too_fast(
    ratings: Iterable[GivenRating], *, within: timedelta = timedelta(minutes=1), cases: int = 2
) -> list[RatingFlag]:
    """Flag ratings of one rater that follow each other within a minute.

    Args:
        cases: of how many cases they must be: the departments of one case may well be judged in one go.
    """
    return [
        _flag(Pattern.TOO_FAST, rater, quick, len(given))
        for rater, given in _by(ratings, lambda each: (each.district, each.rater))
        for quick in _runs(given, lambda before, after: after.at - before.at <= within)
        if len(quick) > 1 and len({each.case_id for each in quick}) >= cases
    ]


def rating_flags(ratings: Iterable[GivenRating]) -> list[RatingFlag]:
    """Return all flags, each with its defaults."""
    given = list(ratings)
    return [*uniform(given), *last_minute(given), *too_fast(given)]


def _flag(
    pattern: Pattern, subject: tuple[str, str], ratings: Iterable[GivenRating], count: int
) -> RatingFlag:
    district, rater = subject
    return RatingFlag(pattern=pattern, district=district, rater=rater, ratings=tuple(ratings), of=count)


def _by(
    ratings: Iterable[GivenRating], subject: Callable[[GivenRating], tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], list[GivenRating]]]:
    """Yield each subject with its ratings as they were given, whatever order they came in."""
    found: dict[tuple[str, str], list[GivenRating]] = defaultdict(list)
    for each in sorted(ratings, key=lambda one: (one.at, one.case_id, one.department)):
        found[subject(each)].append(each)
    yield from sorted(found.items())


def _runs(
    ordered: Iterable[GivenRating], belongs: Callable[[GivenRating, GivenRating], bool]
) -> Iterator[list[GivenRating]]:
    """Yield the longest runs in which each belongs to the one before."""
    run: list[GivenRating] = []
    for each in ordered:
        if run and not belongs(run[-1], each):
            yield run
            run = []
        run.append(each)
    if run:
        yield run

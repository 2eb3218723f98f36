"""Ratings that look mechanical are flagged with what the flag rests on; none is dropped."""

from collections.abc import Sequence
from datetime import timedelta

from domain.case import CaseId, Grade, Rating
from domain.rating_patterns import (
    GivenRating,
    Pattern,
    given_ratings,
    last_minute,
    rating_flags,
    too_fast,
    uniform,
)
from tests.sample import CITIZEN, ECOLOGY, POLICE, TOWN, TOWN_APPROVER, Play, shanghai

START = shanghai("2026-03-04 09:00")


def rated(
    minute: float,
    *,
    case: int | None = None,
    grade: Grade = Grade.SATISFIED,
    stars: int | None = None,
    rater: str = "town",
    department: str = "ecology",
    used: float | None = None,
) -> GivenRating:
    """One rating, so many minutes after nine."""
    at = START + timedelta(minutes=minute)
    return GivenRating(
        case_id=CaseId(f"case-{case if case is not None else minute}"),
        district="sample",
        township="town",
        department=department,
        rater=rater,
        rating=Rating(grade=grade, solved=True, response=stars, at=at),
        used=used,
    )


def hourly(count: int, **changes: object) -> list[GivenRating]:
    """So many ratings, one an hour."""
    return [rated(60 * hour, **changes) for hour in range(count)]  # type: ignore[arg-type]


def test_the_same_grade_and_stars_ten_times_in_a_row_is_uniform_whichever_the_departments() -> None:
    given = [rated(60 * hour, department=f"d{hour}", stars=5) for hour in range(10)]
    assert uniform(given[:9]) == []
    (flag,) = uniform(reversed(given))
    assert (flag.pattern, flag.rater, flag.ratings, flag.of) == (Pattern.UNIFORM, "town", tuple(given), 10)


def test_one_that_differs_or_another_rater_breaks_the_run() -> None:
    given = hourly(12, stars=5)
    given[6] = rated(360, stars=4)
    assert uniform(given) == []
    given[6] = rated(360, grade=Grade.DISSATISFIED, stars=5)
    assert uniform(given) == []
    given[6] = rated(360, rater="another", stars=5)
    (flag,) = uniform(given)
    assert len(flag.ratings) == 11
    assert len(uniform(hourly(4), run=4)) == 1


def test_most_ratings_in_the_last_tenth_of_the_limit_is_last_minute() -> None:
    def some(late: int, count: int) -> Sequence[GivenRating]:
        return [rated(60 * n, used=0.9 if n < late else 0.89) for n in range(count)]

    assert last_minute(some(5, 10)) == []  # half is not most
    (flag,) = last_minute(some(6, 10))
    assert (flag.pattern, len(flag.ratings), flag.of) == (Pattern.LAST_MINUTE, 6, 10)
    assert last_minute(some(9, 9)) == []  # too few to say anything
    assert len(last_minute(some(9, 9), least=9)) == 1
    assert last_minute([rated(n) for n in range(20)]) == []  # without a limit nothing is late


def test_ratings_of_several_cases_within_a_minute_of_each_other_are_too_fast() -> None:
    given = [rated(0), rated(1), rated(2), rated(3.5)]
    (flag,) = too_fast(given)
    assert (flag.pattern, flag.ratings, flag.of) == (Pattern.TOO_FAST, tuple(given[:3]), 4)
    assert too_fast([rated(0), rated(1, rater="another")]) == []


def test_the_departments_of_one_case_may_be_judged_in_one_go() -> None:
    given = [rated(0, case=1, department="ecology"), rated(0.1, case=1, department="police")]
    assert too_fast(given) == []
    assert len(too_fast(given, cases=1)) == 1


def test_every_rating_of_a_case_is_looked_at_with_how_much_of_the_limit_had_gone_by() -> None:
    play = Play("2026-03-04 09:00", caller=TOWN_APPROVER).dispatch(ECOLOGY, POLICE).sign().check_in()
    play.act().done().rate(ECOLOGY, solved=False)
    play.at("2026-03-05 09:00").act(ECOLOGY).done(ECOLOGY)
    limit = next(play.state.running)
    play.at(limit.started_at + (limit.due_at - limit.started_at) * 0.75).rate()
    given = given_ratings(play.state)
    assert [(each.department, each.rating.round, each.rater) for each in given] == [
        (ECOLOGY, 1, TOWN),
        (ECOLOGY, 2, TOWN),
        (POLICE, 1, TOWN),
    ]
    assert [each.used for each in given] == [0.0, 0.75, 0.75]
    assert rating_flags(given) == []


def test_a_citizen_rates_as_himself_and_not_as_the_township() -> None:
    play = Play("2026-03-04 09:00", caller=CITIZEN)
    assert given_ratings(play.state) == ()
    assessed = play.state.model_copy(update={"assignments": Play().until_rating().rate().state.assignments})
    assert {each.rater for each in given_ratings(assessed)} == {CITIZEN.id}
    assert {each.used for each in given_ratings(assessed)} == {None}

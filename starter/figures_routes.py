"""The figures of domain.md §6 over HTTP. Reads the store only; the definitions are in `domain.figures`."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from domain import access, words
from domain.case import Role
from domain.district import District, Person
from domain.errors import Forbidden
from domain.figures import (
    By,
    Figures,
    Grouping,
    Key,
    RatingsByUnit,
    Unit,
    department_score,
    ranked,
    require_period,
    resident_score,
)
from domain.policy import Ranking
from domain.rating_patterns import GivenRating, RatingFlag, given_ratings, rating_flags
from starter.api import API, Doors, OurDoors, Reader, district_of, identify
from starter.api import router as doors_router
from starter.bodies import Body, Time
from starter.views import LocalTime

router = APIRouter(
    prefix=API, dependencies=[Depends(identify)], tags=["统计"], responses=doors_router.responses
)

Rounded = Annotated[Decimal, PlainSerializer(lambda value: round(float(value), 4), return_type=float)]
_HEADS = {Role.DEPARTMENT_HEAD: By.DEPARTMENT, Role.TOWNSHIP_APPROVER: By.TOWNSHIP}
_RANKED = ("check_in", "on_time", "satisfaction")


class RateView(BaseModel):
    """A share with its denominator; `value` is null when n is 0."""

    model_config = ConfigDict(from_attributes=True)

    numerator: Rounded
    n: int
    value: Rounded | None


class SpreadView(BaseModel):
    """Hours: median and 90th percentile."""

    model_config = ConfigDict(from_attributes=True)

    n: int
    median: float | None
    p90: float | None


class StepView(BaseModel):
    """Hours of one step, raw and without suspension."""

    model_config = ConfigDict(from_attributes=True)

    step: str
    gross: SpreadView
    net: SpreadView


class FiguresView(BaseModel):
    """All figures of a group; definitions in docs/figures.md."""

    model_config = ConfigDict(from_attributes=True)

    cases: int
    dispatched: int
    due: int
    signed: int
    deemed: int
    awaiting_confirmation: int
    sign_for: RateView
    timely_sign_for: RateView
    check_in: RateView
    same_day: RateView
    on_time: RateView
    closed: RateView
    closed_on_time: RateView
    rework: RateView
    reopened: RateView
    objection: RateView
    objection_upheld: RateView
    satisfaction: RateView
    satisfaction_as_given: RateView
    unrated: RateView
    resolution: RateView
    corrected: int
    grades: dict[str, int]
    steps: list[StepView]
    channels: dict[str, RateView]
    policy_versions: dict[str, int]
    cases_left_out: dict[str, int]
    assignments_left_out: dict[str, int]


class RowView(BaseModel):
    """One group; `ranks` only where the policy shows rank lists, and never for n < 10."""

    district: str
    code: str
    name: str
    figures: FiguresView
    ranks: dict[str, int]


class GivenView(BaseModel):
    """A rating that a flag rests on."""

    case_id: str
    department: str
    grade: str
    grade_label: str
    at: LocalTime


class FlagView(BaseModel):
    """Ratings to look at; they count all the same."""

    pattern: str
    district: str
    rater: str
    of: int
    ratings: list[GivenView]


class FiguresPage(BaseModel):
    """Figures of the cases called in a half-open period, as they stand at `at`."""

    district: str | None
    called_from: LocalTime | None
    called_before: LocalTime | None
    at: LocalTime
    by: str | None
    total: FiguresView
    rows: list[RowView]
    rating_flags: list[FlagView]


class ScoreView(BaseModel):
    """The townships' part of a score: `points` of at most 100 × weight; the rest is imported."""

    district: str
    department: str
    department_name: str
    township: str | None
    township_name: str | None
    rating: RateView
    weight: Rounded
    points: Rounded | None
    imported_weight: Rounded
    policy_version: str


class AssessmentPage(BaseModel):
    """What the ratings contribute to the scores of departments and of resident units. Townships have no score."""

    called_from: LocalTime | None
    called_before: LocalTime | None
    at: LocalTime
    departments: list[ScoreView]
    resident_units: list[ScoreView]


class Period(Body):
    """Which cases: those called from one moment until before another."""

    district: Annotated[str | None, Field(description="区(市);市级不填则为全市")] = None
    begin: Annotated[Time | None, Field(alias="from", description="吹哨时间不早于")] = None
    before: Annotated[Time | None, Field(description="吹哨时间早于")] = None


class Asked(Period):
    """Figures, told apart by something; only the total when nothing is named."""

    by: By | None = None


@router.get("/figures", summary="统计指标")
async def show_figures(doors: OurDoors, person: Reader, asked: Annotated[Asked, Query()]) -> FiguresPage:
    """各项指标均附分母;部门、镇街负责人只能查看本单位一行。"""
    require_period(asked.begin, asked.before)
    now = datetime.now(UTC)
    if access.sight(person.actor()).district is None:
        return await _own_row(doors, person, asked, now)
    districts = _districts(doors, person, asked.district)
    grouping = Grouping(now, asked.by, lambda code, item: _field_of(doors, code, item))
    given: list[GivenRating] = []
    for district in districts:
        async for states in doors.store.states_called(
            district=district.code, called_from=asked.begin, called_before=asked.before
        ):
            grouping.add(states)
            given += [rating for state in states for rating in given_ratings(state)]
    rows = grouping.rows()
    ranking = districts[0].policy.ranking if len(districts) == 1 else Ranking()
    ranks = {of: ranked(rows, of, ranking) for of in _RANKED}
    return FiguresPage(
        district=districts[0].code if len(districts) == 1 else None,
        called_from=asked.begin,
        called_before=asked.before,
        at=now,
        by=asked.by,
        total=_view(grouping.total),
        rows=[
            _row(doors, asked.by, key, figures, {of: ranks[of][key] for of in _RANKED if key in ranks[of]})
            for key, figures in rows.items()
        ],
        rating_flags=[_flag(each) for each in rating_flags(given)],
    )


@router.get("/figures/assessment", summary="考核:镇街评价部分")
async def show_assessment(
    doors: OurDoors, person: Reader, asked: Annotated[Period, Query()]
) -> AssessmentPage:
    """部门年度考核与常驻单元考核中由镇街评价构成的部分及其权重;其余部分另行导入。镇街不计分。"""
    require_period(asked.begin, asked.before)
    seen = access.sight(person.actor())
    own = frozenset[str]() if seen.district else _own_departments(person)
    if not seen.district and not own:
        raise _NOT_FOR_YOU
    departments: list[ScoreView] = []
    units: list[ScoreView] = []
    offices: list[str | None] = [*sorted(own)] if own else [None]
    for district in _districts(doors, person, asked.district):
        for office in offices:
            collected = RatingsByUnit()
            async for states in doors.store.states_called(
                district=district.code,
                called_from=asked.begin,
                called_before=asked.before,
                department=office,
            ):
                collected.add(states)
            for unit, score in _scores(collected, district).items():
                if office in {None, unit.department}:
                    (units if unit.township else departments).append(score)
    return AssessmentPage(
        called_from=asked.begin,
        called_before=asked.before,
        at=datetime.now(UTC),
        departments=departments,
        resident_units=units,
    )


_NOT_FOR_YOU = Forbidden(
    "role_may_not",
    "您的岗位不能查看统计;统计供领导、督查、协调小组、派单员和审计人员查看,镇街、部门负责人可看本单位。",
)


async def _own_row(doors: Doors, person: Person, asked: Asked, now: datetime) -> FiguresPage:
    """Return the one row of the office that the person is the head of."""
    heads = {_HEADS[post.role]: post.organisation for post in person.posts if post.role in _HEADS}
    by = asked.by or next(iter(heads), None)
    if by is None or by not in heads:
        raise _NOT_FOR_YOU
    district, office = district_of(doors, person, asked.district), heads[by]
    grouping = Grouping(now, by)
    async for states in doors.store.states_called(
        district=district.code,
        called_from=asked.begin,
        called_before=asked.before,
        department=office if by is By.DEPARTMENT else None,
        township=office if by is By.TOWNSHIP else None,
    ):
        grouping.add(states)
    key = Key(district.code, office)
    own = grouping.rows().get(key) or Grouping(now).total
    return FiguresPage(
        district=district.code,
        called_from=asked.begin,
        called_before=asked.before,
        at=now,
        by=by,
        total=_view(own),
        rows=[_row(doors, by, key, own, {})],
        rating_flags=[],
    )


def _own_departments(person: Person) -> frozenset[str]:
    return frozenset(post.organisation for post in person.posts if post.role is Role.DEPARTMENT_HEAD)


def _districts(doors: Doors, person: Person, code: str | None) -> list[District]:
    """Return the district that is asked for; all of them for the city level when none is named."""
    if code is None and access.sight(person.actor()).everything:
        return doors.directory.districts()
    return [district_of(doors, person, code)]


def _field_of(doors: Doors, district: str, item: str) -> str:
    """An item that is in the list no more belongs to no field."""
    known = doors.directory.item(district, item)
    return known.field if known else ""


def _view(figures: Figures) -> FiguresView:
    return FiguresView.model_validate(figures)


def _row(doors: Doors, by: By | None, key: Key, figures: Figures, ranks: dict[str, int]) -> RowView:
    return RowView(
        district=key.district,
        code=key.code,
        name=_name(doors, by, key),
        figures=_view(figures),
        ranks=ranks,
    )


def _name(doors: Doors, by: By | None, key: Key) -> str:
    district = doors.directory.district(key.district)
    if not key.code:
        return "未列事项" if by in {By.ITEM, By.FIELD} else "未派单"
    if district is None:
        return key.code
    match by:
        case By.DISTRICT:
            return district.name
        case By.ITEM:
            item = doors.directory.item(key.district, key.code)
            return item.name if item else key.code
        case _:
            return district.terms().name(key.code)


def _flag(flag: RatingFlag) -> FlagView:
    content: dict[str, Any] = {name: getattr(flag, name) for name in ("pattern", "district", "rater", "of")}
    return FlagView(
        **content,
        ratings=[
            GivenView(
                case_id=each.case_id,
                department=each.department,
                grade=each.rating.grade,
                grade_label=words.GRADES[each.rating.grade],
                at=each.at,
            )
            for each in flag.ratings
        ],
    )


def _scores(collected: RatingsByUnit, district: District) -> dict[Unit, ScoreView]:
    policy, terms = district.policy, district.terms()
    found = {}
    for unit, rating in collected.rates().items():
        of = resident_score if unit.township else department_score
        score = of(rating, policy.assessment, policy.version)
        found[unit] = ScoreView(
            district=unit.district,
            department=unit.department,
            department_name=terms.name(unit.department),
            township=unit.township or None,
            township_name=terms.name(unit.township) if unit.township else None,
            rating=RateView.model_validate(rating),
            weight=score.weight,
            points=score.rating_points,
            imported_weight=1 - score.weight,
            policy_version=score.policy_version,
        )
    return found

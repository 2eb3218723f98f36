"""Who is told of each step of the mechanism, and who sees the case, on both databases."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.queries import CaseQuery
from adapters.store import Store
from domain import audit
from domain.access import may_see, sight
from domain.case import AppealAbout, Basis, CaseId, Direction, Grade, LinkKind, Post
from domain.commands import (
    Adjudicate,
    AdoptTerms,
    AnswerOrder,
    Cancel,
    DecideAppeal,
    DecideExtension,
    DecideSuspension,
    Extend,
    FileAppeal,
    Instruct,
    LinkCase,
    Object,
    Refuse,
    Release,
    Reopen,
    Resume,
    Suspend,
    Transfer,
    Watch,
)
from domain.district import AdoptionScope, District
from domain.lifecycle import fold
from domain.policy import Urgency
from tests.adapters.test_store import NOW, everything, ids, keep, take
from tests.domain.test_mechanism import NEWER
from tests.sample import (
    ADMINISTRATOR,
    CITIZEN,
    COORDINATOR,
    DISPATCHER,
    ECOLOGY,
    FULL_POLICY,
    FULL_TERMS,
    GRID_WORKER,
    HEADS,
    HOUSING,
    LEADER,
    LISTED,
    MARKET,
    OFFICERS,
    OTHER_SUPERVISOR,
    POLICE,
    SUPERVISOR,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    district,
)

SQUAD = "town-squad"


def people() -> District:
    """The sample district with somebody in the township's squad."""
    whole = district(policy=FULL_POLICY)
    member = next(each for each in whole.people if each.id == "town-officer")
    squad = member.posts[0].model_copy(update={"squad": True})
    joined = member.model_copy(update={"id": SQUAD, "name": SQUAD, "posts": (squad,)})
    return whole.model_copy(update={"people": (*whole.people, joined)})


def called(**changes: Any) -> Play:
    """A call under every rule of the mechanism."""
    return Play(terms=FULL_TERMS, **({"caller": TOWN_APPROVER} | changes))


def objected() -> Play:
    """The lead says that it is another's."""
    objection = Object(
        by=OFFICERS[ECOLOGY], department=ECOLOGY, basis=Basis.LAW, reason="非我职责", proposed=HOUSING
    )
    return called().dispatch(ECOLOGY).do(objection)


def suspended() -> Play:
    """The group has approved a suspension."""
    play = called().dispatch(ECOLOGY)
    until = play.now + timedelta(days=9)
    play.do(Suspend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定", until=until))
    return play.do(DecideSuspension(by=COORDINATOR, approve=True))


def extension(*, approve: bool = True) -> Play:
    """The township has decided on more time."""
    play = called().dispatch(ECOLOGY).sign()
    play.do(Extend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="鉴定"))
    return play.do(DecideExtension(by=TOWN_APPROVER, department=ECOLOGY, approve=approve, reason="x"))


def closed(**changes: Any) -> Play:
    """Closed with one department."""
    return called(**changes).dispatch(ECOLOGY).sign().check_in().act().done().rate()


def appealed() -> Play:
    """The department appeals."""
    return closed().do(
        FileAppeal(by=HEADS[ECOLOGY], department=ECOLOGY, about=AppealAbout.RATING, reason="不符")
    )


def decided() -> Play:
    """Two reviewers have upheld it."""
    play = appealed()
    for who in (SUPERVISOR, OTHER_SUPERVISOR):
        play.do(DecideAppeal(by=who, department=ECOLOGY, uphold=True, grade=Grade.SATISFIED, reason="x"))
    return play


def down() -> Play:
    """A department asks what the list does not cover."""
    return called(direction=Direction.DOWN, caller_office=HOUSING, caller=OFFICERS[HOUSING])


def ordered() -> Play:
    """A leader follows the case and issues a supervision order."""
    play = called().dispatch(ECOLOGY).do(Watch(by=LEADER))
    return play.do(Instruct(by=LEADER, text="今日办结", department=ECOLOGY, answer_required=True))


TOWN_HALL = {"town-officer", "town-approver", SQUAD}
COORDINATORS = {"coordinator", "city-coordinator"}
HOUSING_DESK = {"housing-officer"}

TOLD: list[tuple[str, Callable[[], Play], set[str]]] = [
    ("新呼叫待放行", lambda: called(caller=TOWN_OFFICER), {"town-approver"}),
    ("新呼叫待放行", lambda: called(caller=CITIZEN), {"town-approver"}),
    ("新呼叫待派单", lambda: called(caller=TOWN_OFFICER).release(), {"dispatcher"}),
    ("新呼叫待派单", called, {"dispatcher"}),
    (
        "新呼叫待派单",
        lambda: called(caller=TOWN_OFFICER, urgency=Urgency.URGENT),
        {"dispatcher", "town-approver"},
    ),
    ("新呼叫待准入", down, COORDINATORS),
    ("新呼叫待派单", lambda: down().do(Release(by=COORDINATOR)), {"dispatcher"}),
    (
        "呼叫被退回",
        lambda: down().do(Refuse(by=COORDINATOR, reason="x")),
        {"housing-officer", "housing-second", "housing-head"},
    ),
    (
        "呼叫被退回",
        lambda: called(caller=CITIZEN).do(Refuse(by=TOWN_APPROVER, reason="自办")),
        TOWN_HALL,
    ),
    (
        "紧急呼叫复核不成立",
        lambda: called(caller=TOWN_OFFICER, urgency=Urgency.URGENT).do(
            Release(by=TOWN_APPROVER, justified=False, note="x")
        ),
        TOWN_HALL | {"dispatcher"},
    ),
    (
        "新派单待签收",
        lambda: called().dispatch(ECOLOGY, POLICE),
        {"ecology-officer", "police-resident"},
    ),
    ("新派单,待部门签收", lambda: called().dispatch(ECOLOGY, POLICE), {SQUAD}),
    ("部门提出异议", objected, {"dispatcher"}),
    ("异议待裁定", lambda: objected().later(hours=2), COORDINATORS),
    (
        "异议已裁定",
        lambda: objected().do(Adjudicate(by=DISPATCHER, department=ECOLOGY, uphold=True, reason="x")),
        {"ecology-officer", "housing-officer", "dispatcher"},
    ),
    (
        "转办",
        lambda: (
            called().dispatch(ECOLOGY).do(Transfer(by=DISPATCHER, department=ECOLOGY, to=HOUSING, reason="x"))
        ),
        {"ecology-officer", "housing-officer"} | TOWN_HALL,
    ),
    ("延期待审批", extension, {"town-approver"} | COORDINATORS),
    ("延期审批结果", lambda: extension(approve=False), {"ecology-officer"} | TOWN_HALL),
    ("挂账待审批", suspended, COORDINATORS),
    ("挂账审批结果", suspended, {"ecology-officer"} | TOWN_HALL),
    (
        "案件恢复办理",
        lambda: suspended().do(Resume(by=COORDINATOR, reason="x")),
        {"ecology-officer"} | TOWN_HALL,
    ),
    ("时限预警", lambda: called().dispatch(ECOLOGY).sign().at("2026-03-04 16:00"), {"ecology-officer"}),
    ("督办单,请答复", ordered, {"ecology-head", "ecology-officer"} | TOWN_HALL),
    (
        "督办单已答复",
        lambda: ordered().do(AnswerOrder(by=HEADS[ECOLOGY], department=ECOLOGY, text="x")),
        COORDINATORS,
    ),
    (
        "案件重新打开",
        lambda: closed().do(Reopen(by=TOWN_OFFICER, reason="x")),
        {"ecology-officer", "dispatcher"},
    ),
    ("申诉待复核", appealed, {"supervisor", "second-supervisor"}),
    ("申诉结果", decided, {"ecology-officer"} | TOWN_HALL),
    (
        "案件关联",
        lambda: (
            called()
            .dispatch(ECOLOGY)
            .do(LinkCase(by=DISPATCHER, other=CaseId("sample-x"), kind=LinkKind.RELATED))
        ),
        {"ecology-officer"} | TOWN_HALL,
    ),
    (
        "时限调整",
        lambda: (
            called()
            .dispatch(ECOLOGY)
            .do(AdoptTerms(by=ADMINISTRATOR, scope=AdoptionScope.CALENDAR, terms=NEWER, reason="x"))
        ),
        {"ecology-officer"} | TOWN_HALL,
    ),
]


@pytest.mark.parametrize(
    ("title", "play", "told"), TOLD, ids=[f"{n}-{each[0]}" for n, each in enumerate(TOLD)]
)
async def test_each_step_is_told_to_those_whom_it_concerns(
    sqlite_store: Store, title: str, play: Callable[[], Play], told: set[str]
) -> None:
    await sqlite_store.load_district(people(), NOW)
    await keep(sqlite_store, play())
    receivers = {each.receiver for each in await _notices(sqlite_store) if each.title == title}
    assert receivers == told


async def _notices(store: Store) -> list[Any]:
    return list(await store.unsent("sample", 1000, datetime.now(UTC) + timedelta(days=3650)))


async def test_watchers_hear_of_escalations_and_of_the_end_and_reporters_of_the_end(store: Store) -> None:
    await store.load_district(people(), NOW)
    leader = LEADER.model_copy(update={"id": "leader"})
    citizen = CITIZEN.model_copy(update={"id": "citizen"})
    play = called(caller=citizen).release().dispatch(ECOLOGY).do(Watch(by=leader))
    play.later(hours=1).do(Cancel(by=TOWN_OFFICER, reason="已解决"))
    await keep(store, play)
    titles = {who: [each.title for each in await store.inbox(who)] for who in ("leader", "citizen")}
    assert titles == {"leader": ["案件已撤销", "第1级升级通知"], "citizen": ["案件已撤销"]}


async def test_routine_notices_of_the_night_leave_in_the_morning_and_urgent_ones_at_once(
    store: Store,
) -> None:
    await store.load_district(people(), NOW)
    night = "2026-03-04 23:00"
    plays = [
        Play(night, terms=FULL_TERMS, case_id=f"sample-20260304-{urgency.value}", urgency=urgency)
        for urgency in Urgency
    ]
    for play in plays:
        await keep(store, play)
    at_once = await store.unsent("sample", 10, plays[0].now)
    assert {each.case_id for each in at_once} == {"sample-20260304-urgent"}
    morning = plays[0].now + timedelta(hours=8)
    assert {each.case_id for each in await store.unsent("sample", 10, morning)} == {
        play.state.case_id for play in plays
    }
    assert await store.unsent("sample", 10, morning - timedelta(seconds=1)) == at_once


# --- who sees what -----------------------------------------------------------------------------------------


def every_kind() -> list[Play]:
    """Cases of every kind that matters for who sees them."""
    makers: list[Callable[[], Play]] = [play for _, play, _ in TOLD]
    makers += [closed, lambda: called(caller=GRID_WORKER), lambda: called(responsibility=LISTED)]
    makers.append(
        lambda: (
            called().dispatch(POLICE).do(Transfer(by=DISPATCHER, department=POLICE, to=MARKET, reason="x"))
        )
    )
    makers.append(
        lambda: (
            called()
            .dispatch(POLICE)
            .do(Transfer(by=DISPATCHER, department=POLICE, to=MARKET, reason="x"))
            .do(Transfer(by=DISPATCHER, department=MARKET, to=POLICE, reason="x"))
        )
    )
    plays = []
    for town in ("town", "other-town"):
        for number, maker in enumerate(makers):
            play = maker()
            entries = _renamed(play, f"sample-{town}-{number}", town)
            play.entries = entries
            plays.append(play)
    return plays


def _renamed(play: Play, case_id: str, town: str) -> list[Any]:
    """Return the entries as another case's, perhaps of another township."""
    renamed: list[Any] = []
    for entry in play.entries:
        event = entry.event
        if event.kind == "called":
            event = event.model_copy(update={"call": event.call.model_copy(update={"township": town})})
        renamed += audit.chain(
            CaseId(case_id),
            [event],
            after=renamed[-1] if renamed else None,
            at=entry.at,
            by=entry.by,
            key=entry.key,
        )
    play.state = fold(renamed)
    return renamed


async def test_the_list_and_the_rules_say_the_same_of_every_case_and_everybody(store: Store) -> None:
    plays = every_kind()
    for play in plays:
        await keep(store, play)
    everybody = [person.actor() for person in (*people().people, *district("other", "o-").people)]
    everybody += [CITIZEN, GRID_WORKER, TOWN_OFFICER, *OFFICERS.values()]
    both = TOWN_OFFICER.posts + HEADS[POLICE].posts
    everybody.append(TOWN_OFFICER.model_copy(update={"id": "two-posts", "posts": both}))
    everybody.append(TOWN_OFFICER.model_copy(update={"id": "no-post", "posts": ()}))
    everybody.append(
        TOWN_OFFICER.model_copy(
            update={"posts": (Post.model_validate({**both[0].model_dump(), "city": True}),)}
        )
    )
    seen = set()
    for actor in everybody:
        page = await store.cases(CaseQuery(limit=200), sight(actor), NOW)
        expected = {play.state.case_id for play in plays if may_see(actor, play.state)}
        assert set(ids(page.items)) == expected, actor.id
        seen.add(len(expected))
    assert len(seen) > 5


async def test_read_models_are_the_same_when_they_are_rebuilt_from_the_ledger(store: Store) -> None:
    for play in every_kind():
        await take(store, play)
        for entry in play.entries:
            await store.record([entry])
    before = await everything(store)
    await store.rebuild()
    assert await everything(store) == before

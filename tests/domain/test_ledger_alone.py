"""An honest ledger is never accused, also where its history is gone: every act is decided again from its own events."""

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import Phase, settings

from domain import verify
from domain.case import (
    ActionKind,
    AppealAbout,
    Basis,
    CaseId,
    Direction,
    Grade,
    LinkKind,
    Officer,
    Stage,
)
from domain.commands import (
    COMMANDS,
    Act,
    Adjudicate,
    AdoptTerms,
    AnswerOrder,
    AnyCommand,
    Cancel,
    CheckIn,
    DecideAppeal,
    DecideExtension,
    DecideSuspension,
    Dispatch,
    DisputeCheckIn,
    Extend,
    FileAppeal,
    Instruct,
    LinkCase,
    Object,
    Plan,
    Rate,
    Refuse,
    Release,
    Reopen,
    Resume,
    Rework,
    Suspend,
    TakeAction,
    Transfer,
    Watch,
)
from domain.district import AdoptionScope, Terms
from domain.policy import LimitClass, Urgency
from tests.domain.test_mechanism import NEWER, Downward, Mechanism
from tests.records import EVERY, Kept, rechained
from tests.sample import (
    ADMINISTRATOR,
    CITIZEN,
    COORDINATOR,
    DISPATCHER,
    ECOLOGY,
    FULL_TERMS,
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
    limit,
    shown,
)


class Told(Kept):
    """A play that remembers which act made which entry."""

    def __init__(self, at: str = "2026-03-04 09:00", *, terms: Terms = FULL_TERMS, **changes: Any) -> None:
        super().__init__(at, terms=terms, **changes)
        self.opened_under = terms
        self.acts: dict[int, Act] = {}

    def do(self, command: AnyCommand) -> "Told":
        super().do(command)
        number = next(each.sequence for each in self.entries if each.key and each.sequence not in self.acts)
        mine = [each for each in self.entries if each.key == self.entries[number - 1].key]
        self.acts |= {each.sequence: command.act for each in mine}
        return self

    def whole_acts(self) -> list[int]:
        """Return the last entry of each act: some make two."""
        keys = {entry.key: entry.sequence for entry in self.entries if entry.key}
        return list(keys.values())


def whole() -> Told:
    """From release to an appeal that is upheld, with orders, extension and suspension on the way."""
    play = Told(responsibility=LISTED, requested_check_in_at="2026-03-06T15:00:00+08:00")
    play.do(Release(by=TOWN_APPROVER, note="情况属实"))
    play.do(Watch(by=LEADER)).do(Instruct(by=LEADER, text="请依法从快办理"))
    play.do(
        Dispatch(
            by=DISPATCHER,
            lead=ECOLOGY,
            cooperating=(POLICE, MARKET, HOUSING),
            limit_class=LimitClass.HARD,
            note="先断电",
            reason="涉及房屋",
        )
    )
    play.do(Instruct(by=LEADER, text="市场监管局报告进展", department=MARKET))
    for _ in range(2):
        play.do(Instruct(by=COORDINATOR, text="说明情况", department=ECOLOGY, answer_required=True))
    play.do(AnswerOrder(by=HEADS[ECOLOGY], department=ECOLOGY, text="第二份先答", number=2))
    play.do(AnswerOrder(by=HEADS[ECOLOGY], department=ECOLOGY, text="已组织人员"))
    play.sign(ECOLOGY, POLICE)
    play.do(Transfer(by=DISPATCHER, department=MARKET, to=POLICE, reason="无照经营归公安"))
    play.do(LinkCase(by=DISPATCHER, other=CaseId("sample-1"), kind=LinkKind.RELATED, note="同一地点"))
    play.do(
        Object(by=OFFICERS[HOUSING], department=HOUSING, basis=Basis.LAW, reason="不涉房", proposed=MARKET)
    )
    play.do(Adjudicate(by=DISPATCHER, department=HOUSING, uphold=False, reason="涉及房屋结构"))
    play.do(
        Object(
            by=OFFICERS[HOUSING], department=HOUSING, basis=Basis.CATALOGUE, reason="清单无", proposed=MARKET
        )
    )
    play.do(
        Adjudicate(by=COORDINATOR, department=HOUSING, uphold=True, reason="改由市场监管局", owner=MARKET)
    )
    play.sign(MARKET)
    play.do(Extend(by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="需检测", add=limit(working_days=2)))
    play.do(DecideExtension(by=TOWN_APPROVER, department=ECOLOGY, approve=True))
    play.do(DecideExtension(by=COORDINATOR, department=ECOLOGY, approve=True, reason="同意"))
    play.do(Extend(by=OFFICERS[POLICE], department=POLICE, reason="警力不足"))
    play.do(DecideExtension(by=COORDINATOR, department=POLICE, approve=False, reason="不同意"))
    suspend = Suspend(
        by=OFFICERS[ECOLOGY], department=ECOLOGY, reason="待鉴定", until=play.now + timedelta(days=9)
    )
    play.do(suspend).do(DecideSuspension(by=COORDINATOR, approve=False, reason="不必"))
    play.do(suspend).do(DecideSuspension(by=COORDINATOR, approve=True))
    play.later(days=2).do(Resume(by=COORDINATOR, reason="鉴定已出"))
    play.do(suspend).do(DecideSuspension(by=COORDINATOR, approve=True, reason="复检")).later(days=12)
    play.do(AdoptTerms(by=ADMINISTRATOR, scope=AdoptionScope.CALENDAR, terms=NEWER, reason="防汛放假"))
    play.do(
        CheckIn(
            by=OFFICERS[ECOLOGY],
            department=ECOLOGY,
            officers=(Officer(name="王示例"),),
            arrived_at=play.now - timedelta(minutes=5),
            note="两人到场",
        )
    )
    play.do(DisputeCheckIn(by=TOWN_OFFICER, department=ECOLOGY, reason="无人到场"))
    play.check_in().do(Plan(by=OFFICERS[ECOLOGY], department=ECOLOGY, text="当场拆除"))
    play.do(
        TakeAction(
            by=OFFICERS[ECOLOGY],
            department=ECOLOGY,
            kind=ActionKind.DEMOLITION_NOTICE,
            description="下达通知",
            result="业主签收",
            follow_up_on=(play.now + timedelta(days=10)).date(),
            attachments=shown("现场照片"),
        )
    )
    play.act().done()
    play.do(Rework(by=TOWN_OFFICER, department=POLICE, reason="未清场")).act(POLICE).done(POLICE)
    play.do(
        Rate(by=TOWN_OFFICER, department=POLICE, grade=Grade.DISSATISFIED, solved=False, comment="又冒烟")
    )
    play.act(POLICE).done(POLICE)
    play.do(
        Rate(
            by=TOWN_OFFICER,
            department=POLICE,
            grade=Grade.DISSATISFIED,
            solved=True,
            response=4,
            action=5,
            result=5,
        )
    )
    play.rate(ECOLOGY, MARKET)
    return play


def after_the_end() -> Told:
    """Follow-up settled after closing, appeals upheld and turned down, reopened by the caller and by the group."""
    play = whole()
    play.do(
        TakeAction(
            by=OFFICERS[ECOLOGY],
            department=ECOLOGY,
            kind=ActionKind.DEMOLITION,
            description="复查",
            result="已自行拆除",
            settles=1,
        )
    )
    play.do(FileAppeal(by=HEADS[POLICE], department=POLICE, about=AppealAbout.RATING, reason="已清场"))
    for reviewer in (SUPERVISOR, OTHER_SUPERVISOR):
        play.do(
            DecideAppeal(
                by=reviewer, department=POLICE, uphold=True, reason="属实", grade=Grade.SATISFIED, solved=True
            )
        )
    play.do(FileAppeal(by=HEADS[ECOLOGY], department=ECOLOGY, about=AppealAbout.LATENESS, reason="停电"))
    play.do(DecideAppeal(by=SUPERVISOR, department=ECOLOGY, uphold=False, reason="不属实"))
    play.do(Reopen(by=TOWN_OFFICER, reason="复燃", departments=(POLICE,)))
    play.act(POLICE).done(POLICE).rate(POLICE)
    play.do(Reopen(by=COORDINATOR, reason="再次复燃"))
    play.act().done().rate()
    return play


def urgent() -> Told:
    """Reviewed after the fact, unwatched, merged into an earlier case."""
    play = Told(urgency=Urgency.URGENT)
    play.do(Release(by=TOWN_APPROVER, justified=False, note="不属紧急"))
    play.do(Watch(by=LEADER)).do(Watch(by=LEADER, watching=False))
    return play.do(
        LinkCase(
            by=DISPATCHER,
            other=CaseId("sample-0"),
            other_called_at=play.now - timedelta(days=1),
            kind=LinkKind.DUPLICATE,
        )
    )


def downward() -> Told:
    """Admitted by the coordination group, dispatched as listed, worked on by the township."""
    play = Told(direction=Direction.DOWN, caller_office=HOUSING, caller=OFFICERS[HOUSING])
    play.do(Release(by=COORDINATOR, note="准入")).dispatch_as_listed()
    return play


def ended_early(last: AnyCommand) -> Told:
    """Ended before anybody has worked on it."""
    return Told(caller=TOWN_APPROVER).do(last)


PLAYS: dict[str, Callable[[], Told]] = {
    "whole": whole,
    "after_the_end": after_the_end,
    "urgent": urgent,
    "downward": downward,
    "refused": lambda: ended_early(Refuse(by=DISPATCHER, reason="镇街自办", self_handled=True)),
    "cancelled": lambda: ended_early(Cancel(by=TOWN_APPROVER, reason="已解决")),
}


@cache
def played() -> dict[str, Told]:
    return {name: play() for name, play in PLAYS.items()}


def test_the_plays_do_every_act_there_is() -> None:
    assert {act for play in played().values() for act in play.acts.values()} == set(COMMANDS) == set(Act)
    assert played()["after_the_end"].state.stage is Stage.CLOSED


@pytest.mark.parametrize("act", Act)
def test_an_honest_act_is_decided_again_from_the_ledger_alone(act: Act) -> None:
    """At every moment of its case: as the newest entry, and with all that came after it."""
    for play in played().values():
        places = [sequence for sequence in play.whole_acts() if play.acts[sequence] is act]
        for sequence in {*places, *([len(play.entries)] if places else [])}:
            found = verify.check_clocks(play.entries[:sequence], play.opened_under)
            assert found == [], (act, sequence)


@pytest.mark.parametrize("act", Act)
def test_an_act_of_somebody_who_may_not_is_never_taken_for_an_honest_one(act: Act) -> None:
    """Without its history it is left open, at its place, and with it it differs; it is not accused for nothing."""
    for play in played().values():
        for sequence, done in play.acts.items():
            if done is not act:
                continue
            stranger = CITIZEN.model_copy(update={"id": "stranger"})
            forged = play.entries[sequence - 1].model_copy(update={"by": stranger, "key": "forged"})
            entries = rechained([*play.entries[: sequence - 1], forged, *play.entries[sequence:]])
            found = verify.check_clocks(entries, play.opened_under)
            assert f"第{sequence}条" in {finding.row for finding in found}, (act, sequence)


def test_several_acts_of_one_person_at_one_moment_are_told_apart_without_keys() -> None:
    """Programs that act without a key share a moment where one workflow task takes several of their acts."""
    play = Told(caller=TOWN_APPROVER).dispatch(ECOLOGY, POLICE).sign().check_in().act().done()
    head = len(play.entries)
    play.rate()
    entries = rechained(
        [
            *play.entries[:head],
            *(each.model_copy(update={"at": play.now, "key": ""}) for each in play.entries[head:]),
        ]
    )
    assert [entry.event.kind for entry in entries[head:]] == ["rated", "rated", "closed"]
    assert verify.check_clocks(entries, play.opened_under) == []
    bettered = entries[head + 1].model_copy(update={"by": OFFICERS[POLICE]})
    found = verify.check_clocks(rechained([*entries[: head + 1], bettered, *entries[head + 2 :]]), FULL_TERMS)
    assert f"第{head + 2}条" in {finding.row for finding in found}


def test_clocks_that_have_been_silent_since_the_last_entry_are_left_open_and_silent_before_an_entry_are_wrong() -> (
    None
):
    play = Told(caller=TOWN_APPROVER).dispatch(ECOLOGY)
    found = verify.check_clocks(play.entries, play.opened_under, until=play.now + timedelta(days=3))
    assert {(finding.code, finding.row, finding.proven) for finding in found} == {
        ("not_fired", "末条之后", False)
    }
    play.later(days=3).sign()
    silent = rechained([each for each in play.entries if each.by is not None])
    found = verify.check_clocks(silent, play.opened_under)
    assert ("not_fired", f"第{len(silent)}条之前", True) in {
        (finding.code, finding.row, finding.proven) for finding in found
    }


@pytest.mark.parametrize("record", EVERY)
def test_the_recorded_cases_are_decided_again_from_the_ledger_alone(record: Callable[[], Kept]) -> None:
    play = record()
    assert verify.check_clocks(play.entries, play.terms, until=play.now) == []


# --- whatever people and clocks do -------------------------------------------------------------------------


class Remembering(Mechanism):
    """The mechanism by property, judged from its ledger alone once the play is over."""

    opened_under: Terms

    def direction(self, terms: Terms) -> dict[str, Any]:
        """Keep what the case is opened under."""
        self.opened_under = terms
        return super().direction(terms)

    def teardown(self) -> None:
        """Nobody has forged anything, so nothing may be found; acts bear no keys here."""
        play = getattr(self, "play", None)
        if play is not None:
            assert verify.check_clocks(play.entries, self.opened_under, until=play.now) == []


class RememberingDownward(Remembering, Downward):
    """The same with calls of departments."""


TestRemembering = Remembering.TestCase
TestRememberingDownward = RememberingDownward.TestCase
_OFTEN = settings(
    max_examples=80, stateful_step_count=60, deadline=None, phases=[Phase.generate, Phase.reuse]
)
TestRemembering.settings = TestRememberingDownward.settings = _OFTEN

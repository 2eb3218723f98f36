"""What a first user stumbled over, held for good."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from domain.case import AppealAbout, Grade, LinkKind
from domain.commands import (
    AdoptTerms,
    DecideAppeal,
    Dispatch,
    FileAppeal,
    LinkCase,
    Rate,
    Reopen,
)
from domain.district import AdoptionScope
from domain.errors import Invalid
from domain.policy import ClockKind
from tests.sample import (
    ADMINISTRATOR,
    COORDINATOR,
    DISPATCHER,
    ECOLOGY,
    FULL_TERMS,
    HEADS,
    MARKET,
    OTHER_SUPERVISOR,
    POLICE,
    SUPERVISOR,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    limit,
)


def called(**changes: Any) -> Play:
    """Call as the approver, with every step in force."""
    return Play(terms=FULL_TERMS, caller=TOWN_APPROVER, **changes)


def test_only_the_later_call_is_merged_into_the_earlier_so_that_no_two_vanish_into_each_other() -> None:
    play = called()
    earlier, later = play.state.called_at - timedelta(hours=1), play.state.called_at + timedelta(hours=1)

    def merge(other_called_at: datetime) -> LinkCase:
        return LinkCase.model_validate(
            {
                "by": DISPATCHER,
                "other": "sample-other",
                "kind": LinkKind.DUPLICATE,
                "other_called_at": other_called_at,
            }
        )

    with pytest.raises(Invalid, match="merge_into_earlier"):
        play.do(merge(later))
    assert play.do(merge(earlier)).state.is_over


def test_an_appeal_corrects_the_rating_that_it_is_about_and_never_a_later_one() -> None:
    play = called().dispatch(ECOLOGY).sign().check_in().act().done()
    play.do(Rate(by=TOWN_OFFICER, department=ECOLOGY, grade=Grade.BASICALLY_SATISFIED, solved=True))
    play.do(FileAppeal(by=HEADS[ECOLOGY], department=ECOLOGY, about=AppealAbout.RATING, reason="与事实不符"))
    play.do(Reopen(by=COORDINATOR, reason="复发")).act().done()
    play.do(Rate(by=TOWN_OFFICER, department=ECOLOGY, grade=Grade.DISSATISFIED, solved=True))
    for reviewer in (SUPERVISOR, OTHER_SUPERVISOR):
        play.do(
            DecideAppeal(by=reviewer, department=ECOLOGY, uphold=True, grade=Grade.SATISFIED, reason="属实")
        )
    rated = play.assignment(ECOLOGY)
    assert rated.rating is not None
    assert rated.corrected is not None
    assert (rated.rating.grade, rated.rating.round) == (Grade.DISSATISFIED, 2)
    assert (rated.corrected.grade, rated.corrected.round) == (Grade.SATISFIED, 1)


def test_newer_terms_make_nobody_late_who_was_not() -> None:
    limits = FULL_TERMS.policy.limits
    stricter = FULL_TERMS.policy.model_copy(
        update={
            "version": "sample-3",
            "limits": limits.model_copy(
                update={"sign": limits.sign.model_copy(update={"routine": limit(working_minutes=1)})}
            ),
        }
    )
    play = called().dispatch(ECOLOGY).later(minutes=5)
    before = play.state.clock(ClockKind.SIGN, ECOLOGY)
    newer = FULL_TERMS.model_copy(update={"policy": stricter})
    play.do(AdoptTerms(by=ADMINISTRATOR, scope=AdoptionScope.POLICY, terms=newer, reason="新政策"))
    assert play.state.clock(ClockKind.SIGN, ECOLOGY) == before
    assert not play.assignment(ECOLOGY).signed


def test_departments_that_the_call_itself_names_come_without_another_reason() -> None:
    play = called(departments=(MARKET, POLICE)).do(Dispatch(by=DISPATCHER))
    assert play.state.departments() == (MARKET, POLICE)

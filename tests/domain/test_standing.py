"""What stands in the ledger of a lost task is taken for our own only if the rules make exactly that."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import audit
from domain.calendar import Moment
from domain.case import Actor
from domain.commands import AdoptTerms, AnyCommand, Cancel, Sign
from domain.district import AdoptionScope
from domain.errors import Refused
from domain.events import Entry, Event
from domain.lifecycle import decide, fold, overdue
from domain.standing import Point, carried_out, rederived
from tests.sample import (
    ADMINISTRATOR,
    ECOLOGY,
    HEADS,
    MARKET,
    OFFICERS,
    POLICE,
    TERMS,
    TOWN_OFFICER,
    Play,
    limit,
)

PLAY = Play().dispatch()
POINT = Point(PLAY.state, PLAY.entries[-1], TERMS)
NOW = PLAY.now + timedelta(minutes=10)
ECOLOGY_SIGNS = Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY, key="e")
POLICE_SIGNS = Sign(by=OFFICERS[POLICE], department=POLICE, key="p")
MARKET_SIGNS = Sign(by=OFFICERS[MARKET], department=MARKET, key="m")


def made(events: list[Event], at: Moment, by: Actor | None, key: str, after: Entry) -> list[Entry]:
    return audit.chain(PLAY.state.case_id, events, after=after, at=at, by=by, key=key)


def done(command: AnyCommand, at: Moment, before: list[Entry] | None = None) -> list[Entry]:
    """Return the entries of an act, as a lost task made them, by the rules alone."""
    entries = [*PLAY.entries, *(before or [])]
    events = decide(fold(entries), command, at, TERMS)
    return made(events, at, command.by, command.key, entries[-1])


@given(st.permutations([ECOLOGY_SIGNS, POLICE_SIGNS, MARKET_SIGNS]), st.integers(1, 3))
def test_acts_in_hand_are_found_again_in_whatever_order_they_stand(
    order: list[AnyCommand], number: int
) -> None:
    standing: list[Entry] = []
    for minute, command in enumerate(order[:number]):
        standing += done(command, PLAY.now + timedelta(minutes=minute), standing)
    steps = rederived(POINT, standing, [ECOLOGY_SIGNS, POLICE_SIGNS, MARKET_SIGNS], until=NOW)
    assert steps is not None
    assert [step.command for step in steps] == order[:number]
    assert steps[-1].point == (fold([*PLAY.entries, *standing]), standing[-1], TERMS)


def test_an_act_that_is_not_in_hand_or_says_something_else_is_not_ours() -> None:
    standing = done(ECOLOGY_SIGNS, PLAY.now)
    assert rederived(POINT, standing, [POLICE_SIGNS], until=NOW) is None
    by_the_head = ECOLOGY_SIGNS.model_copy(update={"by": HEADS[ECOLOGY]})
    assert rederived(POINT, standing, [by_the_head], until=NOW) is None
    cancels = Cancel(by=OFFICERS[ECOLOGY], reason="x", key="e")  # forbidden
    elsewhere = Sign(by=OFFICERS[ECOLOGY], department=POLICE, key="e")
    assert rederived(POINT, standing, [cancels, elsewhere], until=NOW) is None


def test_one_act_in_hand_explains_one_act_only() -> None:
    once = done(ECOLOGY_SIGNS, PLAY.now)
    twice = made([once[0].event], PLAY.now, ECOLOGY_SIGNS.by, "e", once[-1])
    assert rederived(POINT, [*once, *twice], [ECOLOGY_SIGNS], until=NOW) is None


def test_a_moment_before_the_last_entry_or_still_to_come_is_not_ours() -> None:
    for at in (PLAY.now - timedelta(seconds=1), NOW + timedelta(seconds=1)):
        standing = done(ECOLOGY_SIGNS, at)
        assert rederived(POINT, standing, [ECOLOGY_SIGNS], until=NOW) is None
    assert rederived(POINT, done(ECOLOGY_SIGNS, NOW), [ECOLOGY_SIGNS], until=NOW) is not None


def test_a_change_anywhere_in_a_standing_act_is_noticed() -> None:
    cancelled = Cancel(by=TOWN_OFFICER, reason="已自行解决", key="c")
    standing = done(cancelled, PLAY.now)
    other = done(cancelled.model_copy(update={"reason": "x"}), PLAY.now)
    assert rederived(POINT, standing, [cancelled], until=NOW) is not None
    assert rederived(POINT, other, [cancelled], until=NOW) is None


def test_what_the_clocks_did_is_ours_if_it_is_exactly_what_was_due() -> None:
    late = max(clock.due_at for clock in PLAY.state.running) + timedelta(minutes=1)
    events = overdue(PLAY.state, late, TERMS)
    assert len(events) > 1
    clocks = made(events, late, None, "", POINT.last)
    cancel = Cancel(by=TOWN_OFFICER, reason="x", key="c")
    then = done(cancel, late, clocks)
    steps = rederived(POINT, [*clocks, *then], [cancel], until=late)
    assert steps is not None
    assert [step.command for step in steps] == [None, cancel]
    assert rederived(POINT, clocks[:-1], [], until=late) is None
    assert rederived(POINT, done(cancel, late), [cancel], until=late) is None  # the ladder was left out
    early = made(events[:1], PLAY.now, None, "", POINT.last)
    assert rederived(POINT, early, [], until=late) is None


def test_terms_that_a_standing_act_adopted_hold_from_there_on() -> None:
    limits = TERMS.policy.limits.model_copy(update={"rating": limit(minutes=1)})
    policy = TERMS.policy.model_copy(update={"version": "2", "limits": limits})
    newer = TERMS.model_copy(update={"policy": policy})
    adopt = AdoptTerms(by=ADMINISTRATOR, scope=AdoptionScope.POLICY, terms=newer, reason="新政策", key="t")
    standing = done(adopt, PLAY.now)
    steps = rederived(POINT, standing, [adopt], until=NOW)
    assert steps is not None
    assert steps[-1].point.terms == newer


def test_an_act_done_again_comes_after_what_fell_due_and_is_refused_as_ever() -> None:
    late = max(clock.due_at for clock in PLAY.state.running) + timedelta(minutes=1)
    cancel = Cancel(by=TOWN_OFFICER, reason="x", key="c")
    steps = carried_out(POINT, cancel, late)
    assert [step.command for step in steps] == [None, cancel]
    assert [step.command for step in carried_out(POINT, cancel, PLAY.now)] == [cancel]
    with pytest.raises(Refused):
        carried_out(steps[-1].point, ECOLOGY_SIGNS, late)

"""The mechanism as a whole, by property: whatever people and clocks do, no case reaches a state that it must not."""

from datetime import timedelta
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain import audit
from domain.case import ActionKind, Actor, Clock, Grade, Officer, Role, Stage
from domain.commands import COMMANDS, Act
from domain.errors import DomainError
from domain.events import Escalated
from domain.lifecycle import allowed_acts, fold
from domain.policy import Urgency
from tests.sample import (
    COORDINATOR,
    DEPARTMENTS,
    DISPATCHER,
    HEADS,
    OFFICERS,
    OTHER_TOWN_OFFICER,
    POLICE,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    actor,
    shanghai,
)

PEOPLE: list[Actor] = [
    TOWN_OFFICER,
    TOWN_APPROVER,
    OTHER_TOWN_OFFICER,
    DISPATCHER,
    COORDINATOR,
    *OFFICERS.values(),
    *HEADS.values(),
    actor(Role.RESIDENT_OFFICER, POLICE, township="town"),
    actor(Role.ADMINISTRATOR, "platform"),
]
TEXT = st.sampled_from(["已处理", "请重办", "君山路"])
BODIES: dict[Act, dict[str, st.SearchStrategy[Any]]] = {
    Act.DISPATCH: {
        "lead": st.sampled_from(DEPARTMENTS),
        "cooperating": st.lists(st.sampled_from(DEPARTMENTS), max_size=2).map(tuple),
    },
    Act.REFUSE: {"reason": TEXT},
    Act.CANCEL: {"reason": TEXT},
    Act.CHECK_IN: {"officers": st.just((Officer(name="王示例"),))},
    Act.DISPUTE_CHECK_IN: {"reason": TEXT},
    Act.PLAN: {"text": TEXT},
    Act.ACTION: {"kind": st.sampled_from(ActionKind), "description": TEXT, "result": TEXT},
    Act.DONE: {"result": TEXT},
    Act.RATE: {"grade": st.sampled_from(Grade), "solved": st.booleans()},
    Act.REWORK: {"reason": TEXT},
}
NEXT_STAGES = {
    Stage.CALLED: {Stage.DISPATCHED, Stage.REFUSED, Stage.CANCELLED},
    Stage.DISPATCHED: {Stage.SIGNED, Stage.ENFORCING, Stage.CANCELLED},
    Stage.SIGNED: {Stage.CHECKED_IN, Stage.ENFORCING, Stage.CANCELLED},
    Stage.CHECKED_IN: {Stage.ENFORCING, Stage.CANCELLED},
    Stage.ENFORCING: {Stage.AWAITING_RATING},
    Stage.AWAITING_RATING: {Stage.ENFORCING, Stage.CLOSED},
}


class Mechanism(RuleBasedStateMachine):
    """One case, any number of people, and time."""

    play: Play

    @initialize(urgency=st.sampled_from(Urgency), asked=st.none() | st.integers(1, 200))
    def call(self, urgency: Urgency, asked: int | None) -> None:
        """A township calls."""
        at = shanghai("2026-03-04 09:00")
        wish = at + timedelta(hours=asked) if asked else None
        self.play = Play(at, urgency=urgency, requested_check_in_at=wish)
        self.stage = self.play.state.stage
        self.locked: dict[tuple[str, int], object] = {}

    @rule(data=st.data())
    def somebody_does_something_allowed(self, data: st.DataObject) -> None:
        """An act that the rules offer to somebody."""
        offers = [
            (person, act, department)
            for person in PEOPLE
            for act, department in allowed_acts(self.play.state, person)
        ]
        if offers:
            self._try(data, *data.draw(st.sampled_from(offers)))

    @rule(
        data=st.data(),
        person=st.sampled_from(PEOPLE),
        act=st.sampled_from(Act),
        department=st.sampled_from(DEPARTMENTS),
    )
    def somebody_tries_anything(self, data: st.DataObject, person: Actor, act: Act, department: str) -> None:
        """Any act by anybody."""
        self._try(data, person, act, department)

    @rule(minutes=st.sampled_from([1, 10, 30, 60, 150, 600, 1440, 5000]))
    def time_passes(self, minutes: int) -> None:
        """The clocks do what they have to."""
        before = self.play.state
        self.play.later(minutes=minutes)
        if before.is_over:
            assert self.play.state == before

    @invariant()
    def entries_fold_to_the_state_and_are_one_chain(self) -> None:
        """The record is whole at every moment."""
        assert fold(self.play.entries) == self.play.state
        audit.check_chain(self.play.entries)

    @invariant()
    def exactly_one_department_leads(self) -> None:
        """After dispatch, and none before."""
        leads = sum(each.lead for each in self.play.state.assignments)
        assert leads == (1 if self.play.state.assignments else 0)

    @invariant()
    def the_stage_moves_along_the_arrows_only(self) -> None:
        """One step of ours may pass several arrows; each must exist."""
        reachable, frontier = {self.stage}, {self.stage}
        while frontier:
            frontier = {each for stage in frontier for each in NEXT_STAGES.get(stage, set())} - reachable
            reachable |= frontier
        assert self.play.state.stage in reachable
        self.stage = self.play.state.stage

    @invariant()
    def nothing_that_was_due_is_left_undone(self) -> None:
        """After looking, no clock has anything to do in the past."""
        due = self.play.next_due()
        assert due is None or due >= self.play.now

    @invariant()
    def a_case_that_is_not_over_always_has_a_clock(self) -> None:
        """No case can lie about untimed: some clock runs for somebody."""
        assert self.play.state.is_over == (not list(self.play.state.running))

    @invariant()
    def every_rung_fired_at_most_once_and_never_early(self) -> None:
        """Each (clock, rung) exactly once."""
        fired = [
            (event.clock, event.department, event.round, event.level)
            for event in self.play.events
            if isinstance(event, Escalated)
        ]
        assert len(fired) == len(set(fired))
        for entry in self.play.entries:
            if isinstance(entry.event, Escalated):
                assert entry.at > entry.event.rung_due_at >= entry.event.due_at

    @invariant()
    def clocks_are_unique_and_never_due_before_they_start(self) -> None:
        """A clock is told from every other by kind, department and round."""
        clocks: tuple[Clock, ...] = self.play.state.clocks
        assert len({clock.key for clock in clocks}) == len(clocks)
        assert all(clock.due_at >= clock.started_at for clock in clocks)

    @invariant()
    def ratings_are_locked(self) -> None:
        """What was once rated in a round stays so."""
        for each in self.play.state.assignments:
            for rating in (*each.past_ratings, *((each.rating,) if each.rating else ())):
                assert self.locked.setdefault((each.department, rating.round), rating) == rating

    @invariant()
    def closed_means_rated_or_said_to_be_unrated(self) -> None:
        """And a department counts as done only with a check-in that stands and an action of its own."""
        state = self.play.state
        if state.stage is Stage.CLOSED:
            assert state.closure is not None
            unrated = {each.department for each in state.assignments if each.rating is None}
            assert unrated == set(state.closure.unrated)
            assert all(each.rating is None or each.rating.solved for each in state.assignments)
        for each in state.assignments:
            if each.done_at:
                assert each.check_in is not None
                assert each.check_in.stands
                assert each.acted_in_round

    def _try(self, data: st.DataObject, person: Actor, act: Act, department: str | None) -> None:
        command = COMMANDS[act]
        body = {name: data.draw(values) for name, values in BODIES.get(act, {}).items()}
        if "department" in command.model_fields:
            body["department"] = department or DEPARTMENTS[0]
        if body.get("kind") is ActionKind.DEMOLITION_NOTICE:
            body["follow_up_on"] = (self.play.now + timedelta(days=10)).date()
        before = (self.play.state, len(self.play.entries))
        try:
            self.play.do(command.model_validate({"by": person, **body}))
        except DomainError as refused:
            assert (self.play.state, len(self.play.entries)) == before
            assert refused.code
            assert refused.detail


TestMechanism = Mechanism.TestCase
# Without shrinking: it can take minutes here, and the steps that led to a failure are printed anyway.
TestMechanism.settings = settings(
    max_examples=400, stateful_step_count=60, deadline=None, phases=[Phase.generate, Phase.reuse]
)

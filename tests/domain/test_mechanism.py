"""The mechanism as a whole, by property: whatever people and clocks do, no case reaches a state that it must not."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from domain import audit
from domain.case import (
    ActionKind,
    Actor,
    AppealAbout,
    Basis,
    CaseState,
    Clock,
    Direction,
    Grade,
    LinkKind,
    Officer,
    Stage,
)
from domain.commands import COMMANDS, Act
from domain.district import AdoptionScope, Terms
from domain.errors import DomainError
from domain.events import Escalated
from domain.lifecycle import ABOUT_AN_OFFICE, allowed_acts, fold
from domain.policy import ClockKind, Urgency
from tests.sample import (
    ADMINISTRATOR,
    CALENDAR,
    CITIZEN,
    COORDINATOR,
    DEPARTMENTS,
    DISPATCHER,
    ECOLOGY,
    FULL_TERMS,
    GRID_WORKER,
    HEADS,
    HOUSING,
    LEADER,
    LISTED,
    OFFICERS,
    OTHER_SUPERVISOR,
    OTHER_TOWN_OFFICER,
    RESIDENT,
    SUPERVISOR,
    TERMS,
    TOWN,
    TOWN_APPROVER,
    TOWN_OFFICER,
    Play,
    shanghai,
    shown,
)

PEOPLE: list[Actor] = [
    TOWN_OFFICER,
    TOWN_APPROVER,
    OTHER_TOWN_OFFICER,
    DISPATCHER,
    COORDINATOR,
    *OFFICERS.values(),
    *HEADS.values(),
    RESIDENT,
    LEADER,
    SUPERVISOR,
    OTHER_SUPERVISOR,
    ADMINISTRATOR,
    CITIZEN,
    GRID_WORKER,
]
OFFICES = (*DEPARTMENTS, HOUSING, TOWN)
TEXT = st.sampled_from(["已处理", "请重办", "君山路"])
AUTOMATIC = FULL_TERMS.model_copy(
    update={"policy": FULL_TERMS.policy.model_copy(update={"automatic_dispatch": True})}
)
FLOOD = CALENDAR.model_copy(
    update={"version": "sample-2026b", "days_off": (*CALENDAR.days_off, shanghai("2026-03-06 12:00").date())}
)
NEWER = FULL_TERMS.model_copy(update={"calendar": FLOOD})
AHEAD = st.sampled_from([1, 30, 400])

ANYTHING: dict[Act, dict[str, st.SearchStrategy[Any]]] = {
    Act.RELEASE: {"justified": st.booleans(), "note": TEXT},
    Act.REFUSE: {"reason": TEXT},
    Act.DISPATCH: {
        "lead": st.none() | st.sampled_from(OFFICES),
        "cooperating": st.none() | st.lists(st.sampled_from(OFFICES), max_size=2).map(tuple),
        "reason": st.sampled_from(["", "清单有误"]),
    },
    Act.OBJECT: {"basis": st.sampled_from(Basis), "reason": TEXT, "proposed": st.sampled_from(OFFICES)},
    Act.ADJUDICATE: {"uphold": st.booleans(), "reason": TEXT, "owner": st.none() | st.sampled_from(OFFICES)},
    Act.TRANSFER: {"to": st.sampled_from(OFFICES), "reason": TEXT},
    Act.CHECK_IN: {"officers": st.just((Officer(name="王示例"),))},
    Act.DISPUTE_CHECK_IN: {"reason": TEXT},
    Act.PLAN: {"text": TEXT},
    Act.ACTION: {
        "kind": st.sampled_from(ActionKind),
        "description": TEXT,
        "result": TEXT,
        "settles": st.none() | st.integers(1, 3),
    },
    Act.DONE: {"result": TEXT, "attachments": st.sampled_from([(), shown()])},
    Act.RATE: {"grade": st.sampled_from(Grade), "solved": st.booleans()},
    Act.REWORK: {"reason": TEXT},
    Act.EXTEND: {"reason": TEXT},
    Act.DECIDE_EXTENSION: {"approve": st.booleans(), "reason": TEXT},
    Act.DECIDE_SUSPENSION: {"approve": st.booleans(), "reason": TEXT},
    Act.RESUME: {"reason": TEXT},
    Act.LINK: {
        "other": st.sampled_from(["sample-1", "sample-2"]),
        "kind": st.sampled_from([LinkKind.RELATED, LinkKind.RELATED, LinkKind.DUPLICATE]),
    },
    Act.WATCH: {"watching": st.booleans()},
    Act.INSTRUCT: {"text": TEXT, "answer_required": st.booleans()},
    Act.ANSWER_ORDER: {"text": TEXT},
    Act.CANCEL: {"reason": TEXT},
    Act.REOPEN: {"reason": TEXT},
    Act.APPEAL: {"about": st.sampled_from(AppealAbout), "reason": TEXT},
    Act.DECIDE_APPEAL: {
        "uphold": st.booleans(),
        "reason": TEXT,
        "grade": st.none() | st.sampled_from(Grade),
    },
    Act.ADOPT_TERMS: {
        "scope": st.sampled_from(AdoptionScope),
        "terms": st.sampled_from([FULL_TERMS, NEWER]),
        "reason": TEXT,
    },
}
AT_WORK = {Stage.DISPATCHED, Stage.SIGNED, Stage.CHECKED_IN, Stage.ENFORCING, Stage.AWAITING_RATING}
NEXT_STAGES = {
    Stage.AWAITING_RELEASE: {Stage.CALLED, Stage.REFUSED, Stage.CANCELLED, Stage.MERGED},
    Stage.AWAITING_ADMISSION: {Stage.CALLED, Stage.REFUSED, Stage.CANCELLED, Stage.MERGED},
    Stage.CALLED: {Stage.DISPATCHED, Stage.REFUSED, Stage.CANCELLED, Stage.MERGED},
    Stage.DISPATCHED: {Stage.SIGNED, Stage.ENFORCING, Stage.CANCELLED, Stage.MERGED, Stage.SUSPENDED},
    Stage.SIGNED: {
        Stage.DISPATCHED,
        Stage.CHECKED_IN,
        Stage.ENFORCING,
        Stage.CANCELLED,
        Stage.MERGED,
        Stage.SUSPENDED,
    },
    Stage.CHECKED_IN: {Stage.ENFORCING, Stage.CANCELLED, Stage.MERGED, Stage.SUSPENDED},
    Stage.ENFORCING: {Stage.AWAITING_RATING, Stage.SUSPENDED},
    Stage.AWAITING_RATING: {Stage.ENFORCING, Stage.CLOSED},
    Stage.SUSPENDED: AT_WORK | {Stage.CANCELLED},
    Stage.CLOSED: {Stage.ENFORCING},
}


def fitting(act: Act, play: Play, actor: Actor, office: str | None) -> dict[str, Any]:
    """Return what makes an act that the rules offer one that they accept."""
    state = play.state
    match act:
        case Act.DISPATCH if state.call.direction is Direction.DOWN:
            return {"lead": None, "cooperating": None}
        case Act.DISPATCH:
            return {"lead": ECOLOGY, "cooperating": (DEPARTMENTS[1],), "reason": "清单之外"}
        case Act.OBJECT:
            return {"proposed": _somebody_else(state, office)}
        case Act.TRANSFER:
            return {"to": _somebody_else(state, office)}
        case Act.ADJUDICATE:
            done = any(each.department == office and each.done_at for each in state.assignments)
            return {"owner": None} | ({"uphold": False} if done else {})
        case Act.ACTION:
            return _fitting_action(state, office)
        case Act.DONE:
            listed = state.call.responsibility
            return {"attachments": shown(*listed.evidence) if listed else ()}
        case Act.WATCH:
            return {"watching": actor.id not in state.watchers}
        case Act.INSTRUCT:
            wants = actor is not LEADER
            return {
                "answer_required": wants,
                "department": state.assignments[0].department if wants else None,
            }
        case Act.LINK:
            return {"other": f"sample-other-{len(state.links)}", "kind": LinkKind.RELATED}
        case _:
            return {}


def _somebody_else(state: CaseState, office: str | None) -> str:
    """Return who may take the place: not itself, and nobody who is done."""
    done = {each.department for each in state.assignments if each.done_at is not None}
    others = [each for each in (HOUSING, *DEPARTMENTS) if each != office]
    return next((each for each in others if each not in done), others[0])


def _fitting_action(state: CaseState, office: str | None) -> dict[str, Any]:
    """What is open is settled: that may be done by an office whether it is still at work or not."""
    mine = [each for each in state.follow_ups if each.department == office and each.settled_at is None]
    return {"settles": mine[0].number if mine else None, "kind": ActionKind.DEMOLITION}


class Mechanism(RuleBasedStateMachine):
    """One case, any number of people, and time."""

    play: Play

    @initialize(
        urgency=st.sampled_from(Urgency),
        asked=st.none() | st.integers(1, 200),
        terms=st.sampled_from([TERMS, FULL_TERMS, FULL_TERMS, FULL_TERMS, AUTOMATIC]),
        caller=st.sampled_from([TOWN_OFFICER, TOWN_APPROVER, TOWN_APPROVER, CITIZEN, GRID_WORKER]),
        listed=st.booleans(),
        raised=st.integers(0, 1),
    )
    def call(
        self,
        urgency: Urgency,
        asked: int | None,
        terms: Terms,
        caller: Actor,
        *,
        listed: bool,
        raised: int,
    ) -> None:
        """A township calls, or a department asks something of it."""
        at = shanghai("2026-03-04 09:00")
        wish = at + timedelta(hours=asked) if asked else None
        self.play = Play(
            at,
            terms=terms,
            urgency=urgency,
            requested_check_in_at=wish,
            responsibility=LISTED if listed else None,
            raised=raised,
            **({"caller": caller} | self.direction(terms)),
        )
        self.stage = self.play.state.stage
        self.locked: dict[tuple[str, int], object] = {}
        self.play.at(at)

    def direction(self, terms: Terms) -> dict[str, Any]:
        """Return which way it goes."""
        del terms
        return {}

    @rule(data=st.data(), people=st.permutations(PEOPLE).map(lambda order: order[:4]))
    def somebody_does_something_allowed(self, data: st.DataObject, people: list[Actor]) -> None:
        """An act that the rules offer to somebody, with what belongs to it, is accepted: an offer is a promise."""
        offers = [
            (person, act, office)
            for person in people
            for act, office in allowed_acts(self.play.state, person, self.play.now, self.play.terms)
        ]
        if not offers:
            return
        ends = {Act.CANCEL, Act.REFUSE}
        going_on = [each for each in offers if each[1] not in ends] or offers
        person, act, office = data.draw(st.sampled_from(going_on))
        refusal = self._try(data, person, act, office, fitting)
        if act not in {Act.DECIDE_APPEAL, Act.DECIDE_EXTENSION, Act.DECIDE_SUSPENSION, Act.APPEAL}:
            nobody_left = refusal is not None and refusal.code == "owner_is_done"
            assert refusal is None or nobody_left, (act, office, refusal)

    @rule(
        data=st.data(),
        person=st.sampled_from(PEOPLE),
        act=st.sampled_from(Act),
        office=st.sampled_from(OFFICES),
    )
    def somebody_tries_anything(self, data: st.DataObject, person: Actor, act: Act, office: str) -> None:
        """Any act by anybody."""
        self._try(data, person, act, office)

    @rule(minutes=st.sampled_from([1, 10, 30, 60, 150, 600, 1440, 5000]))
    def time_passes(self, minutes: int) -> None:
        """The clocks do what they have to."""
        before = self.play.state
        self.play.later(minutes=minutes)
        if before.is_settled:
            assert self.play.state == before

    @invariant()
    def entries_fold_to_the_state_and_are_one_chain(self) -> None:
        """The record is whole at every moment."""
        assert fold(self.play.entries) == self.play.state
        audit.check_chain(self.play.entries)

    @invariant()
    def exactly_one_department_leads(self) -> None:
        """After dispatch, and none before; whoever objects, is ruled off or transferred."""
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
        """No case can lie about untimed: some clock runs for somebody. One that is settled has none."""
        running = list(self.play.state.running)
        assert running or self.play.state.is_over
        assert self.play.state.is_settled == (self.play.state.is_over and not running)

    @invariant()
    def only_offices_on_the_case_have_clocks_that_run(self) -> None:
        """Who has left has none; the township may have those of its own follow-ups, and of orders about them."""
        on_it = {each.department for each in self.play.state.assignments}
        for clock in self.play.state.running:
            of_town = clock.department == TOWN and clock.kind in {ClockKind.FOLLOW_UP, ClockKind.ORDER}
            assert clock.department in {None, *on_it} or of_town, clock

    @invariant()
    def what_stands_still_does_nothing_and_all_of_it_stands_still(self) -> None:
        """A suspended case has one date ahead: its end."""
        state = self.play.state
        paused = [clock for clock in state.running if clock.paused_at is not None]
        if state.suspension is None:
            assert not paused
        else:
            steps = {ClockKind.SIGN, ClockKind.CHECK_IN, ClockKind.HANDLING, ClockKind.CASE}
            assert all(clock.paused_at is not None for clock in state.running if clock.kind in steps)

    @invariant()
    def every_rung_fired_at_most_once_and_never_early(self) -> None:
        """Each (clock, rung) exactly once; a warning before red, the others after."""
        fired = [
            (event.clock, event.department, event.round, event.level)
            for event in self.play.events
            if isinstance(event, Escalated)
        ]
        assert len(fired) == len(set(fired))
        for entry in self.play.entries:
            if isinstance(entry.event, Escalated):
                assert entry.at > entry.event.rung_due_at
                early = entry.event.level == 0
                assert (entry.event.rung_due_at <= entry.event.due_at) or not early
                assert (entry.event.rung_due_at >= entry.event.due_at) or early

    @invariant()
    def clocks_are_unique_never_due_before_they_start_and_net_is_at_most_gross(self) -> None:
        """A clock is told from every other by kind, department and round."""
        clocks: tuple[Clock, ...] = self.play.state.clocks
        assert len({clock.key for clock in clocks}) == len(clocks)
        for clock in clocks:
            assert clock.due_at >= clock.started_at
            assert timedelta(0) <= clock.net(self.play.now) <= clock.gross(self.play.now)
            assert clock.yellow_at is None or clock.started_at <= clock.yellow_at <= clock.due_at

    @invariant()
    def ratings_are_locked(self) -> None:
        """What was once rated in a round stays so; an appeal adds a second version."""
        for each in self.play.state.assignments:
            for rating in (*each.past_ratings, *((each.rating,) if each.rating else ())):
                assert self.locked.setdefault((each.department, rating.round), rating) == rating
            if each.corrected is not None:
                assert each.rating is not None or each.past_ratings

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
                assert each.acted_in_round
                if state.call.direction is Direction.UP:
                    assert each.check_in is not None
                    assert each.check_in.stands

    def _try(
        self,
        data: st.DataObject,
        person: Actor,
        act: Act,
        office: str | None,
        made_to_fit: Callable[[Act, Play, Actor, str | None], dict[str, Any]] | None = None,
    ) -> DomainError | None:
        """Do it, or see that a refusal changes nothing; return the refusal."""
        command = COMMANDS[act]
        body = {name: data.draw(values) for name, values in ANYTHING.get(act, {}).items()}
        if act in ABOUT_AN_OFFICE:
            body["department"] = office or DEPARTMENTS[0]
        if act is Act.SUSPEND:
            ahead = 1 if made_to_fit else data.draw(AHEAD)
            body |= {"reason": "等待鉴定", "until": self.play.now + timedelta(days=ahead)}
        if made_to_fit:
            body |= made_to_fit(act, self.play, person, office)
        if body.get("kind") is ActionKind.DEMOLITION_NOTICE or (
            act is Act.ACTION and data.draw(st.booleans())
        ):
            body["follow_up_on"] = (self.play.now + timedelta(days=10)).date()
        before, whole = (self.play.state, len(self.play.entries)), self.play.state.clock(ClockKind.CASE)
        try:
            self.play.do(command.model_validate({"by": person, **body}))
        except DomainError as refused:
            assert (self.play.state, len(self.play.entries)) == before
            assert refused.code
            assert refused.detail
            return refused
        if act in {Act.TRANSFER, Act.ADJUDICATE, Act.OBJECT} and whole is not None:
            key = whole.key
            now = next(clock for clock in self.play.state.clocks if clock.key == key)
            assert (now.started_at, now.due_at) == (whole.started_at, whole.due_at)
        return None


class Downward(Mechanism):
    """A department asks something of a township."""

    def direction(self, terms: Terms) -> dict[str, Any]:
        """Downwards, where the district admits such calls at all."""
        if terms.policy.limits.admission is None:
            return {}
        return {"direction": Direction.DOWN, "caller_office": HOUSING, "caller": OFFICERS[HOUSING]}


TestMechanism = Mechanism.TestCase
TestDownward = Downward.TestCase
# Without shrinking: it can take minutes here, and the steps that led to a failure are printed anyway.
TestMechanism.settings = settings(
    max_examples=250, stateful_step_count=60, deadline=None, phases=[Phase.generate, Phase.reuse]
)
TestDownward.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, phases=[Phase.generate, Phase.reuse]
)

"""The life of one call, from the whistle to closure.

The rules are `domain.lifecycle`; here is only what needs time and durability: people's acts as updates, one clock
loop, the ledger in order, and what operators see. A refused act is refused in the validator and leaves no event.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, NoReturn

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError

with workflow.unsafe.imports_passed_through():
    from domain import audit, clocks, commands, words
    from domain.case import Actor, CaseState
    from domain.commands import AdoptTerms, AnyCommand
    from domain.district import Terms
    from domain.errors import DomainError
    from domain.events import Entry, Event
    from domain.lifecycle import decide, evolve, overdue, terms_after
    from domain.ports import LATEST_SHOWN, Carried, CaseStart, Receipt, Recorded, RecordRequest
    from domain.standing import Point, Step, carried_out, rederived
    from workflows import names

_PROMPT_RECORD = timedelta(seconds=3)
"""How long an act waits for the ledger; after that the ledger catches up by itself."""
_RECEIPTS_KEPT = 200
_REOPENING_WITHIN = timedelta(minutes=10)
_CATCH_UP_TRY = timedelta(seconds=30)
_CATCH_UP_PAUSE = timedelta(seconds=30)
_CLOCKS_APART = timedelta(seconds=10)
"""By how much the clocks of the Temporal server's machines may differ: a lost task may have had the later one."""


class _Due(NamedTuple):
    """When a clock does something next, in this state and under these terms."""

    state: CaseState
    terms: Terms
    at: datetime | None


class _Decided(NamedTuple):
    """What the rules made of an act: the validator asks them, and a moment later the handler would ask the same."""

    state: CaseState
    at: datetime
    command: AnyCommand
    events: list[Event]


class TakenOn(NamedTuple):
    """What stood in the ledger and the case went on from, and what it had decided instead; the auditor reads it."""

    standing: tuple[Entry, ...]
    instead_of: tuple[Entry, ...]


@dataclass(slots=True, kw_only=True, eq=False)
class _Act:
    """An act that was decided, for as long as the ledger is not known to hold it.

    Attributes:
        answered: its person has the receipt: it can no longer be refused.
        refusal: why it cannot be, once other decisions turned out to stand before it.
    """

    command: AnyCommand
    receipt: Receipt
    answered: bool = False
    refusal: DomainError | None = None


def _update(command: type[AnyCommand]) -> tuple[Any, Any]:
    """Return the update of an act, and its validator; Temporal reads names and types from the functions.

    `Any`: the decorated function has the library's own type, which knows its class only once that exists.
    """

    async def handler(self: "Case", command: AnyCommand) -> Receipt:
        return await self._act(command)

    def validator(self: "Case", command: AnyCommand) -> None:
        self._check(command)

    for function, name, answer in (
        (handler, command.act.value, Receipt),
        (validator, f"_may_{command.act.value}", None),
    ):
        function.__name__ = name
        function.__qualname__ = f"Case.{name}"
        function.__annotations__ = {"command": command, "return": answer}
    handler.__doc__ = words.ACTS[command.act]
    update = workflow.update(handler)
    return update, update.validator(validator)


@workflow.defn(name=names.CASE, failure_exception_types=[DomainError])
class Case:
    """One case. Its state is what its entries make it; see `domain.lifecycle.evolve`."""

    @workflow.init
    def __init__(self, start: CaseStart) -> None:
        self._terms = _with_known_calendar(start.terms)
        self._reopening = start.carried is not None and start.carried.state.is_settled
        self._last = start.carried.last if start.carried else start.opened
        self._state = start.carried.state if start.carried else evolve(None, start.opened)
        self._latest = list(start.carried.latest) if start.carried else [start.opened]
        self._receipts = dict(start.carried.receipts) if start.carried else {}
        self._opened = start.opened
        self._unrecorded: list[Entry] = [] if start.carried else [start.opened]
        self._base = Point(self._state, self._last, self._terms)
        self._in_hand: list[_Act] = []
        self._disowned: tuple[Entry, ...] = ()
        self._taken_on: list[TakenOn] = []
        self._recording = asyncio.Lock()
        self._behind = False
        self._catching_up: asyncio.Task[None] | None = None
        self._alarms: dict[datetime, asyncio.Task[None]] = {}
        self._alarm_rang = False
        self._due: _Due | None = None
        self._decided: _Decided | None = None
        self._shows_awaiting_sign = start.shows_awaiting_sign
        self._shown = self._values(self._state.acted_at)
        self._is_ending = False
        self._is_taken_up = False
        self._is_looked_at = True  # not while an auditor runs the case over its history

    @workflow.run
    async def run(self, start: CaseStart) -> str:
        """Keep the clocks until nothing of the case runs, then see the ledger whole; return the stage that it ended in.

        A run that was opened for an act on a case that had ended gives that act time to arrive.
        """
        del start  # taken in by __init__, which runs before any update does
        if self._reopening:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(lambda: not self._state.is_settled, timeout=_REOPENING_WITHIN)
        while True:
            while not self._state.is_settled:
                self._alarm_rang = False
                self._apply_overdue()
                self._set_alarm()
                self._show()
                await self._record_promptly()
                await workflow.wait_condition(self._something_to_do)
                if self._behind and self._catching_up is None:
                    self._catching_up = asyncio.create_task(self._catch_up())
                if self._may_continue_as_new():
                    self._continue_as_new()
            self._is_ending = True
            await self._see_ledger_whole()
            # What stood in the ledger, or an act while that was away, may have taken the case up again.
            if self._state.is_settled:
                return self._state.stage.value
            if not self._is_taken_up and not workflow.patched("taken-up-while-behind"):
                return self._state.stage.value
            self._is_ending = self._is_taken_up = False

    # --- acts ----------------------------------------------------------------------------------------------

    # One named update an act, so that the history reads like the case file.
    release, _may_release = _update(commands.Release)
    refuse, _may_refuse = _update(commands.Refuse)
    dispatch, _may_dispatch = _update(commands.Dispatch)
    sign, _may_sign = _update(commands.Sign)
    object, _may_object = _update(commands.Object)
    adjudicate, _may_adjudicate = _update(commands.Adjudicate)
    transfer, _may_transfer = _update(commands.Transfer)
    check_in, _may_check_in = _update(commands.CheckIn)
    confirm_check_in, _may_confirm_check_in = _update(commands.ConfirmCheckIn)
    dispute_check_in, _may_dispute_check_in = _update(commands.DisputeCheckIn)
    plan, _may_plan = _update(commands.Plan)
    action, _may_action = _update(commands.TakeAction)
    done, _may_done = _update(commands.ReportDone)
    rate, _may_rate = _update(commands.Rate)
    rework, _may_rework = _update(commands.Rework)
    extend, _may_extend = _update(commands.Extend)
    decide_extension, _may_decide_extension = _update(commands.DecideExtension)
    suspend, _may_suspend = _update(commands.Suspend)
    decide_suspension, _may_decide_suspension = _update(commands.DecideSuspension)
    resume, _may_resume = _update(commands.Resume)
    link, _may_link = _update(commands.LinkCase)
    watch, _may_watch = _update(commands.Watch)
    instruct, _may_instruct = _update(commands.Instruct)
    answer_order, _may_answer_order = _update(commands.AnswerOrder)
    cancel, _may_cancel = _update(commands.Cancel)
    reopen, _may_reopen = _update(commands.Reopen)
    appeal, _may_appeal = _update(commands.FileAppeal)
    decide_appeal, _may_decide_appeal = _update(commands.DecideAppeal)
    adopt_terms, _may_adopt_terms = _update(commands.AdoptTerms)

    @workflow.query
    def state(self) -> CaseState:
        """Return the case as it is, for when the store is behind or away."""
        return self._state

    @workflow.query
    def unrecorded(self) -> int:
        """Return how many entries the ledger does not hold yet."""
        return len(self._unrecorded)

    def _check(self, command: AnyCommand) -> None:
        """Refuse what the rules refuse, before anything is recorded; a request that was answered before passes."""
        if command.key in self._receipts or self._owns_up(command):
            return
        now = self._now()
        state = self._state_at(now)
        try:
            self._decided = _Decided(state, now, command, decide(state, command, now, self._terms))
        except DomainError as error:
            raise _refused(error) from None

    async def _act(self, command: AnyCommand) -> Receipt:
        """Apply the act and answer once the ledger has it, or has been given up on for now."""
        if command.key in self._receipts:
            for each in self._in_hand:
                each.answered |= each.command.key == command.key
            return self._receipts[command.key]
        act = self._claimed(command) if self._owns_up(command) else self._carry_out(command)
        self._set_alarm()
        self._show()
        await self._record_promptly()
        if act.refusal is not None:
            raise _refused(act.refusal)
        act.answered = True
        recorded = not any(entry.sequence <= act.receipt.sequence for entry in self._unrecorded)
        return act.receipt.model_copy(update={"recorded": recorded})

    def _carry_out(self, command: AnyCommand) -> _Act:
        now = self._now()
        self._apply_overdue()
        self._append(self._decide(command, now), by=command.by, key=command.key)
        if isinstance(command, AdoptTerms):
            self._terms = _with_known_calendar(terms_after(self._last, self._terms))
        self._apply_overdue()  # an act may let a clock run on whose limit has passed already
        if self._is_ending and not self._state.is_settled:
            # Asked here and not once the ledger is whole: a query at that moment makes the SDK end the task early,
            # and a patch that is first asked for after a local activity then stands where no replay asks for it.
            self._is_taken_up = workflow.patched("taken-up-by-an-act")
        act = _Act(command=command, receipt=_receipt(command, self._last, self._state))
        self._in_hand.append(act)
        self._keep(command.key, act.receipt)
        return act

    def _decide(self, command: AnyCommand, now: datetime) -> list[Event]:
        """Return what the validator found a moment ago, if nothing has changed; a replay has no validator."""
        known, self._decided = self._decided, None
        if known and known.state is self._state and (known.at, known.command) == (now, command):
            return known.events
        return decide(self._state, command, now, self._terms)

    def _keep(self, key: str, receipt: Receipt) -> None:
        """Remember the answer: update ids deduplicate within one run only."""
        if key:
            self._receipts[key] = receipt
            while len(self._receipts) > _RECEIPTS_KEPT:
                del self._receipts[next(iter(self._receipts))]

    # --- clocks --------------------------------------------------------------------------------------------

    def _now(self) -> datetime:
        """The moment; never before the newest entry, for the intake's clock may run ahead of the server's."""
        return max(workflow.now(), self._state.acted_at)

    def _state_at(self, now: datetime) -> CaseState:
        """The state after what the clocks have to do first, without recording anything."""
        state = self._state
        if not self._is_late(now):
            return state
        events = overdue(self._state, now, self._terms)
        for entry in audit.chain(self._state.case_id, events, after=self._last, at=now, by=None):
            state = evolve(state, entry)
        return state

    def _apply_overdue(self) -> None:
        now = self._now()
        if self._is_late(now):
            self._append(overdue(self._state, now, self._terms), by=None)

    def _is_late(self, now: datetime) -> bool:
        """Whether a clock has anything to do before `now`; every act asks several times."""
        due = self._next_due()
        return due is not None and now > due

    def _next_due(self) -> datetime | None:
        """Return when a clock does something next; found once for each state, under each terms."""
        known = self._due
        if known is None or known.state is not self._state or known.terms is not self._terms:
            due = clocks.next_due(self._state, self._terms)
            known = self._due = _Due(self._state, self._terms, due)
        return known.at

    def _set_alarm(self) -> None:
        """Set a timer for the next due moment, unless one that still rings early enough stands.

        A timer that an act has made needless is left alone: cancelling and setting another costs two events an act.
        """
        due = self._next_due()
        if due is None:
            return
        rings_at = due + clocks.wake_delay(self._state.case_id, self._terms.policy.wake_spread)
        if rings_at < min(self._alarms, default=rings_at + timedelta(1)):
            waits_for = words.alarm(due, clocks.acting_at(self._state, self._terms, due), self._terms)
            self._alarms[rings_at] = asyncio.create_task(self._ring(rings_at, waits_for))

    async def _ring(self, at: datetime, waits_for: str) -> None:
        await workflow.sleep(max(at - workflow.now(), timedelta(0)), summary=waits_for)
        del self._alarms[at]
        self._alarm_rang = True

    def _something_to_do(self) -> bool:
        return (
            self._alarm_rang
            or self._state.is_settled
            or (self._behind and self._catching_up is None)
            or self._may_continue_as_new()
        )

    # --- ledger --------------------------------------------------------------------------------------------

    def _append(self, events: Sequence[Event], *, by: Actor | None, key: str = "") -> None:
        entries = audit.chain(self._state.case_id, events, after=self._last, at=self._now(), by=by, key=key)
        for entry in entries:
            self._state = evolve(self._state, entry)
            self._last = entry
        self._unrecorded += entries
        self._latest = [*self._latest, *entries][-LATEST_SHOWN:]

    async def _record_promptly(self) -> None:
        """Write what is new into the ledger by a local activity; if that fails, hand over to the catching-up."""
        if self._behind:
            return  # the catching-up holds the lock until the database is back; nobody waits for that
        async with self._recording:
            while self._unrecorded and not self._behind:
                batch = self._batch()
                try:
                    recorded = await workflow.execute_local_activity(
                        names.RECORD,
                        batch,
                        result_type=Recorded,
                        schedule_to_close_timeout=_PROMPT_RECORD,
                        retry_policy=RetryPolicy(maximum_attempts=1),
                        summary=words.recorded(batch.entries, self._terms),
                    )
                except FailureError:
                    self._behind = True
                    return
                if not recorded.standing:
                    self._forget(batch, recorded)
                    return
                self._behind = not self._take_on(recorded.standing)

    async def _catch_up(self) -> None:
        """Write what the ledger lacks by an ordinary activity that never gives up; acts and clocks go on meanwhile.

        What the case disowns is asked about again with its hash, and is a conflict as long as it stands.
        """
        async with self._recording:
            while True:
                batch = self._batch()
                try:
                    recorded = await workflow.execute_activity(
                        names.RECORD,
                        batch,
                        result_type=Recorded,
                        start_to_close_timeout=_CATCH_UP_TRY,
                        retry_policy=RetryPolicy(maximum_interval=_CATCH_UP_PAUSE),
                        summary=f"补记{words.recorded(batch.entries, self._terms)}(数据库恢复后自动完成)",
                    )
                except (FailureError, asyncio.CancelledError):
                    if self._catching_up is not None:
                        raise
                    return  # an act has come that what stands belongs to
                if not recorded.standing:
                    self._forget(batch, recorded)
                    break
                if self._take_on(recorded.standing):
                    break
        self._behind = False
        self._catching_up = None
        await self._record_promptly()

    def _batch(self) -> RecordRequest:
        disowned = self._disowned[-1].hash if self._disowned else ""
        return RecordRequest(entries=tuple(self._unrecorded), disowned=disowned)

    def _forget(self, batch: RecordRequest, recorded: Recorded) -> None:
        """Forget what was sent and now stands in the ledger; the ledger may reach further than we know."""
        reached = min(recorded.sequence, batch.entries[-1].sequence)
        now_recorded = [entry for entry in self._unrecorded if entry.sequence <= reached]
        self._unrecorded = [entry for entry in self._unrecorded if entry.sequence > reached]
        if self._unrecorded:
            self._base = self._base.after(
                [each for each in now_recorded if each.sequence > self._base.last.sequence]
            )
        else:
            self._base = Point(self._state, self._last, self._terms)
        self._in_hand = [act for act in self._in_hand if act.receipt.sequence > reached]
        self._disowned = ()

    # --- what a lost task left in the ledger ---------------------------------------------------------------

    def _take_on(self, standing: Sequence[Entry], arriving: _Act | None = None) -> bool:
        """Go on from what stands in the ledger, if it is our own decision; what else is in hand is decided again.

        A worker was killed after it had written and before Temporal heard of it; see `domain.standing`. What is not
        ours never enters the case, and an act that was answered is not taken back: then nothing changes here.
        """
        acts = [*self._in_hand, arriving] if arriving else list(self._in_hand)
        steps = self._steps(standing, [act.command for act in acts])
        if steps is None:
            self._disowned = tuple(standing)
            return False
        base = point = steps[-1].point
        standing_acts = {id(step.command): step for step in steps}
        now = max(workflow.now(), point.state.acted_at)
        fresh: list[Entry] = []
        again: list[tuple[_Act, Receipt | DomainError]] = []
        for act in acts:
            if id(act.command) in standing_acts:
                continue
            try:
                redone = carried_out(point, act.command, now)
            except DomainError as refusal:
                again.append((act, refusal))
            else:
                point = redone[-1].point
                fresh += [entry for step in redone for entry in step.entries]
                again.append((act, _receipt(act.command, point.last, point.state)))
        if any(act.answered and isinstance(outcome, DomainError) for act, outcome in again):
            self._disowned = tuple(standing)
            return False
        for act in acts:
            self._receipts.pop(act.command.key, None)
            if (step := standing_acts.get(id(act.command))) is not None:
                act.receipt = _receipt(act.command, step.entries[-1], step.point.state)
                self._keep(act.command.key, act.receipt)
        for act, outcome in again:
            if isinstance(outcome, DomainError):
                act.refusal = outcome
            else:
                act.receipt = outcome
                self._keep(act.command.key, outcome)
        instead = tuple(entry for entry in self._unrecorded if entry.sequence >= standing[0].sequence)
        before = [entry for entry in self._latest if entry.sequence < standing[0].sequence]
        self._latest = [*before, *standing, *fresh][-LATEST_SHOWN:]
        self._state, self._last = point.state, point.last
        self._terms = _with_known_calendar(point.terms)
        self._base, self._unrecorded = base, fresh
        self._in_hand = [act for act, _ in again if act.refusal is None]
        self._disowned = ()
        self._taken_on.append(TakenOn(tuple(standing), instead))
        self._apply_overdue()
        self._set_alarm()
        self._show()
        return True

    def _steps(self, standing: Sequence[Entry], commands: Sequence[AnyCommand]) -> list[Step] | None:
        first = standing[0].sequence
        known = [entry for entry in self._unrecorded if self._base.last.sequence < entry.sequence < first]
        base = self._base.after(known)
        return rederived(base, standing, commands, until=self._now() + _CLOCKS_APART)

    def _owns_up(self, command: AnyCommand) -> bool:
        """Whether this is the act without which what stands in the ledger could not be explained."""
        if not any(entry.by and entry.key == command.key for entry in self._disowned):
            return False
        return self._steps(self._disowned, [*(act.command for act in self._in_hand), command]) is not None

    def _claimed(self, command: AnyCommand) -> _Act:
        """Take on what stands, now that the act is here; the catching-up that keeps asking about it ends."""
        act = _Act(command=command, receipt=_receipt(command, self._last, self._state))
        if not self._take_on(self._disowned, act):
            return self._carry_out(command)
        self._behind = False
        if (asking := self._catching_up) is not None:
            self._catching_up = None
            asking.cancel()
        return act

    async def _see_ledger_whole(self) -> None:
        """Wait until nothing is unrecorded and no act is under way."""
        while self._unrecorded or not workflow.all_handlers_finished():
            if self._behind and self._catching_up is None:
                self._catching_up = asyncio.create_task(self._catch_up())
            await workflow.wait_condition(
                lambda: (
                    (self._behind and self._catching_up is None)
                    or (not self._unrecorded and workflow.all_handlers_finished())
                )
            )

    def _may_continue_as_new(self) -> bool:
        """Whether the history is long, and nothing is under way; while the ledger is away the clocks go on here."""
        return (
            workflow.info().is_continue_as_new_suggested()
            and not self._state.is_settled
            and not self._unrecorded
            and workflow.all_handlers_finished()
        )

    def _continue_as_new(self) -> NoReturn:
        """Go on in a fresh run before the history grows too long; nothing is lost and no clock is reset."""
        carried = Carried(
            state=self._state, last=self._last, latest=tuple(self._latest), receipts=self._receipts
        )
        workflow.continue_as_new(
            CaseStart(
                opened=self._opened,
                terms=self._terms,
                carried=carried,
                shows_awaiting_sign=self._shows_awaiting_sign,  # the next run has this one's search attributes
            )
        )

    # --- what operators see --------------------------------------------------------------------------------

    def _show(self) -> None:
        """Refresh the operators' page, and those search attributes that have changed: each upsert is an event."""
        now = self._now()
        values = self._values(now)
        if values != self._shown:
            workflow.upsert_search_attributes(names.changes(self._shown, values))
            self._shown = values
        if self._is_looked_at:
            workflow.set_current_details(words.details(self._state, self._latest, now, self._terms))

    def _values(self, at: datetime) -> dict[str, Any]:
        return names.values_of(self._state, self._terms, at, awaiting_sign=self._shows_awaiting_sign)


def _receipt(command: AnyCommand, last: Entry, state: CaseState) -> Receipt:
    return Receipt(
        sequence=last.sequence,
        hash=last.hash,
        stage=state.stage.value,
        recorded=False,
        body_digest=command.body_digest,
    )


def _refused(error: DomainError) -> ApplicationError:
    """Return what the rules say no with as Temporal hands it to the caller."""
    return ApplicationError(error.detail, error.code, type=type(error).__name__, non_retryable=True)


def _with_known_calendar(terms: Terms) -> Terms:
    """Return equal terms that share their calendar with all other cases: comparing hundreds of days takes long."""
    return terms.model_copy(update={"calendar": clocks.calendar_of(terms.calendar).data})

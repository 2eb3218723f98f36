"""The life of one call, from the whistle to closure.

The rules are `domain.lifecycle`; here is only what needs time and durability: people's acts as updates, one clock
loop, the ledger in order, and what operators see. A refused act is refused in the validator and leaves no event.
"""

import asyncio
import contextlib
from collections.abc import Sequence
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
    from workflows import names

_PROMPT_RECORD = timedelta(seconds=3)
"""How long an act waits for the ledger; after that the ledger catches up by itself."""
_RECEIPTS_KEPT = 200
_REOPENING_WITHIN = timedelta(minutes=10)
_CATCH_UP_TRY = timedelta(seconds=30)
_CATCH_UP_PAUSE = timedelta(seconds=30)


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
        self._recording = asyncio.Lock()
        self._behind = False
        self._catching_up: asyncio.Task[None] | None = None
        self._alarms: dict[datetime, asyncio.Task[None]] = {}
        self._alarm_rang = False
        self._due: _Due | None = None
        self._decided: _Decided | None = None
        self._shown = names.values_of(self._state, self._terms, self._state.acted_at)

    @workflow.run
    async def run(self, start: CaseStart) -> str:
        """Keep the clocks until nothing of the case runs, then see the ledger whole; return the stage that it ended in.

        A run that was opened for an act on a case that had ended gives that act time to arrive.
        """
        del start  # taken in by __init__, which runs before any update does
        if self._reopening:
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(lambda: not self._state.is_settled, timeout=_REOPENING_WITHIN)
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
        await self._see_ledger_whole()
        return self._state.stage.value

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
        if command.key in self._receipts:
            return
        now = self._now()
        state = self._state_at(now)
        try:
            self._decided = _Decided(state, now, command, decide(state, command, now, self._terms))
        except DomainError as error:
            kind = type(error).__name__
            raise ApplicationError(error.detail, error.code, type=kind, non_retryable=True) from None

    async def _act(self, command: AnyCommand) -> Receipt:
        """Apply the act and answer once the ledger has it, or has been given up on for now."""
        if command.key in self._receipts:
            return self._receipts[command.key]
        now = self._now()
        self._apply_overdue()
        self._append(self._decide(command, now), by=command.by, key=command.key)
        if isinstance(command, AdoptTerms):
            self._terms = _with_known_calendar(terms_after(self._last, self._terms))
        self._apply_overdue()  # an act may let a clock run on whose limit has passed already
        receipt = Receipt(
            sequence=self._last.sequence,
            hash=self._last.hash,
            stage=self._state.stage.value,
            recorded=False,
            body_digest=command.body_digest,
        )
        self._keep(command.key, receipt)
        self._set_alarm()
        self._show()
        await self._record_promptly()
        recorded = not any(entry.sequence <= receipt.sequence for entry in self._unrecorded)
        return receipt.model_copy(update={"recorded": recorded})

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
            self._alarms[rings_at] = asyncio.create_task(self._ring(rings_at))

    async def _ring(self, at: datetime) -> None:
        await workflow.sleep(
            max(at - workflow.now(), timedelta(0)), summary=f"等待下一时限:{words.local(at)}"
        )
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
            if self._behind or not self._unrecorded:
                return
            try:
                recorded = await workflow.execute_local_activity(
                    names.RECORD,
                    self._batch(),
                    result_type=Recorded,
                    schedule_to_close_timeout=_PROMPT_RECORD,
                    retry_policy=RetryPolicy(maximum_attempts=1),
                    summary=f"记入台账:第{self._unrecorded[0].sequence}条起",
                )
            except FailureError:
                self._behind = True
            else:
                self._forget(recorded)

    async def _catch_up(self) -> None:
        """Write what the ledger lacks by an ordinary activity that never gives up; acts and clocks go on meanwhile."""
        async with self._recording:
            recorded = await workflow.execute_activity(
                names.RECORD,
                self._batch(),
                result_type=Recorded,
                start_to_close_timeout=_CATCH_UP_TRY,
                retry_policy=RetryPolicy(maximum_interval=_CATCH_UP_PAUSE),
                summary=f"台账补记:第{self._unrecorded[0].sequence}条起(数据库恢复后自动完成)",
            )
            self._forget(recorded)
        self._behind = False
        self._catching_up = None
        await self._record_promptly()

    def _batch(self) -> RecordRequest:
        return RecordRequest(entries=tuple(self._unrecorded))

    def _forget(self, recorded: Recorded) -> None:
        self._unrecorded = [entry for entry in self._unrecorded if entry.sequence > recorded.sequence]

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
        workflow.continue_as_new(CaseStart(opened=self._opened, terms=self._terms, carried=carried))

    # --- what operators see --------------------------------------------------------------------------------

    def _show(self) -> None:
        """Refresh the operators' page, and those search attributes that have changed: each upsert is an event."""
        now = self._now()
        values = names.values_of(self._state, self._terms, now)
        if values != self._shown:
            workflow.upsert_search_attributes(names.changes(self._shown, values))
            self._shown = values
        workflow.set_current_details(words.details(self._state, self._latest, now, self._terms))


def _with_known_calendar(terms: Terms) -> Terms:
    """Return equal terms that share their calendar with all other cases: comparing hundreds of days takes long."""
    return terms.model_copy(update={"calendar": clocks.calendar_of(terms.calendar).data})

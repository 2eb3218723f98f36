"""What a case's history says when our own workflow code runs over it again: every entry that it decided."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import PydanticPayloadConverter
from temporalio.converter import DataConverter
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    Replayer,
    StartActivityInput,
    StartLocalActivityInput,
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)
from temporalio.workflow import ActivityHandle

from adapters.histories import RunHistory
from domain.events import Entry
from domain.ports import CaseStart, RecordRequest
from domain.verify import Replayed
from starter.rehearsal import Stage, Unrehearsable, rehearse
from workflows import names
from workflows.case import Case


class _Taken:
    """What one run gave away while it was replayed."""

    def __init__(self) -> None:
        self.start: CaseStart | None = None
        self.case: Case | None = None
        self.entries: dict[int, Entry] = {}
        self.clash: int | None = None
        self.superseded: set[str] = set()
        self._followed = 0

    def keep(self, request: RecordRequest, case: Case) -> None:
        """Keep what the run wanted recorded; a second attempt brings the same again."""
        self.follow(case)
        for entry in request.entries:
            if self.entries.setdefault(entry.sequence, entry) != entry:
                self.clash = entry.sequence

    def follow(self, case: Case) -> None:
        """Put what the run has taken on from the ledger in the place of what it had wanted recorded there."""
        taken_on = case._taken_on  # noqa: SLF001 - the record itself, not a copy
        for standing, instead_of in taken_on[self._followed :]:
            first = standing[0].sequence
            self.superseded |= {entry.hash for entry in instead_of}
            self.entries = {place: entry for place, entry in self.entries.items() if place < first}
            self.entries |= {entry.sequence: entry for entry in standing}
        self._followed = len(taken_on)

    def unrecorded(self) -> list[Entry]:
        """Return what the ledger has not acknowledged."""
        return list(self.case._unrecorded) if self.case else []  # noqa: SLF001 - the same


class _Listener(Interceptor):
    """Hands what a replayed run does to whoever listens now; runs are replayed one after the other."""

    def __init__(self) -> None:
        self.taken = _Taken()

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 - the SDK's own name
    ) -> type[WorkflowInboundInterceptor]:
        """Let the workflow's side reach this object."""
        input.unsafe_extern_functions.update(self.functions)
        return _Inbound

    @property
    def functions(self) -> dict[str, Callable[..., None]]:
        """What the workflow's side calls."""
        return {"audit_begun": self._begun, "audit_recorded": self._recorded}

    def _begun(self, case: Case, start: CaseStart) -> None:
        self.taken.case, self.taken.start = case, start
        case._is_looked_at = False  # noqa: SLF001 - nobody sees the page, and writing it is a tenth of the work

    def _recorded(self, request: RecordRequest, case: Case) -> None:
        self.taken.keep(request, case)


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))

    async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002 - the SDK's own names
        begun: Any = workflow.extern_functions()["audit_begun"]
        begun(workflow.instance(), input.args[0])
        return await super().execute_workflow(input)


class _Outbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> ActivityHandle[Any]:  # noqa: A002 - the SDK's own name
        _listen(input.activity, input.args)
        return super().start_activity(input)

    def start_local_activity(self, input: StartLocalActivityInput) -> ActivityHandle[Any]:  # noqa: A002 - the same
        _listen(input.activity, input.args)
        return super().start_local_activity(input)


def _listen(activity: str, arguments: Sequence[Any]) -> None:
    if activity == names.RECORD:
        recorded: Any = workflow.extern_functions()["audit_recorded"]
        recorded(arguments[0], workflow.instance())


class _Listening(PydanticPayloadConverter):
    """Reads what stands in a history, and writes nothing: what a replayed run would send goes nowhere."""

    def to_payload(self, value: Any) -> Payload:
        del value
        return Payload()

    def to_payloads(self, values: Sequence[Any]) -> list[Payload]:
        return [Payload() for _ in values]


_LISTENING = _Listening()


class _Shared(PydanticPayloadConverter):
    """One converter for all: the SDK makes one for every message, and making it costs more than reading."""

    def __new__(cls) -> _Listening:  # type: ignore[misc]
        return _LISTENING


async def replay(runs: Sequence[RunHistory], *, by_sdk: bool = False) -> list[Replayed]:
    """Replay these runs, of one case or many, and return what each decided, in the order given.

    Args:
        by_sdk: by the SDK's own replayer whatever they hold. Else only what cannot be rehearsed goes there, see
            `starter.rehearsal`; nobody is to be accused on a rehearsal alone.
    """
    sound = [run for run in runs if _is_replayable(run.history)]
    done = {id(run): _not_begun(run) for run in runs}
    left = sound if by_sdk else await asyncio.to_thread(_rehearse_all, sound, done)
    if left:
        await _replayed_by_sdk(left, done)
    return [done[id(run)] for run in runs]


def rehearsed(run: RunHistory) -> Replayed:
    """Return what one run decided, without the SDK's replayer. Must be called where no event loop runs.

    Raises:
        Unrehearsable: the SDK's replayer has to look at it.
    """
    listener = _Listener()
    stage = Stage(
        workflow=Case,
        interceptor=_Inbound,
        extern_functions=listener.functions,
        converter=_LISTENING,
        worded=frozenset({names.CASE_LABEL.name}),
    )
    rehearse(stage, run.history)
    return _replayed(run, listener.taken, None)


def _rehearse_all(runs: Sequence[RunHistory], done: dict[int, Replayed]) -> list[RunHistory]:
    """Put what these runs decided into `done`; return those that have to be replayed by the SDK."""
    left = []
    for run in runs:
        try:
            done[id(run)] = rehearsed(run)
        except Unrehearsable:
            left.append(run)
    return left


async def _replayed_by_sdk(runs: Sequence[RunHistory], done: dict[int, Replayed]) -> None:
    """Put what these runs decided into `done`.

    Without the sandbox: it keeps a worker from doing what cannot be repeated; here everything has been done already,
    and what is not repeated shows as a difference.
    """
    listener = _Listener()
    replayer = Replayer(
        workflows=[Case],
        interceptors=[listener],
        data_converter=DataConverter(payload_converter_class=_Shared),
        workflow_runner=UnsandboxedWorkflowRunner(),
        debug_mode=True,  # without a timer around every step: nobody waits for a replay
    )

    async def histories() -> AsyncIterator[WorkflowHistory]:
        for run in runs:
            yield run.history

    async with replayer.workflow_replay_iterator(histories()) as results:
        for run in runs:
            listener.taken = _Taken()
            async with asyncio.timeout(_WITHIN):
                result = await anext(results)
            done[id(run)] = _replayed(run, listener.taken, result.replay_failure)


_WITHIN = 120.0
"""How long one run may take; the longest history takes a fraction."""


def _is_replayable(history: WorkflowHistory) -> bool:
    """Whether it begins as a history does and has decided something; the replayer would wait for ever for more."""
    begun = bool(history.events) and history.events[0].HasField("workflow_execution_started_event_attributes")
    return begun and any(
        event.HasField("workflow_task_completed_event_attributes") for event in history.events
    )


def _not_begun(run: RunHistory) -> Replayed:
    """Return what a run gave that no worker has taken up yet: the entry that it was started with, if it is new."""
    failed = Replayed(name=run.name, start=None, failure="没有开始事件")
    if not run.history.events:
        return failed
    payloads = run.history.events[0].workflow_execution_started_event_attributes.input.payloads
    try:
        start = CaseStart.model_validate_json(payloads[0].data)
    except (ValueError, IndexError):
        return failed
    handed = () if start.carried else (start.opened,)
    return Replayed(name=run.name, start=start, entries=handed, unrecorded=len(handed), ended=run.is_over)


def _replayed(run: RunHistory, taken: _Taken, failure: Exception | None) -> Replayed:
    if taken.case is not None:
        taken.follow(taken.case)
    unrecorded = taken.unrecorded()
    for entry in unrecorded:
        taken.entries.setdefault(entry.sequence, entry)
    told = f"{type(failure).__name__}: {failure}"[:300] if failure else ""
    if taken.clash is not None:
        told = f"第{taken.clash}条先后两次交付的内容不同"
    return Replayed(
        name=run.name,
        start=taken.start,
        entries=tuple(taken.entries[sequence] for sequence in sorted(taken.entries)),
        unrecorded=len(unrecorded),
        ended=run.is_over,
        receipts=tuple(each for each in _receipts(run.history.events) if each[2] not in taken.superseded),
        failure=told,
    )


def _receipts(events: Sequence[HistoryEvent]) -> Iterator[tuple[int, int, str]]:
    """Yield what the history itself says of the chain: acts' receipts, and the ledger's acknowledgements."""
    for event in events:
        for payload in _answers(event):
            try:
                answer = json.loads(payload)
            except ValueError:
                continue
            if isinstance(answer, dict) and isinstance(answer.get("sequence"), int) and "hash" in answer:
                yield event.event_id, answer["sequence"], str(answer["hash"])


def _answers(event: HistoryEvent) -> Iterator[bytes]:
    if event.HasField("workflow_execution_update_completed_event_attributes"):
        outcome = event.workflow_execution_update_completed_event_attributes.outcome
        yield from (payload.data for payload in outcome.success.payloads)
    elif event.HasField("activity_task_completed_event_attributes"):
        result = event.activity_task_completed_event_attributes.result
        yield from (payload.data for payload in result.payloads)
    elif event.HasField("marker_recorded_event_attributes"):
        details = event.marker_recorded_event_attributes.details
        yield from (payload.data for payload in (details["result"].payloads if "result" in details else ()))

"""A case's whole history from Temporal: every run of its chain, with payloads as the data converter's codec reads them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from temporalio.api.common.v1 import Header, Payload, SearchAttributes
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import PayloadCodec
from temporalio.service import RPCError, RPCStatusCode

from adapters.codec import PayloadUnreadable

_WITHIN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """One run of a workflow.

    Attributes:
        name: the name of its file in a bundle.
        source: Chinese; where it was read, if not from Temporal, which has forgotten it.
    """

    name: str
    history: WorkflowHistory
    source: str = ""

    @property
    def is_over(self) -> bool:
        """Whether the run has come to its end, whatever that was."""
        return _is_over(self.history.events)

    @property
    def was_ended(self) -> bool:
        """Whether the run ended before its case came to its end, so that another may have gone on for it."""
        return _was_ended(self.history.events)

    def to_json(self) -> bytes:
        """Return it as the Temporal command line writes it (`temporal workflow show --output json`)."""
        return self.history.to_json().encode()


class HistoryIncomplete(Exception):
    """A run of the chain is nowhere any more: the retention of the namespace has passed."""


class Kept(Protocol):
    """What keeps runs of one workflow beyond the retention; see `adapters.kept_runs`."""

    async def run_ids(self) -> Sequence[str]:
        """Return the runs that are kept, those that ended last first."""
        ...

    async def events(self, run_id: str) -> tuple[list[HistoryEvent], str]:
        """Return a run's history, and in Chinese where it was read; no events when it is not kept."""
        ...


async def fetch_runs(client: Client, workflow_id: str, kept: Kept | None = None) -> list[RunHistory]:
    """Return every run of the workflow, oldest first; none when nobody knows it (any more).

    Runs that continue one another name the run before. A run that was started anew on carried state does not: those
    are looked up by workflow id. What Temporal has forgotten is taken from what keeps it.

    Raises:
        HistoryIncomplete: an earlier run is gone.
        RPCError: Temporal is away.
        ArchiveConflict, OSError: see `adapters.kept_runs`.
    """
    source = _Source(client, workflow_id, kept)
    newest = await source.newest()
    if not newest:
        return []
    found = [newest]
    while before := _run_before(found[0]):
        found.insert(0, await source.earlier(before))
    await _decode(found, client.data_converter.payload_codec)
    if _is_carried(found[0]):
        found = await source.all_runs(found)
        await _decode(found, client.data_converter.payload_codec)
        if _is_carried(found[0]):
            raise HistoryIncomplete("(最早的一次)")
    return [
        RunHistory(
            name=_file_name(number, events),
            history=WorkflowHistory(workflow_id, events),
            source=source.of(events),
        )
        for number, events in enumerate(found, start=1)
    ]


def read_run(name: str, workflow_id: str, text: str) -> RunHistory:
    """Read a run from a file of the Temporal command line.

    Raises:
        ValueError: it is none.
    """
    try:
        return RunHistory(name=name, history=WorkflowHistory.from_json(workflow_id, text))
    except Exception as error:  # the SDK and protobuf raise what they please for a file that is none
        raise ValueError(name) from error


class _Source:
    """Temporal first, then what keeps runs longer."""

    def __init__(self, client: Client, workflow_id: str, kept: Kept | None) -> None:
        self._client = client
        self._workflow_id = workflow_id
        self._kept = kept
        self._sources: list[tuple[list[HistoryEvent], str]] = []

    def of(self, events: list[HistoryEvent]) -> str:
        """Return where this history was read; empty for Temporal."""
        return next((said for each, said in self._sources if each is events), "")

    async def newest(self) -> list[HistoryEvent]:
        """Return the newest run that anybody knows; none when there is none.

        Temporal looks up a workflow by its newest run alone: is that deleted, the others are found by lists only.
        """
        if events := await self._live(None):
            return events
        kept = await self._kept.run_ids() if self._kept is not None else ()
        newest = await self.earlier(kept[0]) if kept else []
        if newest and not _was_ended(newest):
            return newest
        listed = [events for run_id in await self._listed() if (events := await self._live(run_id))]
        return max([*([newest] if newest else []), *listed], key=_began, default=[])

    async def earlier(self, run_id: str) -> list[HistoryEvent]:
        """Return a run that must be somewhere."""
        if events := await self._live(run_id):
            return events
        if self._kept is not None:
            events, said = await self._kept.events(run_id)
            if events:
                self._sources.append((events, said))
                return events
        raise HistoryIncomplete(run_id)

    async def all_runs(self, known: list[list[HistoryEvent]]) -> list[list[HistoryEvent]]:
        """Add the runs that are found by workflow id only; of a run that was reset the one that it became."""
        runs = {_run_id(events): events for events in known}
        kept = await self._kept.run_ids() if self._kept else ()
        for run_id in [*await self._listed(), *kept]:
            if run_id not in runs:
                # Lists are a moment behind, and know a run yet that has just been deleted.
                events = await self.earlier(run_id) if run_id in kept else await self._live(run_id)
                if events:
                    runs.setdefault(_run_id(events), events)
        return sorted(runs.values(), key=_began)

    async def _listed(self) -> list[str]:
        query = f'WorkflowId = "{self._workflow_id}"'
        return [each.run_id async for each in self._client.list_workflows(query)]

    async def _live(self, run_id: str | None) -> list[HistoryEvent]:
        handle = self._client.get_workflow_handle(self._workflow_id, run_id=run_id)
        try:
            return list((await handle.fetch_history(rpc_timeout=_WITHIN)).events)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return []
            raise


def _run_id(events: Sequence[HistoryEvent]) -> str:
    return str(events[0].workflow_execution_started_event_attributes.original_execution_run_id)


def _began(events: Sequence[HistoryEvent]) -> int:
    return events[0].event_time.ToNanoseconds()


def _run_before(events: Sequence[HistoryEvent]) -> str:
    return str(events[0].workflow_execution_started_event_attributes.continued_execution_run_id)


def _is_carried(events: Sequence[HistoryEvent]) -> bool:
    """Whether the run goes on from another; what cannot be read may be, and is looked up."""
    for payload in events[0].workflow_execution_started_event_attributes.input.payloads:
        try:
            start = json.loads(payload.data)
        except ValueError:
            return True
        if isinstance(start, dict) and start.get("carried"):
            return True
    return False


def _file_name(number: int, events: Sequence[HistoryEvent]) -> str:
    return f"history-{number}-{_run_id(events)}.json"


_EARLY = (
    "workflow_execution_failed_event_attributes",
    "workflow_execution_timed_out_event_attributes",
    "workflow_execution_canceled_event_attributes",
    "workflow_execution_terminated_event_attributes",
)
_OVER = ("workflow_execution_completed_event_attributes", *_EARLY)
_GOES_ON = "workflow_execution_continued_as_new_event_attributes"


def _is_over(events: Sequence[HistoryEvent]) -> bool:
    return bool(events) and events[-1].WhichOneof("attributes") in _OVER


def _was_ended(events: Sequence[HistoryEvent]) -> bool:
    return bool(events) and events[-1].WhichOneof("attributes") in (*_EARLY, _GOES_ON)


async def _decode(runs: Sequence[Sequence[HistoryEvent]], codec: PayloadCodec | None) -> None:
    """Replace every payload by what the codec reads; codecs leave alone what they did not write.

    Why a workflow task failed is no part of what a replay needs: where the key of that message is missing it stays
    encrypted, and the history can be read all the same.
    """
    if codec is None:
        return
    for event in (event for events in runs for event in events):
        for payload in list(_payloads(event)):
            try:
                (decoded,) = await codec.decode([payload])
            except PayloadUnreadable as unreadable:
                is_message = event.HasField("workflow_task_failed_event_attributes")
                if unreadable.code == "payload_key_missing" and is_message:
                    continue
                raise
            payload.CopyFrom(decoded)


def _payloads(message: Message) -> Iterator[Payload]:
    """Yield every payload in a message; search attributes and headers are never encoded."""
    if isinstance(message, Payload):
        yield message
        return
    if isinstance(message, SearchAttributes | Header):
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in _inner(field, field.message_type, value):
                yield from _payloads(inner)


_KINDS: dict[str, str] = {}
"""How a field holds messages, by its full name: asking the library each time takes longer than decrypting."""


def _inner(
    field: FieldDescriptor, held: Descriptor, value: Any
) -> Iterable[Any]:  # values have no common type
    kind = _KINDS.get(field.full_name)
    if kind is None:
        if not held.GetOptions().map_entry:
            kind = "one" if isinstance(value, Message) else "many"
        else:
            kind = "map" if held.fields_by_name["value"].message_type else "plain map"
        _KINDS[field.full_name] = kind
    if kind == "one":
        return (value,)
    if kind == "many":
        return value  # type: ignore[no-any-return]
    return value.values() if kind == "map" else ()

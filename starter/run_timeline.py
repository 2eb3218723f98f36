"""One run's history as people read it: who did what, when a limit rang, how the run began and ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from temporalio.api.common.v1 import Payload, Payloads
from temporalio.api.history.v1 import HistoryEvent
from temporalio.converter import DataConverter

from adapters.codec import PayloadUnreadable
from domain.commands import COMMANDS, Act, AnyCommand
from domain.words import ACTS

_UNREADABLE = "(缺少密钥,未能解密)"
_CLOSED = {
    "workflow_execution_completed_event_attributes": "运行结束",
    "workflow_execution_continued_as_new_event_attributes": "历史较长,转入新的运行",
    "workflow_execution_terminated_event_attributes": "运行被终止",
    "workflow_execution_failed_event_attributes": "运行失败",
    "workflow_execution_canceled_event_attributes": "运行被取消",
    "workflow_execution_timed_out_event_attributes": "运行超时",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLine:
    """One event of a run.

    Attributes:
        who: the person; empty for what happened by itself.
    """

    event_id: int
    at: datetime
    who: str
    text: str


async def run_timeline(events: Iterable[HistoryEvent], converter: DataConverter) -> list[RunLine]:
    """Return the lines of a run, oldest first; what cannot be decrypted here says so in its place."""
    lines, summaries = list[RunLine](), dict[int, Payload]()
    for event in events:
        if event.HasField("timer_started_event_attributes"):
            summaries[event.event_id] = event.user_metadata.summary
        told = await _told(event, converter, summaries)
        if told is not None:
            who, text = told
            at = event.event_time.ToDatetime(UTC)
            lines.append(RunLine(event_id=event.event_id, at=at, who=who, text=text))
    return lines


async def _told(
    event: HistoryEvent, converter: DataConverter, summaries: Mapping[int, Payload]
) -> tuple[str, str] | None:
    """Return who and what; None for an event that only the server needs."""
    kind = event.WhichOneof("attributes")
    match kind:
        case "workflow_execution_started_event_attributes":
            before = event.workflow_execution_started_event_attributes.continued_execution_run_id
            return "", f"开始运行,接自运行 {before}" if before else "开始运行"
        case "workflow_execution_update_accepted_event_attributes":
            accepted = event.workflow_execution_update_accepted_event_attributes.accepted_request.input
            return await _act(accepted.name, accepted.args, converter)
        case "workflow_execution_update_admitted_event_attributes":
            admitted = event.workflow_execution_update_admitted_event_attributes.request.input
            return await _act(admitted.name, admitted.args, converter)
        case "timer_fired_event_attributes":
            started = event.timer_fired_event_attributes.started_event_id
            return "", await _timer(summaries.get(started), converter)
        case "workflow_task_failed_event_attributes":
            return "", "流程任务失败"
        case "workflow_execution_terminated_event_attributes":
            ended = event.workflow_execution_terminated_event_attributes
            reason = f":{ended.reason}" if ended.reason else ""
            return ended.identity, f"{_CLOSED[kind]}{reason}"
        case _:
            return ("", _CLOSED[kind]) if kind in _CLOSED else None


async def _act(name: str, args: Payloads, converter: DataConverter) -> tuple[str, str] | None:
    if name not in set(Act):  # a reset repeats what was let in before by its id alone
        return None
    act = Act(name)
    try:
        command: AnyCommand = (await converter.decode(args.payloads, [COMMANDS[act]]))[0]
    except PayloadUnreadable:
        return _UNREADABLE, ACTS[act]
    return command.by.name, ACTS[act]


async def _timer(summary: Payload | None, converter: DataConverter) -> str:
    if summary is None or not summary.data:
        return "时限到点"
    try:
        told: str = (await converter.decode([summary], [str]))[0]
    except PayloadUnreadable:
        return "时限到点"
    return f"时限到点({told})"

"""Cases that run under an older version go on under this one: every recorded history still replays."""

from datetime import datetime
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from domain import clocks
from domain.case import CaseState, Stage
from domain.district import Terms
from tests.histories.record import PATHS, VERSION
from workflows import case
from workflows.case import Case

ORIGINAL = clocks.next_due

HISTORIES = sorted(Path(__file__).parent.glob("*.json"))


def test_there_are_histories_of_every_kind_of_path() -> None:
    assert {file.stem.split("-", 1)[1] for file in HISTORIES} >= {
        "straight",
        "refused",
        "disputed_and_cancelled",
        "rework",
        "late",
        "ledger_away",
        "restarted",
        "adopted",
    }
    assert {file.stem.split("-", 1)[1] for file in HISTORIES if file.stem.startswith(VERSION)} == {
        path.__name__ for path in PATHS
    }


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_a_recorded_history_replays(file: Path) -> None:
    history = WorkflowHistory.from_json(f"case/{file.stem}", file.read_text())
    replayer = Replayer(workflows=[Case], data_converter=pydantic_data_converter)
    await replayer.replay_workflow(history)


async def test_what_people_read_beside_an_event_may_change_without_a_patch() -> None:
    file = next(file for file in HISTORIES if file.stem == f"{VERSION}-late")
    history = WorkflowHistory.from_json("case/other-words", file.read_text())
    told = [event for event in history.events if event.user_metadata.summary.data]
    assert {event.WhichOneof("attributes") for event in told} == {
        "timer_started_event_attributes",
        "marker_recorded_event_attributes",
    }
    for event in told:
        event.user_metadata.summary.data = '"另一句话"'.encode()
    await Replayer(workflows=[Case], data_converter=pydantic_data_converter).replay_workflow(history)


async def replay(path: str) -> None:
    """Replay a recorded path under the code as the test has changed it."""
    file = next(file for file in HISTORIES if file.stem.endswith(path))
    history = WorkflowHistory.from_json("case/changed", file.read_text())
    replayer = Replayer(
        workflows=[Case],
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    await replayer.replay_workflow(history)


async def test_a_change_of_behaviour_that_is_not_patched_does_not_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def records_and_waits(self: Case) -> None:
        await workflow.sleep(1)

    monkeypatch.setattr(case.Case, "_record_promptly", records_and_waits)
    with pytest.raises(workflow.NondeterminismError):
        await replay("straight")


def silent_until_signed(state: CaseState, terms: Terms) -> datetime | None:
    """The change of docs/changing-workflows.md: nothing rings until everybody has signed."""
    return None if state.stage in {Stage.CALLED, Stage.DISPATCHED} else ORIGINAL(state, terms)


def patched(state: CaseState, terms: Terms) -> datetime | None:
    """The same change as it has to be made."""
    if workflow.patched("silent-until-signed"):
        return silent_until_signed(state, terms)
    return ORIGINAL(state, terms)


async def test_a_rule_that_is_changed_without_patched_does_not_replay_and_with_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clocks, "next_due", silent_until_signed)
    with pytest.raises(workflow.NondeterminismError):
        await replay("straight")
    monkeypatch.setattr(clocks, "next_due", patched)
    for path in ("straight", "rework", "late", "ledger_away"):
        await replay(path)

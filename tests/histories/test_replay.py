"""Cases that run under an older version go on under this one: every recorded history still replays."""

from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from workflows import case
from workflows.case import Case

HISTORIES = sorted(Path(__file__).parent.glob("*.json"))


def test_there_are_histories_of_every_kind_of_path() -> None:
    assert {file.stem.split("-", 1)[1] for file in HISTORIES} >= {
        "straight",
        "refused",
        "disputed_and_cancelled",
        "rework",
        "late",
        "ledger_away",
    }


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_a_recorded_history_replays(file: Path) -> None:
    history = WorkflowHistory.from_json(f"case/{file.stem}", file.read_text())
    replayer = Replayer(workflows=[Case], data_converter=pydantic_data_converter)
    await replayer.replay_workflow(history)


async def test_a_change_of_behaviour_that_is_not_patched_does_not_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def records_and_waits(self: Case) -> None:
        await workflow.sleep(1)

    monkeypatch.setattr(case.Case, "_record_promptly", records_and_waits)
    file = next(file for file in HISTORIES if file.stem.endswith("straight"))
    history = WorkflowHistory.from_json("case/changed", file.read_text())
    replayer = Replayer(
        workflows=[Case],
        data_converter=pydantic_data_converter,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    with pytest.raises(workflow.NondeterminismError):
        await replayer.replay_workflow(history)

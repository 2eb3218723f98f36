"""A rehearsal says the same as the SDK's replayer, or nothing: whatever does not match to the letter is left to that."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.histories import RunHistory, read_run
from starter.rehearsal import Unrehearsable
from starter.replay import rehearsed, replay

HISTORIES = sorted(Path(__file__).parent.glob("*.json"))
BY_THE_SDK_ALONE = {"adopted", "ledger_away"}
"""The ledger was away: ordinary activities, which no rehearsal knows."""

Events = list[dict[str, Any]]


def run_of(file: Path) -> RunHistory:
    return read_run(file.name, f"case/{file.stem}", file.read_text())


def changed(path: str, change: Callable[[Events], None]) -> RunHistory:
    """Return the recorded history of this path after a change."""
    file = next(each for each in HISTORIES if each.stem == f"0.2.0-{path}")
    content = json.loads(file.read_text())
    change(content["events"])
    return read_run(file.name, f"case/{file.stem}", json.dumps(content))


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_a_recorded_history_gives_to_the_letter_what_the_sdk_replays(file: Path) -> None:
    run = run_of(file)
    assert await replay([run]) == await replay([run], by_sdk=True)


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
def test_every_path_of_ordinary_life_can_be_rehearsed(file: Path) -> None:
    if file.stem.split("-", 1)[1] in BY_THE_SDK_ALONE:
        with pytest.raises(Unrehearsable):
            rehearsed(run_of(file))
    else:
        assert rehearsed(run_of(file)).failure == ""


def first(events: Events, kind: str) -> dict[str, Any]:
    return next(event for event in events if event["eventType"].endswith(kind))


def without(kind: str) -> Callable[[Events], None]:
    return lambda events: events.remove(first(events, kind))


def twice(kind: str) -> Callable[[Events], None]:
    return lambda events: events.insert(events.index(first(events, kind)), first(events, kind))


def timer_set_for_longer(events: Events) -> None:
    first(events, "TIMER_STARTED")["timerStartedEventAttributes"]["startToFireTimeout"] = "1s"


def stage_shown_differently(events: Events) -> None:
    upsert = first(events, "UPSERT_WORKFLOW_SEARCH_ATTRIBUTES")
    fields = upsert["upsertWorkflowSearchAttributesEventAttributes"]["searchAttributes"]["indexedFields"]
    fields["Stage"]["data"] = "ImNsb3NlZCI="


def refused_instead_of_done(events: Events) -> None:
    completed = first(events, "UPDATE_COMPLETED")["workflowExecutionUpdateCompletedEventAttributes"]
    completed["outcome"] = {"failure": {"message": "不"}}


def another_act(events: Events) -> None:
    accepted = first(events, "UPDATE_ACCEPTED")["workflowExecutionUpdateAcceptedEventAttributes"]
    accepted["acceptedRequest"]["input"]["name"] = "cancel"


@pytest.mark.parametrize(
    "change",
    [
        *(
            without(kind)
            for kind in ("UPDATE_ACCEPTED", "UPDATE_COMPLETED", "MARKER_RECORDED", "TIMER_STARTED")
        ),
        without("UPSERT_WORKFLOW_SEARCH_ATTRIBUTES"),
        without("WORKFLOW_EXECUTION_COMPLETED"),
        twice("UPDATE_ACCEPTED"),
        twice("MARKER_RECORDED"),
        timer_set_for_longer,
        stage_shown_differently,
        refused_instead_of_done,
        another_act,
    ],
)
def test_a_history_in_which_anything_does_not_match_is_left_to_the_sdk(
    change: Callable[[Events], None],
) -> None:
    with pytest.raises(Unrehearsable):
        rehearsed(changed("straight", change))


def test_an_act_whose_content_was_changed_gives_other_entries_in_a_rehearsal_too() -> None:
    def rated_otherwise(events: Events) -> None:
        for event in events:
            accepted = event.get("workflowExecutionUpdateAcceptedEventAttributes")
            if accepted and accepted["acceptedRequest"]["input"]["name"] == "rate":
                payload = accepted["acceptedRequest"]["input"]["args"]["payloads"][0]
                content = json.loads(base64.b64decode(payload["data"]))
                payload["data"] = base64.b64encode(
                    json.dumps({**content, "grade": "dissatisfied"}).encode()
                ).decode()
                return

    honest, forged = (
        rehearsed(changed("straight", lambda _: None)),
        rehearsed(changed("straight", rated_otherwise)),
    )
    assert [entry.hash for entry in honest.entries] != [entry.hash for entry in forged.entries]


def test_a_task_that_is_under_way_is_left_to_the_sdk() -> None:
    file = next(each for each in HISTORIES if each.stem == "0.2.0-straight")
    content = json.loads(file.read_text())
    started = [
        number
        for number, event in enumerate(content["events"])
        if event["eventType"].endswith("TASK_STARTED")
    ]
    content["events"] = content["events"][: started[5] + 1]
    with pytest.raises(Unrehearsable):
        rehearsed(read_run(file.name, "case/x", json.dumps(content)))

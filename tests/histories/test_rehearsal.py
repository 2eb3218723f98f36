"""A rehearsal says the same as the SDK's replayer, or nothing: whatever does not match to the letter is left to that."""

import asyncio
import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.histories import RunHistory, read_run
from starter.rehearsal import Unrehearsable
from starter.replay import rehearsed, replay

HISTORIES = sorted(Path(__file__).parent.glob("*.json"))
BY_THE_SDK_ALONE = {"adopted", "ledger_away", "reopened_while_ledger_away"}
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


PLAIN = [each for each in HISTORIES if each.stem.startswith("0.2.0") and "ledger_away" not in each.stem]


class Forged:
    """A history; its own text is far too long to be printed."""

    def __init__(self, run: RunHistory, changes: list[str]) -> None:
        self.run = run
        self.changes = changes

    def __repr__(self) -> str:
        return f"{self.run.name}: {', '.join(self.changes)}"


@st.composite
def forged(draw: st.DrawFn) -> Forged:
    """A recorded history with some events taken out, doubled, swapped, numbered anew, or changed in one value."""
    file = draw(st.sampled_from(PLAIN))
    content = json.loads(file.read_text())
    events: Events = content["events"]
    changes = []
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(1, len(events) - 1))
        how = draw(st.sampled_from(["out", "double", "swap", "value", "value", "value", "cut"]))
        changes.append(f"{how} {events[place]['eventId']}")
        if how == "out":
            del events[place]
        elif how == "double":
            events.insert(place, events[place])
        elif how == "swap":
            other = draw(st.integers(1, len(events) - 1))
            events[place], events[other] = events[other], events[place]
        elif how == "cut":
            del events[max(place, 4) :]
        else:
            change_a_value(events[place], draw)
        if draw(st.booleans()):
            for number, event in enumerate(events, start=1):
                event["eventId"] = str(number)
    return Forged(read_run(file.name, f"case/{file.stem}", json.dumps(content)), changes)


def change_a_value(event: dict[str, Any], draw: st.DrawFn) -> None:
    attributes: Any = next(value for key, value in event.items() if key.endswith("Attributes"))
    while isinstance(attributes, dict) and attributes:
        key = draw(st.sampled_from(sorted(attributes)))
        if isinstance(attributes[key], dict) and attributes[key]:
            attributes = attributes[key]
            continue
        if isinstance(attributes[key], str) and attributes[key].isdigit():
            attributes[key] = str(draw(st.integers(0, 60)))
        elif isinstance(attributes[key], list) and attributes[key] and isinstance(attributes[key][0], dict):
            attributes = attributes[key][0]
            continue
        else:
            del attributes[key]
        return


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=forged())
def test_whatever_was_done_to_a_history_a_rehearsal_says_what_the_sdk_says_or_nothing(
    history: Forged,
) -> None:
    try:
        told = rehearsed(history.run)
    except Unrehearsable:
        return
    (replayed,) = asyncio.run(replay([history.run], by_sdk=True))
    assert told == replayed

"""Whole cases on a real server, encrypted: what Temporal keeps, what a rotation does, what a missing key does."""

import asyncio
import json
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowHistory
from temporalio.converter import WorkflowSerializationContext
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer

from adapters.codec import PayloadUnreadable, encrypting, is_encrypted
from adapters.keys import OLD, SM4_GCM, Keys
from domain import audit
from domain.case import Stage
from domain.commands import Dispatch
from domain.lifecycle import fold
from tests.payloads import bare, encrypted, fresh_key, key_id, payloads_of, raw, used_for
from tests.sample import DEPARTMENTS, DISPATCHER, ECOLOGY, POLICE
from tests.workflows.cases import Cases, Running
from workflows.case import Case

STEPS = ("sign", "check_in", "confirm", "action", "done", "rate")


OF_THE_SDK = {
    "seq",
    "attempt",
    "activity_id",
    "activity_type",
    "complete_time",
    "backoff",
    "original_schedule_time",
    "activation_index",
}
"""What the SDK itself notes of a local activity: numbers and times, no payload of ours, and never encrypted."""


async def kept(server: WorkflowEnvironment, case: Running) -> WorkflowHistory:
    """Return the history as Temporal keeps it."""
    return await (await bare(server)).get_workflow_handle(case.handle.id).fetch_history()


def _plain(payload: Payload) -> bytes:
    return b"{}" if is_encrypted(payload) else payload.data


def keys_in(history: WorkflowHistory) -> set[str]:
    """Return the names of the keys that a history needs."""
    return {
        payload.metadata["key-id"].decode()
        for event in history.events
        for payload in payloads_of(event)
        if is_encrypted(payload)
    }


@pytest.mark.parametrize("algorithm", ["aes-256-gcm", "sm4-gcm"])
async def test_every_payload_of_a_case_is_encrypted_with_its_districts_key_and_replays(
    real_server: WorkflowEnvironment, algorithm: str
) -> None:
    default, district = fresh_key(), fresh_key("sample", algorithm)
    async with Cases(await encrypted(real_server, default, district)) as cases:
        case = await cases.call()
        cases.ledger.away = True  # so that an ordinary activity, with its failure, is in the history too
        await case.dispatch(ECOLOGY, POLICE)
        cases.ledger.away = False
        await case.each(*STEPS, departments=(ECOLOGY, POLICE))
        assert await case.handle.result() == Stage.CLOSED
        audit.check_chain(case.entries)
        assert fold(case.entries) == await case.state()
    history = await kept(real_server, case)
    kinds = {event.WhichOneof("attributes") for event in history.events}
    assert "activity_task_completed_event_attributes" in kinds
    found = [payload for event in history.events for payload in payloads_of(event)]
    assert len(found) > 25
    bookkeeping = [payload for payload in found if set(json.loads(_plain(payload))) == OF_THE_SDK]
    assert len(bookkeeping) < len(found) / 2
    found = [payload for payload in found if payload not in bookkeeping]
    for payload in found:
        assert payload.metadata["encoding"] == b"binary/encrypted"
        assert payload.metadata["key-id"].decode() == key_id(district)
        assert payload.metadata["workflow-id"].decode() == case.handle.id
    converter = encrypting(Keys(f"{default}\n{district}"))
    await Replayer(workflows=[Case], data_converter=converter).replay_workflow(history)


async def test_the_texts_of_failures_are_encrypted(real_server: WorkflowEnvironment) -> None:
    async with Cases(await encrypted(real_server, fresh_key())) as cases:
        case = await cases.call()
        cases.ledger.away = True
        await case.dispatch(ECOLOGY)
        while not await _has_failed(real_server, case):
            await asyncio.sleep(0.05)
        content = raw(await kept(real_server, case))
        cases.ledger.away = False
    assert b"Encoded failure" in content
    assert b"the ledger is away" not in content


async def _has_failed(server: WorkflowEnvironment, case: Running) -> bool:
    history = await kept(server, case)
    return any(b"Encoded failure" in event.SerializeToString() for event in history.events)


async def test_a_case_goes_on_after_rotation_with_the_old_key_for_reading_only(
    real_server: WorkflowEnvironment,
) -> None:
    first, second = fresh_key(), fresh_key(algorithm=SM4_GCM)
    rotated = (second, used_for(first, OLD))
    async with Cases(await encrypted(real_server, first)) as cases:
        case = await cases.call()
        await case.dispatch()
        await case.each("sign")
        assert keys_in(await kept(real_server, case)) == {key_id(first)}
        await cases.stop_worker()
        cases.client = (await encrypted(real_server, *rotated)).client
        await cases.start_worker()
        case.handle = cases.client.get_workflow_handle(case.handle.id, result_type=str)
        await case.each(*STEPS[1:])
        assert await case.handle.result() == Stage.CLOSED
    history = await kept(real_server, case)
    assert keys_in(history) == {key_id(first), key_id(second)}
    replayer = Replayer(workflows=[Case], data_converter=encrypting(Keys("\n".join(rotated))))
    await replayer.replay_workflow(history)


async def test_a_case_from_before_encryption_goes_on_encrypted(real_server: WorkflowEnvironment) -> None:
    line = fresh_key()
    async with Cases(real_server) as cases:
        case = await cases.call()
        await case.dispatch()
        await cases.stop_worker()
        cases.client = (await encrypted(real_server, line)).client
        await cases.start_worker()
        case.handle = cases.client.get_workflow_handle(case.handle.id, result_type=str)
        await case.each(*STEPS)
        assert await case.handle.result() == Stage.CLOSED
    history = await kept(real_server, case)
    encodings = {payload.metadata["encoding"] for event in history.events for payload in payloads_of(event)}
    assert encodings == {b"json/plain", b"binary/encrypted"}
    await Replayer(workflows=[Case], data_converter=encrypting(Keys(line))).replay_workflow(history)


async def test_without_its_key_a_case_waits_says_so_and_goes_on_once_the_key_is_there(
    real_server: WorkflowEnvironment,
) -> None:
    first, second = fresh_key(), fresh_key()
    cases = Cases(await encrypted(real_server, first))
    case = await cases.call()
    blind = await encrypted(real_server, second)
    cases.client = blind.client
    await cases.start_worker()
    while not (failed := _task_failures(await kept(real_server, case))):
        await asyncio.sleep(0.05)
    failure = failed[0]
    assert failure.application_failure_info.type == PayloadUnreadable.__name__
    of_case = WorkflowSerializationContext(namespace="any", workflow_id=case.handle.id)
    told = str(await blind.client.data_converter.with_context(of_case).decode_failure(failure))
    assert "payload_key_missing" in told
    assert f"缺少编号为“{key_id(first)}”的载荷密钥" in told
    assert (await case.handle.describe()).status is WorkflowExecutionStatus.RUNNING
    assert case.entries == []
    await cases.stop_worker()
    cases.client = (await encrypted(real_server, second, used_for(first, OLD))).client
    case.handle = cases.client.get_workflow_handle(case.handle.id, result_type=str)
    async with cases:
        await case.do(Dispatch(by=DISPATCHER, lead=ECOLOGY, cooperating=DEPARTMENTS[1:]))
        await case.each(*STEPS)
        assert await case.handle.result() == Stage.CLOSED
        assert [entry.sequence for entry in case.entries] == list(range(1, len(case.entries) + 1))


def _task_failures(history: WorkflowHistory) -> list[Any]:
    return [
        event.workflow_task_failed_event_attributes.failure
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED
    ]

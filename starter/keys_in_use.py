"""Which payload keys the open cases need, and whether the workers hold them: a quiet case says nothing until its timer."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.errordetails.v1 import QueryFailedFailure
from temporalio.api.query.v1 import WorkflowQuery
from temporalio.api.workflowservice.v1 import QueryWorkflowRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.codec import EncryptingCodec, PayloadUnreadable, is_encrypted, missing_key
from domain.case import CaseId
from workflows import names

_RPC = timedelta(seconds=5)
_LOOKED_AT = 60
_EACH_END = 3


def sample(cases: Sequence[tuple[str, CaseId]]) -> list[CaseId]:
    """Return the first and last few cases of each district: ids begin with the day of the call."""
    by_district: dict[str, list[CaseId]] = defaultdict(list)
    for district, case_id in cases:
        by_district[district].append(case_id)
    ends = [[*some[:_EACH_END], *some[_EACH_END:][-_EACH_END:]] for some in by_district.values()]
    return [case_id for some in ends for case_id in some][:_LOOKED_AT]


async def keys_in_use(client: Client, case_ids: Sequence[CaseId]) -> dict[str, CaseId]:
    """Return the ids of the keys that these cases need, each with a case that needs it.

    Raises:
        RPCError: Temporal could not be asked.
    """
    used: dict[str, CaseId] = {}
    for case_id in case_ids:
        for key_id in await _keys_of(client, case_id):
            used.setdefault(key_id, case_id)
    return used


async def _keys_of(client: Client, case_id: CaseId) -> set[str]:
    """Return which keys the first event of the case's newest run names; none for one that has no run."""
    handle = client.get_workflow_handle(names.case_workflow_id(case_id))
    try:
        async for event in handle.fetch_history_events(page_size=1, rpc_timeout=_RPC):
            payloads = event.workflow_execution_started_event_attributes.input.payloads
            return {each.metadata["key-id"].decode() for each in payloads if is_encrypted(each)}
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
    return set()


def unheld(client: Client, used: Mapping[str, CaseId]) -> dict[str, CaseId]:
    """Return those of the keys that this process, whose client it is, does not hold."""
    codec = client.data_converter.payload_codec
    held = codec.holds if isinstance(codec, EncryptingCodec) else lambda _: False
    return {key_id: case_id for key_id, case_id in used.items() if not held(key_id)}


async def missed_by_worker(client: Client, case_id: CaseId) -> str | None:
    """Return which key a worker lacks to take up the case; None where it lacks none, or does not answer.

    A query has it replay the case, unless it holds the case in memory, and then it could read it.
    """
    asked = QueryWorkflowRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=names.case_workflow_id(case_id)),
        query=WorkflowQuery(query_type="state"),
    )
    try:
        await client.workflow_service.query_workflow(
            asked, timeout=_RPC
        )  # not by a handle: that hides the failure
    except RPCError as error:
        said = QueryFailedFailure()
        if not any(each.Unpack(said) for each in error.grpc_status.details):
            return None
        try:
            failure = await client.data_converter.decode_failure(said.failure)
        except PayloadUnreadable:
            return None
        return missing_key(str(getattr(failure, "message", failure)))
    return None

"""Cases as the doors see them: started, acted on, asked for their state; with our own deadline around every call."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import structlog
from temporalio.client import (
    Client,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.common import (
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDConflictPolicy,
    WorkflowIDReusePolicy,
)
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from adapters.codec import PayloadUnreadable
from domain import words
from domain.case import CaseId, CaseState
from domain.commands import AnyCommand
from domain.errors import DomainError, Forbidden, Invalid, Refused
from domain.lifecycle import evolve
from domain.ports import CaseStart, Receipt
from workflows import names

_log = structlog.get_logger()


class TemporalUnavailable(Exception):
    """Temporal, or every worker, is away; whether an act arrived is not known."""


class CaseNotRunning(Exception):
    """No workflow of this case runs: it was not started yet, or it is over."""


class ActFailed(Exception):
    """The workflow could not do the act, for a reason that is none of the rules': a bug, or a terminated case."""


class CaseClient:
    """Everything that the doors ask of a case's workflow.

    Args:
        within: how long to wait for Temporal, in seconds.
    """

    def __init__(self, client: Client, *, within: float, task_queue: str = names.TASK_QUEUE) -> None:
        self.client = client
        self._within = within
        self._task_queue = task_queue

    @property
    def task_queue(self) -> str:
        """Where the workers take their tasks."""
        return self._task_queue

    async def start(self, start: CaseStart) -> None:
        """Start the case's workflow; one that runs, or has run, counts as started.

        A start that carries a case begins one more run of it, unless one runs already: only who knows that the rules
        let an ended case go on, or that the run of an open one is gone, asks for that.

        Raises:
            TemporalUnavailable: try again later.
        """
        start = start.model_copy(update={"shows_awaiting_sign": True})
        opened, terms = start.opened, start.terms
        state = start.carried.state if start.carried else evolve(None, opened)
        again = start.carried is not None
        attributes = names.attributes_of(state, terms, state.acted_at, awaiting_sign=True)
        call = state.call
        async with self._in_time(not_found=TemporalUnavailable):
            try:
                await self.client.start_workflow(
                    names.CASE,
                    start,
                    id=names.case_workflow_id(state.case_id),
                    task_queue=self._task_queue,
                    id_reuse_policy=(
                        WorkflowIDReusePolicy.ALLOW_DUPLICATE
                        if again
                        else WorkflowIDReusePolicy.REJECT_DUPLICATE
                    ),
                    id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                    search_attributes=TypedSearchAttributes(
                        [SearchAttributePair(update.key, update.value) for update in attributes]
                    ),
                    static_summary=words.summary(state, terms)[:100],
                    static_details=(
                        f"**{words.summary(state, terms)}**\n\n"
                        f"- 案件编号:{state.case_id}\n- 地点:{call.location.address}\n"
                        f"- 类别:{words.CATEGORIES[call.category]}\n- 事项:{call.item_name or '未列事项'}\n"
                        f"- 吹哨时间:{words.local(opened.at)}\n- 政策版本:{state.policy_version}"
                    ),
                    rpc_timeout=timedelta(seconds=self._within),
                )
            except WorkflowAlreadyStartedError:
                return

    async def start_notices(self, district: str) -> None:
        """See that the workflow runs that sends this district's notices.

        Raises:
            TemporalUnavailable: try again later.
        """
        async with self._in_time(not_found=TemporalUnavailable):
            await self.client.start_workflow(
                names.NOTICES,
                district,
                id=names.notices_workflow_id(district),
                task_queue=self._task_queue,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                search_attributes=TypedSearchAttributes([SearchAttributePair(names.DISTRICT, district)]),
                static_summary="通知发送",
                rpc_timeout=timedelta(seconds=self._within),
            )

    async def act(self, case_id: CaseId, command: AnyCommand) -> Receipt:
        """Do the act and return its receipt; the same key again returns the same receipt.

        Raises:
            DomainError: as the rules refused it.
            CaseNotRunning: see there.
            ActFailed: see there.
            TemporalUnavailable: it may or may not have arrived; the same key again is safe.
        """
        async with self._in_time():
            try:
                receipt: Receipt = await self._handle(case_id).execute_update(
                    command.act.value,
                    command,
                    id=command.key or None,
                    result_type=Receipt,
                    rpc_timeout=timedelta(seconds=self._within),
                )
            except WorkflowUpdateFailedError as failed:
                raise _refusal(failed.cause) from None
        if receipt.body_digest not in {
            "",
            command.body_digest,
        }:  # not known for a case restarted from the ledger
            raise KEY_REUSED
        return receipt

    async def state(self, case_id: CaseId) -> CaseState:
        """Return the case as its workflow has it.

        Raises:
            CaseNotRunning: there is no such workflow.
            TemporalUnavailable: try again later.
        """
        async with self._in_time():
            with contextlib.suppress(WorkflowQueryFailedError):  # it came with part of a task: once more
                return await self._asked(case_id)
            return await self._asked(case_id)

    async def _asked(self, case_id: CaseId) -> CaseState:
        state: CaseState = await self._handle(case_id).query(
            "state", result_type=CaseState, rpc_timeout=timedelta(seconds=self._within)
        )
        return state

    def _handle(self, case_id: CaseId) -> WorkflowHandle[Any, Any]:
        return self.client.get_workflow_handle(names.case_workflow_id(case_id))

    @asynccontextmanager
    async def _in_time(self, *, not_found: type[Exception] = CaseNotRunning) -> AsyncIterator[None]:
        """Translate what goes wrong on the way; `not_found` is for the workflow, or else the namespace."""
        try:
            async with asyncio.timeout(self._within):
                yield
        except RPCError as error:
            if error.status is RPCStatusCode.INVALID_ARGUMENT:
                raise  # trying again changes nothing
            if error.status is RPCStatusCode.NOT_FOUND:
                raise not_found(str(error)) from error
            raise TemporalUnavailable(str(error)) from error
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError, WorkflowQueryFailedError) as error:
            raise TemporalUnavailable(repr(error)) from error
        except PayloadUnreadable as error:  # the key is not here yet; what was asked is kept and asked again
            _log.exception("payload_unreadable", code=error.code)
            raise TemporalUnavailable(str(error)) from error
        except RuntimeError as error:  # what the lazy client raises when it cannot connect
            raise TemporalUnavailable(str(error)) from error


KEY_REUSED = Invalid(
    "idempotency_key_reused", "该 Idempotency-Key 已用于内容不同的请求;新的请求请换用新的 Idempotency-Key。"
)
_KINDS: dict[str, type[DomainError]] = {kind.__name__: kind for kind in (Refused, Forbidden, Invalid)}


def _refusal(cause: BaseException | None) -> Exception:
    """Return the rules' own refusal from what came back over the wire."""
    if isinstance(cause, ApplicationError) and cause.type in _KINDS and cause.details:
        return _KINDS[cause.type](str(cause.details[0]), cause.message.removeprefix(f"{cause.type}: "))
    return ActFailed(repr(cause))

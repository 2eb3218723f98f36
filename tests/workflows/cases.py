"""Cases as workflows, played by the people of the sample district."""

import contextlib
import itertools
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Self

from temporalio.client import WorkflowHandle, WorkflowQueryFailedError, WorkflowUpdateFailedError
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Worker

from domain.case import ActionKind, CaseId, CaseState, Grade, Officer, OrganisationCode
from domain.commands import (
    AnyCommand,
    CheckIn,
    ConfirmCheckIn,
    Dispatch,
    Rate,
    ReportDone,
    Sign,
    TakeAction,
)
from domain.district import Terms
from domain.events import Entry
from domain.lifecycle import evolve
from domain.ports import CaseStart, OutboxNotice, Receipt
from domain.restart import from_ledger
from starter.case_client import CaseClient
from tests.fakes.ledger import FakeLedger
from tests.sample import DEPARTMENTS, DISPATCHER, OFFICERS, TERMS, TOWN_OFFICER, opening
from worker import create_worker
from workflows import names


class NoNotices:
    """An outbox with nothing in it."""

    async def unsent(self, district: str, limit: int, now: datetime) -> list[OutboxNotice]:
        """Return nothing."""
        del district, limit, now
        return []

    async def sent(self, ids: object, at: datetime) -> None:
        """Do nothing."""

    async def failed(self, notice: OutboxNotice, error: str, retry_at: datetime) -> None:
        """Do nothing."""


class Running:
    """One case that runs."""

    def __init__(self, handle: WorkflowHandle[Any, str], ledger: FakeLedger, case_id: CaseId) -> None:
        self.handle = handle
        self.case_id = case_id
        self._ledger = ledger

    async def do(self, command: AnyCommand, *, update_id: str | None = None) -> Receipt:
        """Do the act; a refusal is raised as `WorkflowUpdateFailedError`."""
        receipt: Receipt = await self.handle.execute_update(
            command.act.value, command, id=update_id, result_type=Receipt
        )
        return receipt

    async def refusal(self, command: AnyCommand) -> str:
        """Return the code with which the act is refused."""
        try:
            await self.do(command)
        except WorkflowUpdateFailedError as failed:
            assert isinstance(failed.cause, ApplicationError)
            return str(failed.cause.details[0])
        msg = "the act was accepted"
        raise AssertionError(msg)

    async def dispatch(self, *departments: OrganisationCode) -> Self:
        """Dispatch to these; the first leads."""
        lead, *others = departments or DEPARTMENTS
        await self.do(Dispatch(by=DISPATCHER, lead=lead, cooperating=tuple(others)))
        return self

    async def each(self, *steps: str, departments: tuple[OrganisationCode, ...] = DEPARTMENTS) -> Self:
        """Let each department take these steps, one step after the other."""
        for step, department in itertools.product(steps, departments):
            await self.do(self._command(step, department))
        return self

    async def state(self) -> CaseState:
        """Return the case as the workflow has it."""
        state: CaseState = await self.ask("state", CaseState)
        return state

    async def ask(self, name: str, kind: type[Any]) -> Any:
        """Ask, and once more if the question came with part of a task; see `adapters.whole_tasks`."""
        with contextlib.suppress(WorkflowQueryFailedError):
            return await self.handle.query(name, result_type=kind)
        return await self.handle.query(name, result_type=kind)

    @property
    def entries(self) -> list[Entry]:
        """What the ledger holds."""
        return self._ledger.entries.get(self.case_id, [])

    def kinds(self) -> list[str]:
        """What has happened, by kind."""
        return [entry.event.kind for entry in self.entries]

    async def history_kinds(self) -> Counter[str]:
        """Count the events of the workflow's history by kind."""
        history = await self.handle.fetch_history()
        return Counter(str(event.WhichOneof("attributes")) for event in history.events)

    @staticmethod
    def _command(step: str, department: OrganisationCode) -> AnyCommand:
        officer = OFFICERS[department]
        match step:
            case "sign":
                return Sign(by=officer, department=department)
            case "check_in":
                return CheckIn(by=officer, department=department, officers=(Officer(name="王示例"),))
            case "confirm":
                return ConfirmCheckIn(by=TOWN_OFFICER, department=department)
            case "action":
                return TakeAction(
                    by=officer,
                    department=department,
                    kind=ActionKind.DEMOLITION,
                    description="拆除设备",
                    result="已拆除",
                )
            case "done":
                return ReportDone(by=officer, department=department, result="办理完成")
            case "rate":
                return Rate(by=TOWN_OFFICER, department=department, grade=Grade.SATISFIED, solved=True)
        raise ValueError(step)


class Cases:
    """A worker of its own on a task queue of its own, with a ledger in memory."""

    def __init__(self, environment: WorkflowEnvironment) -> None:
        self.environment = environment
        self.client = environment.client
        self.ledger = FakeLedger()
        self._queue = f"test-{uuid.uuid4()}"
        self._worker: Worker | None = None
        self._called: list[Running] = []
        self._terms: dict[CaseId, Terms] = {}

    @property
    def queue(self) -> str:
        """Where the worker takes its tasks."""
        return self._queue

    async def __aenter__(self) -> Self:
        """Start the worker."""
        await self.start_worker()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End what still runs, or its timers would hold up the skipping of time for others; stop the worker."""
        for case in self._called:
            with contextlib.suppress(RPCError):
                await case.handle.terminate()
        await self.stop_worker()

    async def start_worker(self) -> None:
        """Start a worker with an empty cache: what it goes on with, it replays."""
        self._worker = create_worker(self.client, self.ledger, NoNotices(), task_queue=self._queue)
        await self._worker.__aenter__()

    async def stop_worker(self) -> None:
        """Stop it."""
        if self._worker is not None:
            await self._worker.__aexit__(None, None, None)
            self._worker = None

    async def now(self) -> datetime:
        """Return the server's time."""
        return (await self.environment.get_current_time()).astimezone(UTC)

    async def call(
        self, *, terms: Terms = TERMS, shows_awaiting_sign: bool = True, **changes: Any
    ) -> Running:
        """Open a case now."""
        case_id = CaseId(f"sample-20260304-{uuid.uuid4().hex[:12]}")
        opened = opening(await self.now(), case_id=case_id, terms=terms, **changes)
        attributes = names.attributes_of(
            evolve(None, opened), terms, opened.at, awaiting_sign=shows_awaiting_sign
        )
        handle: WorkflowHandle[Any, str] = await self.client.start_workflow(
            names.CASE,
            CaseStart(opened=opened, terms=terms, shows_awaiting_sign=shows_awaiting_sign),
            id=names.case_workflow_id(case_id),
            task_queue=self._queue,
            result_type=str,
            search_attributes=TypedSearchAttributes(
                [SearchAttributePair(update.key, update.value) for update in attributes]
            ),
        )
        self._called.append(Running(handle, self.ledger, case_id))
        self._terms[case_id] = terms
        return self._called[-1]

    async def take_up(self, case: Running) -> Running:
        """Begin one more run of a case that has ended, from what the ledger holds, as `Store.reopening` does."""
        opened = CaseStart(opened=case.entries[0], terms=self._terms[case.case_id])
        start = from_ledger(opened, case.entries, {})
        await CaseClient(self.client, within=10, task_queue=self._queue).start(start)
        handle = self.client.get_workflow_handle(names.case_workflow_id(case.case_id), result_type=str)
        self._called.append(Running(handle, self.ledger, case.case_id))
        return self._called[-1]

"""A house whose worker also does what schedules start."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text, update
from temporalio.service import RPCError

from activities.archive import ArchiveBatch, ArchivedBatch
from activities.reconcile import Reconciled, ReconcileRequest
from adapters.archive import open_archive
from adapters.store import Store
from adapters.tables import LedgerRow
from adapters.witnesses import LedgerWitnesses
from domain import audit
from domain.case import CaseId
from domain.ports import Archive, Difference
from starter.executions import TemporalExecutions
from tests.records import rechained
from tests.starter.conftest import House
from worker import create_worker, upkeep_activities
from workflows import names


class Keeping:
    """Archive and reconciliation as workflows, at once instead of at set times."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house = house
        self.executions = TemporalExecutions(house.doors.cases)
        self.url = folder.as_uri()
        self.archive: Archive = open_archive(self.url)
        self.client = house.doors.cases.client
        self.batch = ArchiveBatch(settle=timedelta(0), limit=2)

    async def start(self) -> None:
        """Put a worker with everything in the place of the house's own."""
        house, queue = self.house, self.house.doors.cases._task_queue
        await house.stop_worker()
        house._worker_of = lambda: create_worker(
            self.client,
            house.store,
            house.store,
            task_queue=queue,
            upkeep=upkeep_activities(
                house.store, self.executions, self.url, LedgerWitnesses(house.store, archive=self.archive)
            ),
        )
        await house.start_worker()

    async def closed(self, *departments: str) -> CaseId:
        """Call, and let the case go to its end."""
        case_id = await self.house.call()
        await self.house.until_done(case_id, *departments)
        await self.house.rate(case_id, *departments)
        await self.client.get_workflow_handle(names.case_workflow_id(CaseId(case_id))).result()
        return CaseId(case_id)

    async def run_archive(self) -> ArchivedBatch:
        """Archive what is closed, however short a time ago."""
        done: ArchivedBatch = await self._run(names.ARCHIVE, self.batch, ArchivedBatch)
        return done

    async def run_reconcile(self, *, restart_many: bool = False) -> Reconciled:
        """Compare."""
        request = ReconcileRequest(restart_many=restart_many)
        done: Reconciled = await self._run(names.RECONCILE, request, Reconciled)
        return done

    async def differences(self, *case_ids: str) -> list[Difference]:
        """Return what the newest report says of these cases; other tests' cases are on the same server."""
        report = await self.house.store.reconciliation()
        assert report is not None
        return [each for each in report.differences if each.case_id in case_ids]

    async def forget(self, case_id: CaseId, run_ids: Sequence[str]) -> None:
        """Let Temporal forget the case, as it does when retention ends."""
        from temporalio.api.common.v1 import WorkflowExecution
        from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest

        for run_id in run_ids:
            execution = WorkflowExecution(workflow_id=names.case_workflow_id(case_id), run_id=run_id)
            await self.client.workflow_service.delete_workflow_execution(
                DeleteWorkflowExecutionRequest(namespace="default", workflow_execution=execution)
            )
        for run_id in run_ids:
            await self.house.until(lambda run_id=run_id: self._is_forgotten(case_id, run_id))

    async def _is_forgotten(self, case_id: CaseId, run_id: str) -> bool:
        handle = self.client.get_workflow_handle(names.case_workflow_id(case_id), run_id=run_id)
        try:
            await handle.describe()
        except RPCError:
            return True
        return False

    async def _run(self, workflow: str, argument: Any, result: type[Any]) -> Any:
        return await self.client.execute_workflow(
            workflow,
            argument,
            id=f"{workflow}-{datetime.now(UTC).timestamp()}",
            task_queue=self.house.doors.cases._task_queue,
            result_type=result,
        )


async def rewritten(store: Store, case_id: CaseId, kind: str = "dispatched") -> None:
    """Say something else in the entries of a kind, with every hash made to fit, as the owner of the database can."""
    entries = await store.entries(case_id)
    forged = [
        (
            entry.model_copy(update={"event": entry.event.model_copy(update={"reason": "另有安排"})})
            if kind == "dispatched"
            else entry.model_copy(update={"key": "forged"})
        )
        if entry.event.kind == kind
        else entry
        for entry in entries
    ]
    forged = rechained(forged)
    audit.check_chain(forged)
    assert forged[-1].hash != entries[-1].hash
    async with store._database.write() as connection:
        for change in ("_update", "_delete") if store._database.is_sqlite else ("",):
            on = "" if store._database.is_sqlite else " ON ledger"
            await connection.execute(text(f"DROP TRIGGER IF EXISTS ledger_append_only{change}{on}"))
        for entry in forged:
            row = update(LedgerRow).where(LedgerRow.case_id == case_id, LedgerRow.sequence == entry.sequence)
            await connection.execute(row.values(entry=audit.canonical(entry), hash=entry.hash))
    await store.rebuild([case_id])

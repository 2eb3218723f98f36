"""What Schedules start: putting closed cases away, and comparing SQL with what runs."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.archive import ArchiveBatch, ArchivedBatch
    from activities.reconcile import Reconciled, ReconcileRequest
    from workflows import names

_BATCH_WITHIN = timedelta(minutes=30)
_HEARTBEAT = timedelta(minutes=5)
_RETRIES = RetryPolicy(maximum_interval=timedelta(minutes=5), maximum_attempts=5)


@workflow.defn(name=names.ARCHIVE)
class Archive:
    """Batch after batch until nothing is left; what failed is tried again by the next one of the Schedule."""

    @workflow.run
    async def run(self, batch: ArchiveBatch) -> ArchivedBatch:
        """Return what became of all batches together."""
        total = await workflow.execute_activity(
            names.ARCHIVE_EARLY_RUNS,
            result_type=ArchivedBatch,
            start_to_close_timeout=_BATCH_WITHIN,
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=_RETRIES,
            summary="归档在办案件已结束的运行",
        )
        while True:
            done = await workflow.execute_activity(
                names.ARCHIVE_CASES,
                batch,
                result_type=ArchivedBatch,
                start_to_close_timeout=_BATCH_WITHIN,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=_RETRIES,
                summary="归档已结束的案件",
            )
            total = ArchivedBatch(
                archived=total.archived + done.archived,
                waiting=total.waiting + done.waiting,
                failed=total.failed + done.failed,
                runs=total.runs,
                renewed=total.renewed + done.renewed,
            )
            workflow.set_current_details(
                f"## 归档\n\n已归档 **{total.archived}** 件,待下次 {total.waiting} 件,"
                f"失败 {total.failed} 件,缺失后重新归档 {total.renewed} 件。"
            )
            if done.last is None:
                return total
            batch = batch.model_copy(update={"after": done.last})
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(batch)


@workflow.defn(name=names.RECONCILE)
class Reconcile:
    """One comparison."""

    @workflow.run
    async def run(self, request: ReconcileRequest) -> Reconciled:
        """Return what was found."""
        report: Reconciled = await workflow.execute_activity(
            names.RECONCILE_ACTIVITY,
            request,
            result_type=Reconciled,
            start_to_close_timeout=_BATCH_WITHIN,
            heartbeat_timeout=_HEARTBEAT,
            retry_policy=_RETRIES,
            summary="核对在办案件与办理流程",
        )
        workflow.set_current_details(
            f"## 核对\n\n在办 **{report.open_cases}** 件,差异 {report.differences} 件。"
        )
        return report

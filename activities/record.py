"""Writing the ledger."""

from temporalio import activity

from domain.errors import LedgerConflict
from domain.ports import Ledger, Recorded, RecordRequest


class RecordActivities:
    """Appends entries to the ledger; called by the case as a local activity, and as an ordinary one to catch up."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    @activity.defn(name="record")
    async def record(self, request: RecordRequest) -> Recorded:
        """Append, project and write the notices, in one transaction; idempotent on (case, sequence).

        Everything that goes wrong is retried by the workflow: the database may be away, earlier entries may be on
        their way. A conflict is retried too, so that it stays in the operators' sight and the case goes on.

        Raises:
            LedgerConflict: also when there still stands what the case has disowned, or the case does not know what
                to do with what stands.
        """
        recorded = await self._ledger.record(request.entries)
        if recorded.standing and request.disowned in {None, recorded.standing[-1].hash}:
            place = recorded.standing[0].sequence
            raise LedgerConflict(
                "ledger_conflict",
                f"台账第 {place} 条起已有不同的记录,且不是本案办理所得,请立即报告审计人员。",
            )
        return recorded

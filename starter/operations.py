"""What operators do that the Temporal UI cannot: each with a name, a reason and two lines in the journal."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy

from activities.archive import GONE, ArchiveBatch, missing_files
from activities.reconcile import ReconcileRequest, restart
from adapters.codec import missing_key
from adapters.store import Store
from adapters.upkeep import Operation
from domain import audit
from domain.case import CaseId
from domain.district import Person
from domain.errors import DomainError, Refused
from domain.lifecycle import fold
from domain.ports import Archive, Difference, Witnesses
from domain.restart import require_extends
from starter import findings
from starter.executions import TemporalExecutions
from starter.findings import Finding
from starter.identity import Directory
from starter.keys_in_use import keys_in_use, missed_by_worker, sample, unheld
from starter.routing import routing
from workflows import names

_WAITED = timedelta(minutes=1)
_MOST = 200
_MOST_LOOKED_AT = 40
_RPC = timedelta(seconds=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetOutcome:
    """How a case was set back.

    Attributes:
        mode: `history` (Temporal went back, what came after is done again) or `ledger` (the case goes on from what
            the ledger holds, for it may not be written anew).
        kept: entries from after the point that stand as they are.
        repeated: accepted acts that the ledger did not hold, handed to the relay.
    """

    mode: str
    kept: int
    repeated: int


class Operations:
    """Everything behind `shaodao ops`. Where a `district` is named, only its cases are seen and touched."""

    def __init__(
        self,
        store: Store,
        executions: TemporalExecutions,
        witnesses: Witnesses,
        client: Client,
        queue: str,
        archive: Archive | None = None,
    ) -> None:
        self._store = store
        self._witnesses = witnesses
        self._executions = executions
        self._client = client
        self._queue = queue
        self._archive = archive

    async def stuck(self, *, district: str | None, case_id: CaseId | None = None) -> list[Finding]:
        """Return what does not get on: as SQL knows it, as Temporal reports it, as the last comparison found it.

        Without a case, lists tell where to look, and no more than some dozens of cases are looked at one by one.
        """
        served = await routing(self._client, self._queue)
        found = [findings.idle(served)] if served.cause else []
        found += await self._unbound(district) if case_id is None else []
        waiting = await self._store.stuck(_now() - _WAITED, district=district, limit=_MOST)
        known = [each for each in waiting if case_id in {None, each.case_id}]
        lacking = await self._lacking(district, case_id)
        looked_at = {each.case_id for each in lacking}
        found += [
            findings.waits(each) for each in known if each.subject != GONE or each.case_id not in looked_at
        ]
        found += lacking
        differing = await self._differing(district)
        if case_id is not None:
            found += await self._looked_at(case_id, differing.get(case_id))
            return found + await self._lacking_keys(found, await self._store.open_among([case_id]), case_id)
        failing = await self._executions.listed_with_problems(district)
        for other in [each for each in failing if not each.case_id][:_MOST_LOOKED_AT]:
            troubles = await self._executions.trouble(other.workflow_id)
            found += [findings.troubled(each) for each in troubles]
        reported = {each.case_id: each for each in failing if each.case_id}
        ended = await self._store.open_among(await self._executions.listed_gone(district))
        acting = [CaseId(each.case_id) for each in waiting if each.subject == "act"]
        suspects = list(dict.fromkeys([*reported, *ended, *differing, *acting]))
        for suspect in suspects[:_MOST_LOOKED_AT]:
            found += await self._looked_at(suspect, differing.get(suspect))
        for suspect in suspects[_MOST_LOOKED_AT:]:
            if suspect in reported:
                found.append(findings.troubled(reported[suspect]))
            elif suspect in differing:
                found.append(findings.differs(differing[suspect]))
        open_ = [
            (each.district, each.case_id)
            for each in await self._store.open_cases()
            if district in {None, each.district}
        ]
        return found + await self._lacking_keys(found, sample(open_))

    async def _unbound(self, district: str | None) -> list[Finding]:
        """Look whether the districts are what was last loaded."""
        directory = Directory(self._store, tells=False)
        await directory.refresh()
        refused = directory.refused()
        return [findings.unbound(code, refused[code]) for code in sorted(refused) if district in {None, code}]

    async def _lacking_keys(
        self, found: Sequence[Finding], case_ids: Sequence[CaseId], asked_about: CaseId | None = None
    ) -> list[Finding]:
        """Return which keys of these cases are not held here or by the workers, but for those that are told already."""
        told = {missing_key(each.error) for each in found}
        used = {
            key: one for key, one in (await keys_in_use(self._client, case_ids)).items() if key not in told
        }
        here = unheld(self._client, used)
        lacking = [
            findings.lacks_key(key, one, of_worker=False, case_id=asked_about) for key, one in here.items()
        ]
        if not any(each.kind in {"workers_idle", "payload_key_missing"} for each in found):
            for key, one in used.items():
                if key not in here and await missed_by_worker(self._client, one) == key:
                    lacking.append(findings.lacks_key(key, one, of_worker=True, case_id=asked_about))
        return lacking

    async def _lacking(self, district: str | None, case_id: CaseId | None) -> list[Finding]:
        """Look whether the archive still has this case, or those that it took last; the Schedule looks at all."""
        if self._archive is None:
            return []
        newest = (
            [case_id] if case_id else await self._store.newest_marks(district=district, limit=_MOST_LOOKED_AT)
        )
        try:
            named = await self._store.registered_files_of(newest)
            looks = [missing_files(self._archive, each, files) for each, files in named.items()]
            missing = zip(named, await asyncio.gather(*looks), strict=True)
        except OSError as error:
            return [findings.archive_away(error)]
        return [findings.archive_gone(each, names) for each, names in missing if names]

    async def _differing(self, district: str | None) -> dict[CaseId, Difference]:
        """Return what the last comparison found and could not put right."""
        report = await self._store.reconciliation()
        return {
            each.case_id: each
            for each in (report.differences if report else ())
            if not each.done and district in {None, each.district}
        }

    async def _looked_at(self, case_id: CaseId, difference: Difference | None) -> list[Finding]:
        """Ask Temporal about one case; what the last comparison found is told where nothing newer is known."""
        if troubles := await self._executions.trouble(names.case_workflow_id(case_id)):
            return [findings.troubled(each) for each in troubles]
        if await self._store.open_among([case_id]) and await self._store.is_started(case_id):
            gone = await self._executions.gone(case_id)
            rewritten = difference is not None and difference.kind == "ledger_rewritten"
            # It may have ended in between; and from a ledger that is contradicted no plain reset brings it back.
            if gone is not None and not rewritten and await self._store.open_among([case_id]):
                return [findings.gone(gone)]
            if gone is None and difference is not None and difference.kind == "missing":
                return []  # it has been let go on since
        return [findings.differs(difference)] if difference else []

    async def resend(self, *, district: str | None, notice: int | None, case_id: CaseId | None) -> int:
        """Let one notice, or every notice of a case, leave once more; return how many."""
        return await self._store.resend(_now(), district=district, notice=notice, case_id=case_id)

    async def rebuild(self, *, district: str | None, case_ids: Sequence[CaseId]) -> int:
        """Project the read models again from the ledger, of some cases or of all; return the number of entries."""
        return await self._store.rebuild(case_ids or await self._store.case_ids(district))

    async def reset(
        self,
        case_id: CaseId,
        *,
        before_deploy: str | None,
        to_event: int | None,
        reason: str,
        despite_anchor: bool = False,
    ) -> ResetOutcome:
        """Set a case back, and let it go on under the workers that are current.

        The ledger is append-only. Entries that came after the point would be made again with another moment, and
        the ledger would rightly refuse them; so where there are any, the case goes on from the ledger instead: with
        the state that the present rules fold from it. Acts that were accepted and are not in the ledger are done
        again either way.

        Args:
            before_deploy: to before the first workflow task of this build.
            to_event: to before the workflow task that completed at this event, or next after it; neither: from the
                ledger.
            despite_anchor: from a ledger that is not what anchors or archive hold, or what it acknowledged to the
                last run: for somebody who has found out why, as after the database was restored from a backup.

        Raises:
            Refused: `case_over`, `no_reset_point`, or `never_started`.
            LedgerConflict: `ledger_rewritten`, `broken_chain`: nothing was done.
        """
        # Before the entries are read: a run that goes on is told of newer ones.
        known = [] if despite_anchor else await self._executions.acknowledged(case_id)
        start, entries = await self._store.start_of(case_id), await self._store.entries(case_id)
        if start is None or not entries or not await self._store.is_started(case_id):
            raise Refused("never_started", "案件的办理流程尚未启动,无可重置;恢复后自动启动。")
        if fold(entries).is_settled:  # one that is closed may still have a follow-up or an appeal to run
            raise Refused("case_over", "案件已经结束,不能重置。")
        kept = 0
        if before_deploy is not None or to_event is not None:
            point = await self._executions.reset_point(case_id, event_id=to_event, build_id=before_deploy)
            if point is None:
                raise Refused(
                    "no_reset_point",
                    "当前运行的历史中没有这样的流程任务。若新版本一个任务也未完成,回退部署即可,无需重置。",
                )
            kept = sum(entry.at >= point.at for entry in entries[1:])
            if kept == 0:
                await self._executions.reset(case_id, point, reason)
                return ResetOutcome(mode="history", kept=0, repeated=0)
        audit.check_chain(entries)  # before any harm is done
        if not despite_anchor:
            known += (await self._witnesses.known_heads([case_id])).get(case_id, ())
        require_extends(start, entries, known)
        await self._executions.terminate(case_id, reason)
        repeated = await restart(self._store, self._executions, start, _now(), known=known)
        return ResetOutcome(mode="ledger", kept=kept, repeated=repeated)

    async def reconcile(self, *, restart_many: bool) -> None:
        """Begin a comparison now."""
        await self._begin(
            names.RECONCILE, ReconcileRequest(restart_many=restart_many), "核对在办案件与办理流程"
        )

    async def archive(self, *, renew_many: bool) -> None:
        """Begin to archive now."""
        await self._begin(names.ARCHIVE, ArchiveBatch(renew_many=renew_many), "归档已结束的案件")

    async def _begin(self, workflow: str, argument: object, label: str) -> None:
        await self._client.start_workflow(
            workflow,
            argument,
            id=f"{workflow.lower()}/operator",
            task_queue=self._queue,
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            static_summary=label,
            rpc_timeout=_RPC,
        )


@asynccontextmanager
async def journaled(
    store: Store, person: Person, district: str, name: str, arguments: dict[str, Any]
) -> AsyncIterator[list[str]]:
    """Write that it begins, and how it ended; what is put into the list becomes the last line's detail."""
    operation, told = secrets.token_hex(16), list[str]()

    def line(outcome: str, detail: str = "") -> Operation:
        return Operation(
            operation=operation,
            at=_now(),
            person=person.id,
            person_name=person.name,
            district=district,
            name=name,
            arguments=arguments,
            outcome=outcome,
            detail=detail,
        )

    await store.journal(line("begun"))
    try:
        yield told
    except Exception as error:
        detail = error.code if isinstance(error, DomainError) else type(error).__name__
        await store.journal(line("failed", detail))
        raise
    await store.journal(line("done", ";".join(told)))


def _now() -> datetime:
    return datetime.now(UTC)

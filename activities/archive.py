"""Putting closed cases into the archive, and reading them back."""

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from pydantic import ValidationError
from temporalio import activity
from temporalio.api.history.v1 import History

from domain import audit
from domain.case import CaseId, Value
from domain.district import Terms
from domain.errors import ArchiveConflict, DomainError
from domain.events import Entry
from domain.ports import Archivable, Archive, ArchivedRun, Executions, Kept, Manifest, RunHistory, ToArchive


class ArchiveBatch(Value):
    """Which closed cases to look at.

    Attributes:
        after: those whose id comes after this one.
        settle: how long a case has been closed: until then its workflow may be finishing.
    """

    after: str = ""
    limit: int = 50
    settle: timedelta = timedelta(minutes=30)


class ArchivedBatch(Value):
    """What became of them.

    Attributes:
        waiting: closed in SQL, while their workflow still runs.
        runs: runs of open cases that were put away before Temporal forgets them.
        last: where the next batch begins; None when there is none.
    """

    archived: int = 0
    waiting: int = 0
    failed: int = 0
    runs: int = 0
    last: str | None = None


class ArchiveActivities:
    """Archives cases one by one: whatever goes wrong with one holds up no other, and is kept for the operators."""

    def __init__(
        self, archive: Archive, store: Archivable, executions: Executions, now: Callable[[], datetime]
    ) -> None:
        self._archive = archive
        self._store = store
        self._executions = executions
        self._now = now

    @activity.defn(name="archive_early_runs")
    async def archive_early_runs(self) -> ArchivedBatch:
        """Put away runs that ended before their case did: Temporal counts retention from the end of each run."""
        runs = failed = 0
        listed = await self._executions.listed_closed_early()
        for case_id, run_id in await self._store.unarchived_runs(listed):
            activity.heartbeat(run_id)
            try:
                runs += await self._put_run(case_id, run_id) is not None
            except Exception as error:
                await self._store.archive_failed(case_id, _told(error), self._now())
                failed += 1
        return ArchivedBatch(runs=runs, failed=failed)

    @activity.defn(name="archive_cases")
    async def archive_cases(self, batch: ArchiveBatch) -> ArchivedBatch:
        """Put away a batch of closed cases."""
        closed_before = self._now() - batch.settle
        case_ids = await self._store.closed_unarchived(closed_before, batch.after, batch.limit)
        archived = waiting = failed = 0
        for case_id in case_ids:
            activity.heartbeat(case_id)
            try:
                if await self.archive_case(case_id):
                    archived += 1
                else:
                    waiting += 1
            except Exception as error:
                await self._store.archive_failed(case_id, _told(error), self._now())
                failed += 1
        last = case_ids[-1] if len(case_ids) == batch.limit else None
        return ArchivedBatch(archived=archived, waiting=waiting, failed=failed, last=last)

    async def archive_case(self, case_id: CaseId) -> bool:
        """Write one case, read it back, mark it; return False when it is not the time."""
        case = await self._store.to_archive(case_id)
        newest = await self._executions.execution(case_id)
        if case is None or (newest is not None and newest.status == "RUNNING"):
            return False
        runs = {run.run_id: run for run in case.runs}
        for run_id in await self._executions.run_ids(case_id):
            if run_id not in runs and (run := await self._put_run(case_id, run_id)):
                runs[run_id] = run
        manifest = await self._manifest(case, sorted(runs.values(), key=lambda run: run.started_at))
        folder = version_folder(case_id, manifest.entries, manifest.head)
        content = manifest.model_dump_json(indent=1).encode()
        await self._store.case_archived(manifest, await self._put(f"{folder}/manifest.json", content))
        return True

    async def _manifest(self, case: ToArchive, runs: Sequence[ArchivedRun]) -> Manifest:
        entries, head = len(case.ledger), case.ledger[-1][1]
        check_ledger(case.ledger)
        folder = version_folder(case.case_id, entries, head)
        ledger = "".join(f"{_line(text, hash_)}\n" for text, hash_ in case.ledger)
        terms = [
            await self._put(f"terms/{digest}.json.gz", _packed(document.encode()))
            for digest, document in case.terms
        ]
        return Manifest(
            case_id=case.case_id,
            district=case.district,
            stage=case.stage,
            archived_at=self._now(),
            entries=entries,
            head=head,
            runs=tuple(runs),
            ledger=await self._put(f"{folder}/ledger.jsonl.gz", _packed(ledger.encode())),
            terms=tuple(terms),
            complete=_is_complete(runs),
        )

    async def _put_run(self, case_id: CaseId, run_id: str) -> ArchivedRun | None:
        history = await self._executions.history(case_id, run_id)
        if history is None:
            return None
        kept = await self._put(f"cases/{case_id}/runs/{run_id}.pb.gz", _packed(history.content))
        run = _archived(history, kept)
        await self._store.run_archived(case_id, run)
        return run

    async def _put(self, name: str, content: bytes) -> Kept:
        kept = await self._archive.put(name, content)
        await verified(self._archive, kept)
        return kept


def version_folder(case_id: CaseId, entries: int, head: str) -> str:
    """Return where one version of a case stands: a case that is reopened and closed again has another."""
    return f"cases/{case_id}/{entries:06d}-{head[:12]}"


async def verified(archive: Archive, kept: Kept) -> bytes:
    """Read an object and return it if it is what was written.

    Raises:
        ArchiveConflict: `archive_damaged`.
        OSError: it is not there, or the archive is away.
    """
    content = await archive.get(kept.name)
    if hashlib.sha256(content).hexdigest() != kept.sha256:
        raise ArchiveConflict(
            "archive_damaged", f"归档文件“{kept.location}”与登记的摘要不符。请立即报告审计人员。"
        )
    return content


async def read_manifest(archive: Archive, kept: Kept) -> Manifest:
    """Return what a version consists of; see `verified`."""
    content = await verified(archive, kept)
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        raise ArchiveConflict(
            "archive_damaged", f"登记的归档文件“{kept.location}”不是清单。请立即报告审计人员。"
        ) from None


async def read_ledger(archive: Archive, manifest: Manifest) -> list[tuple[str, str]]:
    """Return text and hash of each entry; see `verified`."""
    lines = gzip.decompress(await verified(archive, manifest.ledger)).decode().splitlines()
    read = [json.loads(line) for line in lines]
    return [(each["entry"], each["hash"]) for each in read]


async def read_terms(archive: Archive, manifest: Manifest) -> Terms:
    """Return the terms that the case was opened under; see `verified`."""
    return Terms.model_validate_json(gzip.decompress(await verified(archive, manifest.terms[0])))


async def read_history(archive: Archive, run: ArchivedRun) -> History:
    """Return a run's history as Temporal had it; see `verified`."""
    return History.FromString(gzip.decompress(await verified(archive, run.kept)))


async def verify(archive: Archive, kept: Kept) -> Manifest:
    """Read a whole version and return its manifest if everything is there and as it was written.

    Raises:
        ArchiveConflict: `archive_damaged`, naming what is not.
        LedgerConflict: `broken_chain`.
        OSError: something is not there, or the archive is away.
    """
    manifest = await read_manifest(archive, kept)
    ledger = await read_ledger(archive, manifest)
    check_ledger(ledger)
    if (len(ledger), ledger[-1][1]) != (manifest.entries, manifest.head):
        raise ArchiveConflict("archive_damaged", f"归档的台账与清单不符:{manifest.ledger.location}。")
    for terms in manifest.terms:
        await verified(archive, terms)
    for run in manifest.runs:
        await verify_run(archive, run)
    return manifest


async def verify_run(archive: Archive, run: ArchivedRun) -> None:
    """Read a run and say nothing if it is there and as it was written; raises as `verify` does."""
    if len((await read_history(archive, run)).events) != run.events:
        raise ArchiveConflict("archive_damaged", f"归档的运行历史与登记的不符:{run.kept.location}。")


def check_ledger(ledger: Sequence[tuple[str, str]]) -> None:
    """Say nothing if these texts and hashes are one whole chain.

    Raises:
        LedgerConflict: `broken_chain`.
    """
    audit.check_chain([Entry.model_validate({**json.loads(text), "hash": hash_}) for text, hash_ in ledger])


def _is_complete(runs: Sequence[ArchivedRun]) -> bool:
    known = {run.run_id for run in runs}
    whole = all(not run.continued_from or run.continued_from in known for run in runs)
    return whole and any(run.status == "COMPLETED" for run in runs[-1:])


def _archived(history: RunHistory, kept: Kept) -> ArchivedRun:
    return ArchivedRun.model_validate({**history.model_dump(exclude={"content"}), "kept": kept})


def _line(text: str, hash_: str) -> str:
    return json.dumps({"hash": hash_, "entry": text}, ensure_ascii=False)


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)  # the same bytes whenever it is done


def _told(error: Exception) -> str:
    return error.detail if isinstance(error, DomainError) else f"{type(error).__name__}: {error}"[:500]

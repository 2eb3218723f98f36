"""Putting closed cases into the archive, and reading them back."""

import gzip
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from pydantic import ValidationError
from temporalio import activity
from temporalio.api.history.v1 import History

from domain import audit
from domain.case import CaseId, Value
from domain.district import Terms
from domain.errors import ArchiveConflict, DomainError
from domain.events import Entry
from domain.ports import (
    Archivable,
    Archive,
    ArchivedMark,
    ArchivedRun,
    Executions,
    Kept,
    Manifest,
    RunHistory,
    ToArchive,
)

GONE = "archive_gone"
"""What begins the reason that is kept of a case that is marked as archived, and of which files are not there."""
_PAGE = 1000
_FEW = 10
_SHARE = 5


class ArchiveBatch(Value):
    """Which closed cases to look at.

    Attributes:
        after: those whose id comes after this one.
        settle: how long a case has been closed: until then its workflow may be finishing.
        renew_many: put away again what is gone however much it is. Else much at once is only reported: rather than a
            lost folder it may be a volume that is not mounted, or another bucket.
    """

    after: str = ""
    limit: int = 50
    settle: timedelta = timedelta(minutes=30)
    renew_many: bool = False


class ArchivedBatch(Value):
    """What became of them.

    Attributes:
        waiting: closed in SQL, while their workflow still runs.
        runs: runs of open cases that were put away before Temporal forgets them.
        renewed: cases that were archived, were gone, and are there again.
        last: where the next batch begins; None when there is none.
    """

    archived: int = 0
    waiting: int = 0
    failed: int = 0
    runs: int = 0
    renewed: int = 0
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
        """Put away a batch of closed cases; the first batch looks first whether all that is marked is still there."""
        renewed, lost = await self._renew(many=batch.renew_many) if not batch.after else (0, 0)
        closed_before = self._now() - batch.settle
        case_ids = await self._store.closed_unarchived(closed_before, batch.after, batch.limit)
        archived, waiting, failed = 0, 0, lost
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
        return ArchivedBatch(archived=archived, waiting=waiting, failed=failed, renewed=renewed, last=last)

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
        manifest, kept = await self._put_version(case, runs.values(), self._now())
        await self._store.case_archived(manifest, kept)
        return True

    async def _renew(self, *, many: bool) -> tuple[int, int]:
        """Put away again what the register names and the archive lacks; return how many cases, and how many not."""
        try:
            there = {*await self._archive.names("cases"), *await self._archive.names("terms")}
        except OSError:
            return 0, 0  # an archive that is away is told of by what cannot be put there
        gone, known, after = list[CaseId](), 0, ""
        while page := await self._store.registered_files(after, _PAGE):
            activity.heartbeat(after)
            # Looked at once more: it may have been put there since the list was made.
            suspects = [case_id for case_id, files in page if not there.issuperset(files)]
            gone += [case_id for case_id in suspects if await self._missing(case_id)]
            known, after = known + len(page), page[-1][0]
        held = len(gone) > max(_FEW, known // _SHARE) and not many
        lost = 0
        for case_id in gone:
            activity.heartbeat(case_id)
            try:
                await self._renew_case(case_id, held=held)
            except Exception as error:
                await self._store.archive_failed(case_id, f"{GONE}: {_told(error)}", self._now())
                lost += 1
        for case_id in set(await self._store.told_as_gone()).difference(gone):
            await self._store.archive_whole(case_id)  # somebody has put it back
        return len(gone) - lost, lost

    async def _missing(self, case_id: CaseId) -> list[str]:
        named = await self._store.registered_files_of([case_id])
        return await missing_files(self._archive, case_id, named[case_id])

    async def _renew_case(self, case_id: CaseId, *, held: bool) -> None:
        missing = await self._missing(case_id)
        what = f"归档中缺少 {'、'.join(missing[:1])} 等 {len(missing)} 个文件。"
        if held:
            raise ArchiveConflict("archive_gone", f"{what}同时缺失的案件过多,未自动重新归档。")
        runs = await self._store.archived_runs(case_id)
        for run in runs:
            if run.kept.name in missing and not await self._put_run_again(run, case_id):
                raise ArchiveConflict(
                    "archive_gone", f"{what}Temporal 已没有运行 {run.run_id} 的原样历史,未重新归档。"
                )
        if marks := await self._store.archived_marks(case_id):
            case = await self._store.to_archive(case_id)
            if case is None:
                raise ArchiveConflict("archive_gone", f"{what}案件正在办理,办结后重新归档。")
            for mark in marks:
                await self._put_version_again(case, mark, runs)
        if await self._missing(case_id):
            raise ArchiveConflict("archive_gone", f"{what}现有台账或登记与原来的不符,未能补齐。")
        await self._store.archive_whole(case_id)

    async def _put_version_again(
        self, case: ToArchive, mark: ArchivedMark, runs: Sequence[ArchivedRun]
    ) -> None:
        """Write a version as it was; where its manifest comes out otherwise, the mark names the new one."""
        ledger = case.ledger[: mark.entries]
        if not ledger or (len(ledger), ledger[-1][1]) != (mark.entries, mark.head):
            return  # the ledger has been changed since: never the archive's to put right
        then = [run for run in runs if run.closed_at <= mark.at]
        version = case.model_copy(update={"ledger": ledger})
        await self._store.case_archived(*await self._put_version(version, then, mark.at))

    async def _put_run_again(self, run: ArchivedRun, case_id: CaseId) -> bool:
        """Put a run back as it was; return False when Temporal has nothing that is the same, byte for byte."""
        history = await self._executions.history(case_id, run.run_id)
        content = _packed(history.content) if history else b""
        if hashlib.sha256(content).hexdigest() != run.kept.sha256:
            return False
        await self._put(run.kept.name, content)
        return True

    async def _put_version(
        self, case: ToArchive, runs: Collection[ArchivedRun], at: datetime
    ) -> tuple[Manifest, Kept]:
        """Write one version; a manifest that an earlier attempt left behind is taken, if it says the same."""
        manifest = await self._manifest(case, sorted(runs, key=lambda run: run.started_at), at)
        name = f"{version_folder(case.case_id, manifest.entries, manifest.head)}/manifest.json"
        try:
            return manifest, await self._put(name, _text(manifest))
        except ArchiveConflict:
            stands = _read(await self._archive.get(name))
            if stands is None or stands.model_copy(update={"archived_at": manifest.archived_at}) != manifest:
                raise
            return stands, await self._put(name, _text(stands))

    async def _manifest(self, case: ToArchive, runs: Sequence[ArchivedRun], at: datetime) -> Manifest:
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
            archived_at=at,
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


async def missing_files(archive: Archive, case_id: CaseId, named: Sequence[str]) -> list[str]:
    """Return which of these files of a case, which its register names, the archive lacks.

    Raises:
        OSError: the archive is away.
    """
    there = {*await archive.names(f"cases/{case_id}")} if named else set()
    if any(not name.startswith("cases/") for name in named):
        there |= {*await archive.names("terms")}
    return [name for name in named if name not in there]


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
    manifest = _read(await verified(archive, kept))
    if manifest is None:
        raise ArchiveConflict(
            "archive_damaged", f"登记的归档文件“{kept.location}”不是清单。请立即报告审计人员。"
        )
    return manifest


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


def _text(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()


def _read(content: bytes) -> Manifest | None:
    try:
        return Manifest.model_validate_json(content)
    except ValidationError:
        return None


def _line(text: str, hash_: str) -> str:
    return json.dumps({"hash": hash_, "entry": text}, ensure_ascii=False)


def _packed(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)  # the same bytes whenever it is done


def _told(error: Exception) -> str:
    return error.detail if isinstance(error, DomainError) else f"{type(error).__name__}: {error}"[:500]

"""Runs of a case that the archive keeps beyond Temporal's retention, each held against the digests known of it."""

import gzip
import hashlib
import zlib
from collections import defaultdict
from collections.abc import Sequence

from google.protobuf.message import DecodeError
from pydantic import ValidationError
from temporalio.api.history.v1 import History, HistoryEvent

from activities.archive import read_manifest
from adapters.evidence import EvidenceStore
from domain.case import CaseId
from domain.errors import ArchiveConflict
from domain.ports import Archive, ArchivedRun, Kept, Manifest
from domain.verify import Finding

_MANIFEST = "/manifest.json"


class KeptRuns:
    """Reads the archive's runs of one case; nothing is asked of the archive before the first run is wanted.

    What is known of a run stands in two places: in the register (SQL), written when the run was read back, and in the
    archive's own manifests. A run must have every digest that either names.

    Attributes:
        unreadable: rows of the register that say nothing, as far as it has been read.
    """

    def __init__(self, store: EvidenceStore, archive: Archive, case_id: CaseId) -> None:
        self._store = store
        self._archive = archive
        self._case_id = case_id
        self._known: dict[str, list[ArchivedRun]] | None = None
        self._there: dict[str, str] = {}
        self._gone: list[str] = []
        self.unreadable: tuple[Finding, ...] = ()

    async def run_ids(self) -> Sequence[str]:
        """Return the runs that are there, those that ended last first; unregistered ones last.

        Raises:
            ArchiveConflict: `archive_damaged`: a manifest is not what was written.
            OSError: the archive is away.
        """
        known = await self._look()
        ends = {run_id: max(each.closed_at for each in runs) for run_id, runs in known.items()}
        listed = sorted(
            (each for each in self._there if each in ends), key=lambda each: ends[each], reverse=True
        )
        return [*listed, *sorted(self._there.keys() - ends.keys())]

    async def gone(self) -> Sequence[str]:
        """Return the files that the register names, or a manifest that is there, and that are not.

        Raises:
            ArchiveConflict, OSError: see `run_ids`.
        """
        await self._look()
        return self._gone

    async def events(self, run_id: str) -> tuple[list[HistoryEvent], str]:
        """Return a run's history as Temporal had it, and what to say of it; no events when it is not there.

        Raises:
            ArchiveConflict: `archive_damaged`.
            OSError: the archive is away.
        """
        known = await self._look()
        name = self._there.get(run_id)
        if name is None:
            return [], ""
        content = await self._archive.get(name)
        digest = hashlib.sha256(content).hexdigest()
        registered = known.get(run_id, [])
        if any(each.kept.sha256 != digest for each in registered):
            raise _damaged(name)
        said = "归档,摘要相符" if registered else "归档,摘要无登记可对"
        try:
            return list(History.FromString(gzip.decompress(content)).events), said
        except (OSError, EOFError, zlib.error, DecodeError):
            raise _damaged(name) from None

    async def _look(self) -> dict[str, list[ArchivedRun]]:
        if self._known is None:
            known: dict[str, list[ArchivedRun]] = defaultdict(list)
            names = await self._archive.names(f"cases/{self._case_id}")
            self._there = {
                each.rpartition("/")[2].removesuffix(".pb.gz"): each
                for each in names
                if each.endswith(".pb.gz")
            }
            register = await self._store.register(self._case_id)
            self.unreadable = register.unreadable
            for run in register.runs:
                known[run.run_id].append(run)
            manifests = [each for each in names if each.endswith(_MANIFEST)]
            for manifest in await self._manifests(manifests, register.manifests):
                for run in manifest.runs:
                    known[run.run_id].append(run)
            promised = [*register.manifests, *(run.kept for runs in known.values() for run in runs)]
            self._gone = [name for name in dict.fromkeys(each.name for each in promised) if name not in names]
            self._known = known
        return self._known

    async def _manifests(self, names: Sequence[str], promised: Sequence[Kept]) -> list[Manifest]:
        """Return the manifests: those that are registered must have their digest, others speak for themselves."""
        registered = {each.name: each for each in promised}
        found = []
        for name in names:
            if name in registered:
                found.append(await read_manifest(self._archive, registered[name]))
                continue
            try:
                found.append(Manifest.model_validate_json(await self._archive.get(name)))
            except ValidationError:
                raise _damaged(name) from None
        return found


def _damaged(name: str) -> ArchiveConflict:
    return ArchiveConflict(
        "archive_damaged", f"归档文件“{name}”与登记的摘要不符或无法读取。请立即报告审计人员。"
    )

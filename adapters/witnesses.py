"""What is known of a case's chain outside its ledger: anchors, in the table and as published, and the archive."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from adapters.anchors import AnchorInvalid, AnchorStore, check_signatures, read_published
from adapters.archive import open_archive
from adapters.settings import Settings
from adapters.signing import PublicKey, SigningKey
from domain.anchor import StoredAnchor, digest
from domain.audit import GENESIS
from domain.case import CaseId
from domain.errors import ArchiveConflict
from domain.ports import Archive, KnownHead, Manifest


class LedgerWitnesses:
    """Implements `domain.ports.Witnesses`.

    Args:
        archive: what it holds of a case is asked for object by object, not from the database.
        key: an anchor in the table that names this key must be signed with it.
        folder: where anchors are published.
    """

    def __init__(
        self,
        store: AnchorStore,
        *,
        archive: Archive | None = None,
        key: PublicKey | None = None,
        folder: Path | None = None,
    ) -> None:
        self._store = store
        self._archive = archive
        self._keys = {key.id: key} if key else {}
        self._folder = folder

    async def known_heads(self, case_ids: Collection[CaseId]) -> Mapping[CaseId, list[KnownHead]]:
        """Return every head of these cases that an anchor or the archive holds.

        Anchors of all districts are looked at: which one a case is of says only what is to be checked.

        Raises:
            ArchiveConflict: `anchor_changed`: the anchors themselves were changed, or a published file is none.
            StoreUnavailable, OSError: database or archive are away.
        """
        stored = [await self._store.anchors(district) for district in await self._store.anchored_districts()]
        heads: dict[CaseId, list[KnownHead]] = defaultdict(list)
        for case_id, head in await asyncio.to_thread(self._anchored, stored, frozenset(case_ids)):
            heads[case_id].append(head)
        if self._archive is not None:
            for case_id in case_ids:
                heads[case_id] += [each async for each in _archived(self._archive, case_id)]
        return heads

    async def of(self, case_id: CaseId) -> list[KnownHead]:
        """Return every head of this case; see `known_heads`."""
        return (await self.known_heads([case_id])).get(case_id, [])

    def _anchored(
        self, stored: Iterable[Sequence[StoredAnchor]], case_ids: Collection[CaseId]
    ) -> list[tuple[CaseId, KnownHead]]:
        found: list[tuple[CaseId, KnownHead]] = []
        for anchors in stored:
            self._require_sound(anchors)
            found += _heads(anchors, "", case_ids)
        for anchors in self._published():
            found += _heads(anchors, "(已发布)", case_ids)
        return found

    def _require_sound(self, anchors: Sequence[StoredAnchor]) -> None:
        """Whoever rewrites a ledger may have thought of its anchors, too: they must be one chain, and signed."""
        forged = {finding.row for finding in check_signatures(anchors, self._keys) if finding.proven}
        previous = GENESIS
        for number, each in enumerate(anchors, start=1):
            follows = each.number == number and f'"previous":"{previous}"' in each.document
            if not follows or each.hash != digest(each.document) or each.row in forged:
                raise ArchiveConflict(
                    "anchor_changed",
                    f"{each.district} 的锚定记录{each.row}被改动,不能据以核对台账。请立即报告审计人员。",
                )
            previous = each.hash

    def _published(self) -> list[list[StoredAnchor]]:
        if self._folder is None:
            return []
        try:
            return list(read_published(self._folder)[0].values())
        except AnchorInvalid as invalid:
            raise ArchiveConflict("anchor_changed", invalid.detail) from None


def witnesses_of(settings: Settings, store: AnchorStore) -> LedgerWitnesses:
    """Return everything that the settings name.

    Raises:
        AuditKeyInvalid: the audit key cannot be read.
    """
    key = settings.audit_key
    return LedgerWitnesses(
        store,
        archive=open_archive(settings.archive) if settings.archive else None,
        key=SigningKey.load(key.get_secret_value()).public if key else None,
        folder=settings.anchor_dir,
    )


def _heads(
    anchors: Iterable[StoredAnchor], source: str, case_ids: Collection[CaseId]
) -> Iterator[tuple[CaseId, KnownHead]]:
    """Read no more of each document than the heads: there may be thousands of anchors, and one case to look up."""
    for each in anchors:
        for head in json.loads(each.document)["changed"]:
            if head["case_id"] in case_ids:
                label = f"{each.day} 第{each.number}号锚定{source}"
                yield (
                    CaseId(head["case_id"]),
                    KnownHead(source=label, sequence=head["sequence"], hash=head["hash"]),
                )


async def _archived(archive: Archive, case_id: CaseId) -> AsyncIterator[KnownHead]:
    for name in await archive.names(f"cases/{case_id}/"):
        if name.endswith("/manifest.json"):
            manifest = Manifest.model_validate_json(await archive.get(name))
            yield KnownHead(source=f"归档 {name}", sequence=manifest.entries, hash=manifest.head)

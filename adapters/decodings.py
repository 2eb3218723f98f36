"""The record of every decryption that the codec server did for somebody; a hash chain, see `domain.journal`."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from adapters.database import Database
from adapters.journals import append_row
from adapters.tables import DecodingRow
from domain.journal import Journal


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """One answer of the codec server.

    Attributes:
        district: of the person.
        namespace: as the asker's program named it; Temporal does not vouch for it.
        workflows: whose payloads these were.
        payloads: how many were decrypted.
        digest: SHA-256 (hex) of the encrypted payloads, so that what was looked at can be found in a history.
    """

    at: datetime
    person: str
    district: str
    namespace: str
    workflows: tuple[str, ...]
    keys: tuple[str, ...]
    payloads: int
    digest: str


class DecodingStore:
    """Appends and lists; the database refuses everything else."""

    _database: Database

    async def record_decoding(self, decoding: Decoding) -> None:
        """Append one entry, for good.

        Raises:
            StoreUnavailable: it was not written, so nothing may be decrypted.
        """
        row = {name: getattr(decoding, name) for name in Decoding.__slots__}
        for name in ("workflows", "keys"):
            row[name] = json.dumps(row[name], ensure_ascii=False)
        async with self._database.write() as connection:
            await connection.run_sync(
                lambda joined: append_row(self._database, joined, Journal.DECODINGS, row)
            )

    async def decodings(
        self, *, district: str | None, before: int | None, limit: int
    ) -> Sequence[tuple[int, Decoding]]:
        """Return entries with their numbers, newest first.

        Args:
            district: of those who looked; None for all.
            before: only entries older than this number.
        """
        query = select(DecodingRow).order_by(DecodingRow.id.desc()).limit(limit)
        if district is not None:
            query = query.where(DecodingRow.district == district)
        if before is not None:
            query = query.where(DecodingRow.id < before)
        async with self._database.read() as connection:
            found = (await connection.execute(query)).all()
        return [
            (
                row.id,
                Decoding(
                    at=row.at,
                    person=row.person,
                    district=row.district,
                    namespace=row.namespace,
                    workflows=tuple(json.loads(row.workflows)),
                    keys=tuple(json.loads(row.keys)),
                    payloads=row.payloads,
                    digest=row.digest,
                ),
            )
            for row in found
        ]

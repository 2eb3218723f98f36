"""A ledger in memory, with the refusals of the real one; and one that is away."""

from collections.abc import Sequence

from domain import audit
from domain.errors import LedgerConflict
from domain.events import Entry
from domain.ports import Recorded


class LedgerAwayError(Exception):
    """The database does not answer."""


class FakeLedger:
    """Keeps entries by case; `away` makes it unreachable."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = {}
        self.away = False
        self.calls = 0

    async def record(self, entries: Sequence[Entry]) -> Recorded:
        """Append what is new; see `domain.ports.Ledger`."""
        self.calls += 1
        if self.away:
            raise LedgerAwayError
        held = self.entries.setdefault(entries[0].case_id, [])
        for entry in entries:
            if entry.sequence <= len(held):
                if held[entry.sequence - 1].hash != entry.hash:
                    return self._standing(held, entry)
            elif entry.sequence == len(held) + 1:
                held.append(entry)
            else:
                raise LedgerConflict("ledger_gap", "台账缺少此前的记录。")
        return Recorded(sequence=held[-1].sequence, hash=held[-1].hash)

    @staticmethod
    def _standing(held: Sequence[Entry], ours: Entry) -> Recorded:
        standing = tuple(held[ours.sequence - 1 :])
        try:
            audit.check_chain(standing, first=ours.sequence, previous=ours.previous)
        except LedgerConflict:
            raise LedgerConflict("ledger_conflict", "台账该位置已有不同的记录。") from None
        return Recorded(sequence=held[-1].sequence, hash=held[-1].hash, standing=standing)

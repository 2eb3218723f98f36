"""A worker that is killed right after the ledger has committed and before Temporal has heard of it.

`python -m tests.acceptance.dying_worker ADDRESS DATABASE_URL WRITES`: dies in the moment after that many writes of
new entries; 0 for never.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from adapters.store import Store
from domain.events import Entry
from domain.ports import Recorded
from worker import create_worker


class Dying:
    """The real ledger, with a power cut."""

    def __init__(self, store: Store, writes: int) -> None:
        self._store = store
        self._left = writes

    async def record(self, entries: Sequence[Entry]) -> Recorded:
        """Write, and die."""
        recorded = await self._store.record(entries)
        if entries[-1].sequence > 1 and not recorded.standing:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return recorded


async def main(address: str, database_url: str, writes: int) -> None:
    """Work until killed."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    store = Store(database_url)
    async with create_worker(client, Dying(store, writes), store):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

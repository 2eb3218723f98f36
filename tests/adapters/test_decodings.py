"""Who looked at payloads is written down for good, on both databases."""

from datetime import UTC, datetime

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from adapters.database import synchronous
from adapters.decodings import Decoding
from adapters.store import Store


def decoding(person: str, district: str = "sample") -> Decoding:
    return Decoding(
        at=datetime(2026, 3, 4, 1, 2, 3, tzinfo=UTC),
        person=person,
        district=district,
        namespace="default",
        workflows=("case/sample-20260304-aaaaaa",),
        keys=("k1", "k2"),
        payloads=3,
        digest="0" * 64,
    )


async def test_entries_come_back_newest_first_by_pages_and_by_district(store: Store) -> None:
    for person, district in (("a", "sample"), ("b", "other"), ("c", "sample")):
        await store.record_decoding(decoding(person, district))
    everything = await store.decodings(district=None, before=None, limit=10)
    assert [each.person for _, each in everything] == ["c", "b", "a"]
    assert everything[0][1] == decoding("c")
    first = await store.decodings(district="sample", before=None, limit=1)
    second = await store.decodings(district="sample", before=first[0][0], limit=1)
    assert [each.person for _, each in (*first, *second)] == ["c", "a"]


@pytest.mark.parametrize("change", ["UPDATE decodings SET person = 'nobody'", "DELETE FROM decodings"])
async def test_the_database_refuses_to_change_or_forget_an_entry(
    store: Store, database_url: str, change: str
) -> None:
    await store.record_decoding(decoding("a"))
    engine = create_engine(synchronous(database_url))
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()
    assert len(await store.decodings(district=None, before=None, limit=10)) == 1

"""A journal's chain names what was done to it, link by link; what a link's hash is taken over never changes."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.audit import GENESIS
from domain.journal import Journal, JournalCheck, JournalHead, Link, content_digest, link

AT = datetime(2026, 3, 4, 1, 2, 3, tzinfo=UTC)


def chain(*moments: datetime) -> list[Link]:
    links: list[Link] = []
    for number, at in enumerate(moments, start=1):
        after = (
            JournalHead(journal=Journal.OPERATIONS, sequence=number - 1, hash=links[-1].hash)
            if links
            else None
        )
        content = content_digest({"number": number})
        links.append(link(Journal.OPERATIONS, "sample", key=str(number), at=at, content=content, after=after))
    return links


def found(links: list[Link], *, gone: int = 0, changed: int = 0) -> list[tuple[str, str]]:
    check = JournalCheck(Journal.OPERATIONS)
    for each in links:
        number = int(each.key)
        stands = content_digest({"number": -1 if number == changed else number})
        check.take(each, None if number == gone else stands)
    return [(each.code, each.row) for each in check.findings]


FIVE = [AT + timedelta(hours=number) for number in range(5)]


def test_a_chain_that_nobody_touched_is_well_and_begins_with_nothing_before_it() -> None:
    links = chain(*FIVE)
    assert found(links) == []
    assert [each.sequence for each in links] == [1, 2, 3, 4, 5]
    assert [each.previous for each in links] == [GENESIS, *(each.hash for each in links[:-1])]


def test_the_hash_of_a_link_and_the_digest_of_a_row_are_what_they_were() -> None:
    """Ledgers hold these for ever: another value here would break every chain that stands."""
    content = content_digest({"at": AT.astimezone(UTC), "who": "甲", "count": 3})
    assert content == "cf6953c06914c93632e5edcc9f0079723f388a7e1f953b7f5ff4571cf591d857"
    made = link(Journal.INTAKE, "sample", key="sample-20260304-aaaaaa", at=AT, content=content, after=None)
    assert made.hash == "f2a76fa98726a60ec01de2036b08d2f8ab1dbef73e982cfed048da1420328914"


def test_each_thing_done_to_a_chain_is_named_where_it_was_done() -> None:
    links = chain(*FIVE)
    assert found(links, gone=2) == [("row_missing", "第2条(2)")]
    assert found(links, changed=4) == [("row_changed", "第4条(4)")]
    assert found([*links[:2], *links[3:]]) == [("link_missing", "operations 第3条")]
    assert found(links[1:]) == [("link_missing", "operations 第1条")]
    twice = [*links[:2], links[1], *links[2:]]
    assert found(twice) == [("link_out_of_order", "operations 第2条")]
    forged = links[1].model_copy(update={"at": AT})
    assert found([links[0], forged, *links[2:]]) == [("link_changed", "operations 第2条")]
    whole = forged.model_copy(update={"hash": forged.right_hash()})
    assert found([links[0], whole, *links[2:]]) == [("broken_link", "operations 第2条")]
    beginning = links[0].model_copy(update={"previous": "1" * 64})
    beginning = beginning.model_copy(update={"hash": beginning.right_hash()})
    assert ("broken_link", "operations 第1条") in found([beginning, *links[1:]])


@pytest.mark.parametrize(
    ("earlier", "codes"), [(timedelta(minutes=10), []), (timedelta(minutes=11), ["time_goes_back"])]
)
def test_a_moment_before_the_last_is_backdated_unless_clocks_may_differ_by_so_much(
    earlier: timedelta, codes: list[str]
) -> None:
    assert [code for code, _ in found(chain(AT, AT - earlier))] == codes


def test_a_forged_number_does_not_fill_the_memory() -> None:
    links = chain(*FIVE)
    far = links[4].model_copy(update={"sequence": 10**9})
    assert len(found([*links[:4], far])) < 1100


def test_a_row_without_a_link_is_named_by_its_key() -> None:
    check = JournalCheck(Journal.DECODINGS)
    check.added("99")
    assert [(each.code, each.table, each.row) for each in check.findings] == [
        ("row_added", "decodings", "99")
    ]

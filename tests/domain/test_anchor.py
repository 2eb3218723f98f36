"""The tree is the one of RFC 6962, and a chain that changes after it was anchored is named."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import anchor
from domain.anchor import Anchor, Head, StoredAnchor, inclusion_proof, is_included, leaf_hash, root_of
from domain.case import CaseId
from domain.journal import Journal, JournalHead

AT = datetime(2026, 3, 4, tzinfo=UTC)
LEAVES = st.lists(st.binary(max_size=8).map(leaf_hash), min_size=1, max_size=70)


def by_definition(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word: split at the largest power of two below the number of leaves."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << ((len(leaves) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + by_definition(leaves[:split]) + by_definition(leaves[split:])).digest()


@given(LEAVES)
def test_the_root_is_that_of_rfc_6962(leaves: list[bytes]) -> None:
    assert root_of(leaves) == by_definition(leaves)


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert root_of([]) == hashlib.sha256(b"").digest()


def test_the_known_root_of_one_empty_leaf() -> None:
    """The test vector of RFC 6962 implementations: SHA-256 of one zero byte."""
    known = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root_of([leaf_hash(b"")]).hex() == known


@given(LEAVES, st.data())
def test_every_leaf_is_proven_at_its_place_and_at_no_other(leaves: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(leaves) - 1))
    proof, root = inclusion_proof(leaves, place), root_of(leaves)
    assert is_included(leaves[place], place, len(leaves), proof, root)
    other = data.draw(st.integers(-1, len(leaves)))
    if not 0 <= other < len(leaves) or leaves[other] != leaves[place]:
        assert not is_included(leaves[place], other, len(leaves), proof, root) or other == place
    assert not is_included(leaf_hash(b"forged leaf"), place, len(leaves), proof, root)
    assert not is_included(leaves[place], place, len(leaves), [*proof, root], root)
    if proof:
        assert not is_included(leaves[place], place, len(leaves), proof[1:], root)


@given(LEAVES, st.data())
def test_a_changed_or_missing_leaf_changes_the_root(leaves: list[bytes], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(leaves) - 1))
    changed = [*leaves[:place], leaf_hash(b"forged leaf"), *leaves[place + 1 :]]
    assert root_of(changed) != root_of(leaves)
    assert root_of(leaves[:place] + leaves[place + 1 :]) != root_of(leaves)


@given(st.lists(st.dictionaries(st.text("abc", max_size=4), st.binary(max_size=2), max_size=12), max_size=8))
def test_a_tree_that_grows_always_has_the_root_over_all_its_leaves(steps: list[dict[str, bytes]]) -> None:
    tree, known = anchor.GrowingTree(), dict[CaseId, bytes]()
    assert tree.root == root_of([])
    for step in steps:
        leaves = {CaseId(case_id): leaf_hash(content) for case_id, content in step.items()}
        tree.put(leaves)
        known |= leaves
        assert len(tree) == len(known)
        assert tree.root == root_of([known[case_id] for case_id in sorted(known)])


def test_a_node_cannot_pass_for_a_leaf() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != root_of([left, right])


def test_a_proof_of_no_leaf_is_refused() -> None:
    with pytest.raises(IndexError):
        inclusion_proof([leaf_hash(b"a")], 1)


def head(case: str, sequence: int) -> Head:
    return Head(case_id=CaseId(case), sequence=sequence, hash=f"{case}-{sequence}")


def days(*heads: list[Head]) -> list[Anchor]:
    """Return the anchors of as many days, each with the heads of that day."""
    made: list[Anchor] = []
    for number, each in enumerate(heads, start=1):
        made.append(following(made, each, day=number))
    return made


def following(
    before: list[Anchor], heads: list[Head], *, day: int, journals: Sequence[JournalHead] = ()
) -> Anchor:
    made = anchor.make("sample", heads, before, day=date(2026, 3, day), at=AT, key_id="k", journals=journals)
    assert made is not None
    return made


def stored(each: Anchor) -> StoredAnchor:
    return StoredAnchor(
        district=each.district,
        number=each.number,
        day=each.day,
        document=each.text(),
        hash=anchor.digest(each.text()),
        signature="",
        key_id=each.key_id,
    )


THREE = [[head("a", 1)], [head("a", 3), head("b", 1)], [head("a", 3), head("b", 2), head("c", 1)]]


def test_an_anchor_holds_only_what_changed_and_its_root_is_over_all() -> None:
    made = days(*THREE)
    assert [[each.case_id for each in one.changed] for one in made] == [["a"], ["a", "b"], ["b", "c"]]
    assert [one.chains for one in made] == [1, 2, 3]
    everything = {each.case_id: each for each in THREE[-1]}
    assert made[-1].root == anchor.root_over(everything).hex()
    assert not anchor.read_anchors([stored(each) for each in made]).findings


def test_a_case_that_vanished_stays_in_the_tree_of_later_days() -> None:
    made = days([head("a", 1), head("b", 1)], [head("b", 2)])
    assert made[-1].chains == 2
    assert set(anchor.heads_of(made)) == {"a", "b"}


@pytest.mark.parametrize(
    ("ledger", "code"),
    [
        ({"b": {1: "b-1", 2: "b-2"}, "c": {1: "c-1"}}, "case_deleted"),
        ({"a": {1: "a-1"}, "b": {1: "b-1", 2: "b-2"}, "c": {1: "c-1"}}, "chain_cut"),
        ({"a": {1: "a-1", 3: "x"}, "b": {1: "b-1", 2: "b-2"}, "c": {1: "c-1"}}, "chain_rewritten"),
        ({"a": {1: "x", 3: "a-3"}, "b": {1: "b-1", 2: "b-2"}, "c": {1: "c-1"}}, "chain_rewritten"),
    ],
)
def test_a_case_that_is_not_what_was_anchored_is_named_once(
    ledger: dict[str, dict[int, str]], code: str
) -> None:
    (finding,) = anchor.compare_with_ledger(days(*THREE), ledger)
    assert finding.code == code
    assert "案件 a" in finding.place
    assert anchor.compare_with_ledger(days(*THREE), ledger, cases={"b", "c"}) == []
    assert anchor.compare_with_ledger(days(*THREE), ledger, cases={"a"}) == [finding]


def test_a_ledger_that_has_grown_since_is_well() -> None:
    ledger = {
        "a": {1: "a-1", 2: "a-2", 3: "a-3", 4: "a-4"},
        "b": {1: "b-1", 2: "b-2"},
        "c": {1: "c-1"},
        "d": {1: "d-1"},
    }
    assert anchor.compare_with_ledger(days(*THREE), ledger) == []


def test_every_tampering_with_the_anchors_themselves_is_named() -> None:
    good = [stored(each) for each in days(*THREE)]
    without = good[:1] + good[2:]
    swapped = [good[1], good[0], good[2]]
    forged = stored(days(*THREE)[1].model_copy(update={"changed": ()}))
    for tampered, row in (
        (without, "第3号"),
        (swapped, "第2号"),
        ([good[0], forged, good[2]], "第2号"),
        ([good[0], replace(good[1], hash="0" * 64), good[2]], "第2号"),
        ([good[0], replace(good[1], day=date(2026, 3, 9)), good[2]], "第2号"),
        ([good[0], replace(good[1], document="{"), good[2]], "第2号"),
    ):
        found = anchor.read_anchors(tampered).findings
        assert found
        assert found[0].row.startswith(row)


# --- several a day, and the journals -------------------------------------------------------------------------


def test_a_day_has_one_anchor_at_least_and_another_whenever_something_has_moved() -> None:
    first = following([], [], day=1)
    assert (first.number, first.chains, first.changed) == (1, 0, ())
    unmoved = anchor.make("sample", [], [first], day=first.day, at=AT, key_id="k")
    assert unmoved is None
    moved = following([first], [head("a", 1)], day=1)
    assert (moved.number, moved.day, moved.previous) == (2, first.day, anchor.digest(first.text()))
    taken = [JournalHead(journal=Journal.INTAKE, sequence=1, hash="x")]
    journaled = following([first, moved], [head("a", 1)], day=1, journals=taken)
    assert (journaled.number, journaled.changed, journaled.journals) == (3, (), tuple(taken))
    again = anchor.make(
        "sample", [head("a", 1)], [first, moved, journaled], day=first.day, at=AT, key_id="k", journals=taken
    )
    assert again is None
    next_day = following([first, moved, journaled], [head("a", 1)], day=2, journals=taken)
    assert (next_day.number, next_day.changed) == (4, ())
    chain = [first, moved, journaled, next_day]
    assert not anchor.read_anchors([stored(each) for each in chain]).findings


def test_an_anchor_from_before_there_were_journals_keeps_its_text() -> None:
    text = (
        '{"at":"2026-03-04T00:00:00Z","chains":0,"changed":[],"day":"2026-03-04","district":"sample",'
        '"format":"shaodao-anchor-1","key_id":"k","number":1,"previous":"'
        + "0" * 64
        + '","root":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}'
    )
    old = Anchor.model_validate_json(text)
    assert old.text() == text
    newer = following([old], [head("a", 1)], day=5)
    assert newer.format == "shaodao-anchor-2"
    assert not anchor.read_anchors([stored(old), stored(newer)]).findings


def test_a_journal_that_is_not_what_was_anchored_is_named_once_with_the_links_in_question() -> None:
    def reached(*places: tuple[Journal, int]) -> list[JournalHead]:
        return [JournalHead(journal=name, sequence=place, hash=f"{name}-{place}") for name, place in places]

    made: list[Anchor] = []
    for day, journals in enumerate(
        (
            reached((Journal.INTAKE, 3)),
            reached((Journal.INTAKE, 7), (Journal.OPERATIONS, 2)),
            reached((Journal.INTAKE, 9), (Journal.OPERATIONS, 2)),
        ),
        start=1,
    ):
        made.append(following(made, [], day=day, journals=journals))
    intake = {place: f"intake-{place}" for place in range(1, 12)}
    operations = {place: f"operations-{place}" for place in range(1, 4)}
    good = {Journal.INTAKE: intake, Journal.OPERATIONS: operations}
    assert anchor.compare_with_journals(made, good) == []
    rewritten = {**intake, **dict.fromkeys(range(5, 12), "forged")}
    (finding,) = anchor.compare_with_journals(made, {**good, Journal.INTAKE: rewritten})
    assert (finding.code, finding.row) == ("journal_rewritten", "intake 第4至7条")
    cut = {place: intake[place] for place in range(1, 9)}
    (finding,) = anchor.compare_with_journals(made, {**good, Journal.INTAKE: cut})
    assert (finding.code, finding.row) == ("journal_cut", "intake 第9条")
    assert finding.detail.endswith("第9条已被删除。第8条仍在,但它们的锚定随之失去对照,是否原样无法证明。")
    (finding,) = anchor.compare_with_journals(made, {Journal.INTAKE: intake})
    assert (finding.code, finding.row) == ("journal_cut", "operations 第1至2条")


@pytest.mark.parametrize(
    ("copy", "column"),
    [
        ({"number": 4}, "number"),
        ({"number": 9}, "number"),
        ({}, "number"),
        ({"district": "other"}, "district"),
    ],
)
def test_a_copied_anchor_is_named_once_and_neither_is_what_stands_beside_it(
    copy: dict[str, object], column: str
) -> None:
    made = [stored(each) for each in days(*THREE)]
    copied = replace(made[1], **copy)  # type: ignore[arg-type]
    rows = [copied] if copy.get("district") else sorted([*made, copied], key=lambda each: each.number)
    (found,) = anchor.read_anchors(rows).findings
    assert (found.code, found.row, found.field) == ("anchor_differs", copied.row, column)
    assert "复制" in found.detail
    assert len(anchor.read_anchors(rows).anchors) == len(rows) - 1


def test_anchors_that_were_made_after_a_copy_are_not_blamed_for_it() -> None:
    first, second, _ = days(*THREE)
    copied = replace(stored(second), number=3)
    after = following([first, second, second], [head("c", 1)], day=5)
    assert after.number == 4
    rows = [stored(first), stored(second), copied, stored(after)]
    assert [each.row for each in anchor.read_anchors(rows).findings] == [copied.row]

"""Anchors: one root over all chains of a district, again and again, so that a whole case that goes missing is noticed.

The tree is that of RFC 6962 §2.1 over SHA-256: leaves and nodes are hashed with different prefixes, so that neither
can pass for the other. A leaf is the head of one case's chain. An anchor holds the heads that changed since the one
before and binds it by its hash; the heads of all earlier anchors stay, so that a case can never leave the tree. Beside
the tree it names the heads of the district's journals (`domain.journal`): calls taken, operations, decryptions.
"""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from domain.audit import GENESIS
from domain.calendar import Moment
from domain.case import CaseId, Value
from domain.journal import Journal, JournalHead, compare_heads
from domain.verify import Check, Finding

Format = Literal["shaodao-anchor-1", "shaodao-anchor-2"]
_FIRST: Format = "shaodao-anchor-1"
"""Anchors from before there were journals; their texts stay as they were signed."""
FORMAT: Format = "shaodao-anchor-2"


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root over these leaf hashes; of none, the hash of nothing."""
    if not leaves:
        return hashlib.sha256().digest()
    level = list(leaves)
    while len(level) > 1:  # pairing from the left and lifting an odd last one gives the tree of RFC 6962
        paired = [node_hash(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
        level = [*paired, level[-1]] if len(level) % 2 else paired
    return level[0]


def inclusion_proof(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """Return the hashes that lead from the leaf at this place to the root, lowest first.

    Raises:
        IndexError: there is no such leaf.
    """
    if not 0 <= place < len(leaves):
        raise IndexError(place)
    proof, level = [], list(leaves)
    while len(level) > 1:
        sibling = place ^ 1
        if sibling < len(level):
            proof.append(level[sibling])
        paired = [node_hash(level[each], level[each + 1]) for each in range(0, len(level) - 1, 2)]
        level = [*paired, level[-1]] if len(level) % 2 else paired
        place //= 2
    return proof


def is_included(leaf: bytes, place: int, count: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the leaf hash stands at this place of a tree of so many leaves with this root."""
    if not 0 <= place < count:
        return False
    last, left = count - 1, list(proof)
    while last:
        if place % 2 or place < last:
            if not left:
                return False
            sibling = left.pop(0)
            leaf = node_hash(sibling, leaf) if place % 2 else node_hash(leaf, sibling)
        place, last = place // 2, last // 2
    return not left and leaf == root


class GrowingTree:
    """The tree over leaves in the order of their case ids, kept while it grows.

    New cases come last or nearly so, since ids begin with district and day: only the right edge is hashed anew, and
    the way up from each leaf that has changed. A year of hourly anchors is checked so, root by root.
    """

    def __init__(self) -> None:
        self._order: list[CaseId] = []
        self._levels: list[list[bytes]] = [[]]

    def __len__(self) -> int:
        """Return the number of leaves."""
        return len(self._order)

    @property
    def root(self) -> bytes:
        """Return the root; see `root_of`."""
        return self._levels[-1][0] if self._order else root_of(())

    def put(self, leaves: Mapping[CaseId, bytes]) -> None:
        """Take leaf hashes: new ones, and others for those that are there."""
        places = {case_id: bisect_left(self._order, case_id) for case_id in leaves}
        new = {
            case_id
            for case_id, place in places.items()
            if place == len(self._order) or self._order[place] != case_id
        }
        first = min((places[case_id] for case_id in new), default=len(self._order))
        moved = dict(zip(self._order[first:], self._levels[0][first:], strict=True))
        moved |= {case_id: leaf for case_id, leaf in leaves.items() if places[case_id] >= first}
        self._order[first:] = sorted(moved)
        self._levels[0][first:] = [moved[case_id] for case_id in self._order[first:]]
        changed = {place for case_id, place in places.items() if place < first}
        for case_id in leaves:
            if places[case_id] < first:
                self._levels[0][places[case_id]] = leaves[case_id]
        self._climb(first, changed)

    def _climb(self, first: int, changed: set[int]) -> None:
        """Hash every level above anew: from this place on, and over these places."""
        depth = 0
        while len(self._levels[depth]) > 1:
            level, depth = self._levels[depth], depth + 1
            if depth == len(self._levels):
                self._levels.append([])
            above, first, changed = self._levels[depth], first // 2, {place // 2 for place in changed}
            del above[first:]
            above += [self._above(level, place) for place in range(first, (len(level) + 1) // 2)]
            for place in changed:
                above[place] = self._above(level, place)
        del self._levels[depth + 1 :]

    @staticmethod
    def _above(level: Sequence[bytes], place: int) -> bytes:
        pair = level[2 * place : 2 * place + 2]
        return node_hash(*pair) if len(pair) == 2 else pair[0]


class Head(Value):
    """How far one case's chain reached: the sequence number and hash of its newest entry."""

    case_id: CaseId
    sequence: int
    hash: str

    def leaf(self) -> bytes:
        """Return the leaf's hash."""
        return leaf_hash(_canonical([self.case_id, self.sequence, self.hash]).encode())


class Anchor(Value):
    """What is signed and published.

    Attributes:
        number: 1 for a district's first, then without gaps.
        day: the local day that it was made on; a day's first is its daily anchor, any number may follow.
        chains: how many cases the tree holds.
        root: in lower-case hexadecimal, over all heads in the order of case ids.
        changed: the heads that are new or have moved since the anchor before.
        previous: hash of the anchor before; 64 zeros for the first.
        key_id: of the key that signed it.
        journals: the heads of all journals of the district that have any link.
    """

    format: Format = FORMAT
    district: str
    number: int
    day: date
    at: Moment
    chains: int
    root: str
    changed: tuple[Head, ...]
    previous: str
    key_id: str
    journals: tuple[JournalHead, ...] = ()

    @property
    def label(self) -> str:
        """Which anchor it is, for people."""
        return f"{self.day} 第{self.number}号锚定"

    def text(self) -> str:
        """Return the one JSON text that is hashed and signed."""
        unknown = {"journals"} if self.format == _FIRST else set()
        return _canonical(self.model_dump(mode="json", exclude=unknown))


def _canonical(content: object) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnchor:
    """An anchor as it stands, in the table or in a published file.

    Attributes:
        hash: SHA-256 of the text, in lower-case hexadecimal.
        signature: over the text, in lower-case hexadecimal.
        unreadable: what stands in columns where it is none of the column's type; number and day are then what the
            document says, or 0 and the first day that there is.
    """

    district: str
    number: int
    day: date
    document: str
    hash: str
    signature: str
    key_id: str
    unreadable: Mapping[str, str] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """Which anchor it is, in findings."""
        number, day = (self.unreadable.get(name, getattr(self, name)) for name in ("number", "day"))
        return f"第{str(number)[:_SHOWN]}号({str(day)[:_SHOWN]})"


_SHOWN = 60


def make(
    district: str,
    heads: Iterable[Head],
    before: Sequence[Anchor],
    *,
    day: date,
    at: Moment,
    key_id: str,
    journals: Iterable[JournalHead] = (),
) -> Anchor | None:
    """Return the next anchor over these heads; None when the day has one and nothing has moved since the newest.

    So a day has at least one, and asking again does no harm.

    Args:
        before: all anchors of the district so far, in order.
    """
    known = heads_of(before)
    changed = tuple(
        head for head in sorted(heads, key=lambda each: each.case_id) if known.get(head.case_id) != head
    )
    reached = tuple(sorted(journals, key=lambda each: each.journal))
    if before and before[-1].day >= day and not changed and before[-1].journals == reached:
        return None
    known |= {head.case_id: head for head in changed}
    return Anchor(
        district=district,
        number=len(before) + 1,
        day=day,
        at=at,
        chains=len(known),
        root=root_over(known).hex(),
        changed=changed,
        previous=digest(before[-1].text()) if before else GENESIS,
        key_id=key_id,
        journals=reached,
    )


def digest(text: str) -> str:
    """Return the hash by which an anchor is bound into the next."""
    return hashlib.sha256(text.encode()).hexdigest()


def heads_of(anchors: Iterable[Anchor]) -> dict[CaseId, Head]:
    """Return every case's head as of the last of these anchors."""
    return {head.case_id: head for anchor in anchors for head in anchor.changed}


def root_over(heads: Mapping[CaseId, Head]) -> bytes:
    """Return the root over these heads, in the order of case ids."""
    return root_of([heads[case_id].leaf() for case_id in sorted(heads)])


# --- checking ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class AnchorChain:
    """The anchors of one district, read, and what is wrong with them."""

    anchors: list[Anchor] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def _found(code: str, table: str, row: str, column: str, detail: str, *, proven: bool = True) -> Finding:
    return Finding(
        check=Check.ANCHORS, code=code, table=table, row=row, field=column, detail=detail, proven=proven
    )


def read_anchors(stored: Sequence[StoredAnchor], *, table: str = "anchors") -> AnchorChain:
    """Read a district's anchors in order and check that they are one whole chain with the roots they name.

    A copy of an anchor is named as one, and is no part of the chain: what does not fit because of it is not named again.
    """
    chain = AnchorChain()
    tree = GrowingTree()
    previous = GENESIS
    copies = _copies(stored)
    for number, each in enumerate(stored, start=1):
        row = each.row
        if number in copies:
            chain.findings.append(_found("anchor_differs", table, row, *copies[number]))
            continue
        chain.findings += [
            _found("unreadable", table, row, column, f"此值无法读取:“{stands[:_SHOWN]}”。")
            for column, stands in each.unreadable.items()
        ]
        try:
            anchor = Anchor.model_validate_json(each.document)
        except ValueError:
            chain.findings.append(_found("anchor_unreadable", table, row, "document", "锚定原文无法读取。"))
            previous = each.hash
            continue
        tree.put({head.case_id: head.leaf() for head in anchor.changed})
        chain.findings += _anchor(anchor, each, _places(number, copies), previous, tree, table, row)
        chain.anchors.append(anchor)
        previous = each.hash
    return chain


def _copies(stored: Sequence[StoredAnchor]) -> dict[int, tuple[str, str]]:
    """Return the rows, counted from 1, that are whole anchors from elsewhere: the column that shows it, and in Chinese
    of which anchor it is a copy.
    """
    whole: list[tuple[int, StoredAnchor, _Said]] = []
    for place, each in enumerate(stored, start=1):
        try:
            said = _Said.model_validate_json(each.document)
        except ValueError:
            continue
        if each.hash == digest(each.document):
            whole.append((place, each, said))
    at_home = {
        each.hash for _, each, said in whole if (said.district, said.number) == (each.district, each.number)
    }
    copies, seen = dict[int, tuple[str, str]](), set[str]()
    for place, each, said in whole:
        if said.district != each.district:
            copies[place] = "district", f"与区(市)“{said.district}”第{said.number}号锚定相同:被复制到此。"
        elif (said.number != each.number and each.hash in at_home) or each.hash in seen:
            copies[place] = "number", f"与第{said.number}号锚定相同:同一锚定被复制。"
        else:
            seen.add(each.hash)
    return copies


class _Said(Value):
    """Whose anchor a document is."""

    district: str
    number: int


def _places(place: int, copies: Container[int]) -> range:
    """Return the numbers that an anchor in this place may have: one that was made after a copy counted that, too."""
    before = sum(each in copies for each in range(1, place))
    return range(place - before, place + 1)


def _anchor(
    anchor: Anchor,
    stored: StoredAnchor,
    places: range,
    previous: str,
    tree: GrowingTree,
    table: str,
    row: str,
) -> Iterator[Finding]:
    checks = {
        "number": anchor.number == stored.number and anchor.number in places,
        "district": anchor.district == stored.district,
        "day": anchor.day == stored.day,
        "key_id": anchor.key_id == stored.key_id,
        "document": anchor.text() == stored.document,
        "hash": stored.hash == digest(stored.document),
        "previous": anchor.previous == previous,
        "chains": anchor.chains == len(tree),
        "root": anchor.root == tree.root.hex(),
    }
    for column, good in checks.items():
        if not good and column not in stored.unreadable:
            yield _found("anchor_differs", table, row, column, "锚定记录被改动、删除、插入或调换。")


def compare_with_ledger(
    anchors: Iterable[Anchor],
    ledger: Mapping[str, Mapping[int, str]],
    *,
    table: str = "ledger",
    cases: Container[str] | None = None,
) -> list[Finding]:
    """Hold the present ledger against every head that was ever anchored; each case is named once.

    Args:
        ledger: hashes by case and sequence number, as they stand now.
        cases: which cases to look at; None for all.
    """
    findings: dict[str, Finding] = {}
    for anchor in anchors:
        when = anchor.label
        for head in anchor.changed:
            if cases is not None and head.case_id not in cases:
                continue
            held = ledger.get(head.case_id, {})
            stands = held.get(head.sequence)
            if stands == head.hash or head.case_id in findings:
                continue
            if not held:
                code, row, detail = "case_deleted", "", f"整案被删除:{when}时有 {head.sequence} 条记录。"
            elif stands is None:
                code, row = "chain_cut", f"第{head.sequence}条"
                detail = f"台账被截短:{when}时有 {head.sequence} 条,现有 {len(held)} 条。"
            else:
                code, row = "chain_rewritten", f"第{head.sequence}条"
                detail = f"台账在{when}之后被改写。"
            findings[head.case_id] = _found(code, table, f"案件 {head.case_id} {row}".strip(), "", detail)
    return list(findings.values())


def compare_with_journals(
    anchors: Iterable[Anchor],
    hashes: Mapping[Journal, Mapping[int, str]],
    *,
    check: Check = Check.ANCHORS,
) -> list[Finding]:
    """Hold the present journals against every head that was ever anchored; each journal is named once.

    Args:
        hashes: of the links as they stand, by journal and number.
    """
    heads = ((anchor.label, head) for anchor in anchors for head in anchor.journals)
    return list(compare_heads(heads, hashes, check=check))

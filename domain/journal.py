"""Journals beside the ledger, each a hash chain of a district: calls taken, what operators did, who had payloads decrypted.

A *link* stands for one row of a journal's own table. It binds the digest of that row and the link before, and its
number has no gap: a row cannot be changed, go, come or move, and a call that is taken out with everything that belongs
to it leaves its number behind. The newest links are bound by the next anchor (`domain.anchor`).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from domain.audit import GENESIS, digest
from domain.calendar import Moment
from domain.case import Value
from domain.verify import Check, Finding


class Journal(StrEnum):
    """A journal, by the name of the table that its rows stand in."""

    INTAKE = "intake"
    OPERATIONS = "operations"
    DECODINGS = "decodings"


CHECK_OF = {
    Journal.INTAKE: Check.INTAKE,
    Journal.OPERATIONS: Check.OPERATIONS,
    Journal.DECODINGS: Check.DECODINGS,
}
LABELS = {Journal.INTAKE: "受理", Journal.OPERATIONS: "运维日志", Journal.DECODINGS: "解密记录"}
LINKS = "journals"
"""The table of the links."""

_SKEW = timedelta(minutes=10)
"""How much earlier than the link before one may be: machines' clocks differ, and requests overtake one another."""
_MOST_NAMED = 1000
"""How many missing links are named one by one at most: a forged number must not fill the memory."""


class Link(Value):
    """One link of a journal's chain.

    Attributes:
        sequence: 1 for a district's first of this journal, then without gaps.
        key: which row of the journal's table it stands for.
        at: when that happened, as the row says.
        digest: of the row's content, see `content_digest`.
        previous: hash of the link before; 64 zeros for the first.
    """

    journal: Journal
    district: str
    sequence: int
    key: str
    at: Moment
    digest: str
    previous: str
    hash: str = ""

    def right_hash(self) -> str:
        """Return the hash that the link must have. What it is taken over may never change."""
        return _digest(self.model_dump(mode="json", exclude={"hash"}))


class JournalHead(Value):
    """How far a journal reached: number and hash of its newest link."""

    journal: Journal
    sequence: int
    hash: str


def content_digest(content: Mapping[str, str | int | datetime]) -> str:
    """Return the digest of a row's content: SHA-256 over canonical JSON, moments in UTC."""
    return _digest(
        {
            name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
            for name, value in content.items()
        }
    )


def _digest(content: object) -> str:
    return digest(json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":")))


def link(
    journal: Journal, district: str, *, key: str, at: datetime, content: str, after: JournalHead | None
) -> Link:
    """Return the next link.

    Args:
        content: digest of the row.
        after: the newest link so far; None for the first.
    """
    made = Link(
        journal=journal,
        district=district,
        sequence=after.sequence + 1 if after else 1,
        key=key,
        at=at,
        digest=content,
        previous=after.hash if after else GENESIS,
    )
    return made.model_copy(update={"hash": made.right_hash()})


# --- checking ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class JournalCheck:
    """Takes a journal's links in order, each with the digest of its row, and keeps what is wrong.

    Attributes:
        hashes: of the links as they stand, by number: what anchors are held against.
    """

    journal: Journal
    findings: list[Finding] = field(default_factory=list)
    hashes: dict[int, str] = field(default_factory=dict)
    _newest: Link | None = None
    _latest_at: datetime | None = None

    def take(self, each: Link, stands: str | None) -> None:
        """Check one link.

        Args:
            stands: digest of the row as it stands; None when there is no such row.
        """
        before = self._newest
        self._numbering(each, before.sequence + 1 if before else 1)
        is_whole = each.hash == each.right_hash()
        if not is_whole:
            self._link("link_changed", each.sequence, "链上记录被改动:与其哈希不符。")
        elif stands is None:
            self.row("row_missing", each, "链上有此行,表中没有:被删除。")
        elif stands != each.digest:
            self.row("row_changed", each, "此行被改动:与链上的摘要不符。")
        follows = (before.sequence + 1 == each.sequence) if before else each.sequence == 1
        if follows and is_whole and each.previous != (before.hash if before else GENESIS):
            self._broken(before, each)
        latest = self._latest_at or each.at
        if each.at < latest - _SKEW:
            self._link("time_goes_back", each.sequence, "时间早于上一条(倒填时间)。")
        self._latest_at = max(latest, each.at)
        self.hashes[each.sequence] = each.hash
        self._newest = each

    def row(self, code: str, each: Link, detail: str) -> None:
        """Keep that a row of the journal's own table is not as its link says."""
        self._found(code, self.journal, f"第{each.sequence}条({each.key})", detail)

    def unreadable_link(self, sequence: object, columns: Iterable[str]) -> None:
        """Keep that a link has columns that cannot be read."""
        for column in columns:
            self._found("unreadable", LINKS, f"{self.journal} 第{sequence}条", "链上的值无法读取。", column)

    def added(self, key: str) -> None:
        """Keep that a row stands in the journal's table for which there is no link."""
        self._found("row_added", self.journal, key, "表中有此行,链上没有:绕过系统插入。")

    def _numbering(self, each: Link, expected: int) -> None:
        for missing in range(expected, min(each.sequence, expected + _MOST_NAMED)):
            self._link("link_missing", missing, "链上缺少此号:被删除。")
        if each.sequence < expected:
            self._link("link_out_of_order", each.sequence, "序号重复或顺序被调换。")

    def _broken(self, before: Link | None, each: Link) -> None:
        """A whole link that does not follow: the one before was made anew, for this one still binds its old hash."""
        place = before.sequence if before else each.sequence
        self._link("broken_link", place, "此条被整条改写:下一条仍指向原来的哈希。")

    def _link(self, code: str, sequence: int, detail: str) -> None:
        self._found(code, LINKS, f"{self.journal} 第{sequence}条", detail)

    def _found(self, code: str, table: str, row: str, detail: str, column: str = "") -> None:
        check = CHECK_OF[self.journal]
        self.findings.append(
            Finding(check=check, code=code, table=table, row=row, field=column, detail=detail)
        )


def compare_heads(
    anchored: Iterable[tuple[str, JournalHead]], hashes: Mapping[Journal, Mapping[int, str]], *, check: Check
) -> Iterator[Finding]:
    """Hold journals as they stand against every head that was ever anchored; each journal is named once.

    Args:
        anchored: heads in the order of the anchors, each with the name of its anchor.
        hashes: of the links as they stand, by journal and number; the newest of each must be among them.
    """
    held: dict[Journal, int] = {}
    named: set[Journal] = set()
    for when, head in anchored:
        stands = hashes.get(head.journal, {}).get(head.sequence)
        if head.journal in named:
            continue
        if stands == head.hash:
            held[head.journal] = head.sequence
            continue
        named.add(head.journal)
        first = held.get(head.journal, 0) + 1
        if stands is None:
            newest = max(hashes.get(head.journal, {}), default=0)
            cut = min(
                newest + 1, head.sequence
            )  # one that stands beyond the head: the head's own link is gone
            code, what = "journal_cut", _numbers(cut, head.sequence)
            detail = f"{when}时有 {head.sequence} 条,{what}已被删除。"
            if first < cut:
                detail += f"{_numbers(first, cut - 1)}仍在,但它们的锚定随之失去对照,是否原样无法证明。"
        else:
            code, what = "journal_rewritten", _numbers(first, head.sequence)
            detail = f"{when}之后,这些记录中至少一条被改写。"
        yield Finding(check=check, code=code, table=LINKS, row=f"{head.journal} {what}", detail=detail)


def _numbers(first: int, last: int) -> str:
    return f"第{first}至{last}条" if first < last else f"第{last}条"

"""Anchors in SQL and as published files; see `domain.anchor`."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from adapters.database import Database
from adapters.journals import JournalStore, journal_heads
from adapters.raw import Row, read_rows, texts
from adapters.signing import PublicKey, SigningKey
from adapters.tables import AnchorRow, IntakeRow, LedgerRow
from domain.anchor import (
    Anchor,
    Head,
    StoredAnchor,
    compare_with_journals,
    compare_with_ledger,
    digest,
    heads_of,
    make,
)
from domain.calendar import SHANGHAI
from domain.case import CaseId
from domain.errors import DomainError
from domain.journal import JournalHead
from domain.ports import Anchored
from domain.verify import Check, Finding


class AnchorInvalid(DomainError):
    """An anchor file cannot be read, or there is none of that day."""


class AnchorStore(JournalStore):
    """The table of anchors, and the heads of ledger and journals."""

    _database: Database

    async def anchors(self, district: str) -> list[StoredAnchor]:
        """Return a district's anchors, oldest first, as they stand."""
        async with self._database.read() as connection:
            return await connection.run_sync(_anchors, district)

    async def anchored_districts(self) -> list[str]:
        """Return every district that has an anchor."""
        query = select(AnchorRow.district).distinct().order_by(AnchorRow.district)
        async with self._database.read() as connection:
            return await connection.run_sync(texts, query)

    async def add_anchor(self, district: str, at: datetime, key: SigningKey) -> tuple[StoredAnchor, bool]:
        """Anchor the district's chains as they are now; when nothing has moved since the day's newest, do nothing.

        Read and made beside the work that goes on, and only then written: nobody waits while it is made.

        Returns:
            The newest anchor, and whether it is new.
        """
        while True:
            async with self._database.read() as connection:
                stored, heads, journals = await connection.run_sync(_as_it_stands, district)
            made = await asyncio.to_thread(_next, district, at, key, stored, heads, journals)
            if made is None:
                return stored[-1], False
            row = {column.name: getattr(made, column.name) for column in AnchorRow.__table__.columns}
            try:
                async with self._database.write() as connection:
                    await connection.execute(insert(AnchorRow), [row])
            except IntegrityError:  # another worker was faster: what it anchored comes before
                continue
            return made, True

    async def heads(self, district: str) -> dict[CaseId, Head]:
        """Return every case's head as the ledger has it now."""
        async with self._database.read() as connection:
            found = await connection.run_sync(_heads, district)
        return {head.case_id: head for head in found}

    async def ledger_hashes(self, places: Iterable[str]) -> dict[str, dict[int, str]]:
        """Return the hashes of these cases' entries by case and sequence number, as they stand."""
        found: dict[str, dict[int, str]] = defaultdict(dict)
        wanted = sorted(set(places))
        columns = select(LedgerRow.case_id, LedgerRow.sequence, LedgerRow.hash)
        async with self._database.read() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                for row in await connection.execute(columns.where(LedgerRow.case_id.in_(some))):
                    found[row.case_id][row.sequence] = row.hash
        return found


_AT_ONCE = 500


def _anchors(connection: Connection, district: str) -> list[StoredAnchor]:
    query = select(AnchorRow.__table__).where(AnchorRow.district == district).order_by(AnchorRow.number)
    return [_stored(row) for row in read_rows(connection, query)]


def _stored(row: Row) -> StoredAnchor:
    unreadable = {column: str(row.values[column]) for column in row.unreadable}
    instead: dict[str, int | date] = {}
    if unreadable.keys() & {"number", "day"}:
        try:
            said = Anchor.model_validate_json(row.values["document"])
            instead = {"number": said.number, "day": said.day}
        except ValueError:
            instead = {"number": 0, "day": date.min}
    replaced = {column: each for column, each in instead.items() if column in unreadable}
    return StoredAnchor(**{**row.values, **replaced}, unreadable=unreadable)


def _heads(connection: Connection, district: str) -> list[Head]:
    newest = (
        select(LedgerRow.case_id, func.max(LedgerRow.sequence).label("sequence"))
        .join(IntakeRow, IntakeRow.case_id == LedgerRow.case_id)
        .where(IntakeRow.district == district)
        .group_by(LedgerRow.case_id)
        .subquery()
    )
    query = select(LedgerRow.case_id, LedgerRow.sequence, LedgerRow.hash).join(
        newest, (newest.c.case_id == LedgerRow.case_id) & (newest.c.sequence == LedgerRow.sequence)
    )
    return [
        Head(case_id=CaseId(row.case_id), sequence=row.sequence, hash=row.hash)
        for row in connection.execute(query)
    ]


def _as_it_stands(
    connection: Connection, district: str
) -> tuple[list[StoredAnchor], list[Head], list[JournalHead]]:
    return _anchors(connection, district), _heads(connection, district), journal_heads(connection, district)


def _next(
    district: str,
    at: datetime,
    key: SigningKey,
    stored: Sequence[StoredAnchor],
    heads: Sequence[Head],
    journals: Sequence[JournalHead],
) -> StoredAnchor | None:
    anchor = make(
        district,
        heads,
        _read(stored),
        day=at.astimezone(SHANGHAI).date(),
        at=at,
        key_id=key.public.id,
        journals=journals,
    )
    return signed(anchor, key) if anchor else None


def signed(anchor: Anchor, key: SigningKey) -> StoredAnchor:
    """Return the anchor with its hash and signature."""
    text = anchor.text()
    return StoredAnchor(
        district=anchor.district,
        number=anchor.number,
        day=anchor.day,
        document=text,
        hash=digest(text),
        signature=key.sign(text.encode()).hex(),
        key_id=key.public.id,
    )


def check_signatures(
    anchors: Sequence[StoredAnchor], keys: Mapping[str, PublicKey], *, table: str = "anchors"
) -> list[Finding]:
    """Say which anchors are not signed with one of these keys."""
    findings = []
    for each in anchors:
        key, row = keys.get(each.key_id), each.row
        if key is None:
            detail = f"签名公钥 {each.key_id} 未提供,签名未核验;请用 --public-key 指定。"
            findings.append(
                Finding(
                    check=Check.ANCHORS,
                    code="key_unknown",
                    table=table,
                    row=row,
                    field="signature",
                    detail=detail,
                    proven=False,
                )
            )
        elif not _is_signed(key, each):
            findings.append(
                Finding(
                    check=Check.ANCHORS,
                    code="signature_bad",
                    table=table,
                    row=row,
                    field="signature",
                    detail="锚定签名与原文不符。",
                )
            )
    return findings


def _is_signed(key: PublicKey, anchor: StoredAnchor) -> bool:
    try:
        return key.is_signed(anchor.document.encode(), bytes.fromhex(anchor.signature))
    except ValueError:
        return False


# --- published files ---------------------------------------------------------------------------------------


def daily_numbers(anchors: Iterable[StoredAnchor]) -> set[int]:
    """Return the numbers of the daily anchors: the first of each day."""
    first: dict[date, int] = {}
    for each in anchors:
        first[each.day] = min(each.number, first.get(each.day, each.number))
    return set(first.values())


def publish(anchor: StoredAnchor, key: PublicKey, folder: Path, *, daily: bool) -> Path:
    """Write the anchor as a file of its own, to be kept where the database's owner cannot reach; return where.

    Args:
        daily: whether it is the first of its day, whose file is named by the day alone.

    Raises:
        AnchorInvalid: `anchor_changed`: another anchor has been published there. Nothing is written over.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"anchor-{anchor.district}-{anchor.day}" + ("" if daily else f"-{anchor.number:06}")
    path = folder / f"{name}.json"
    content = {
        "document": anchor.document,
        "hash": anchor.hash,
        "signature": anchor.signature,
        "public_key": key.raw.hex(),
    }
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    if path.exists():
        if path.read_text("utf-8") != text:
            detail = f"{path} 已发布的是另一内容,未覆盖:数据库中的锚定被改动。请立即报告审计人员。"
            raise AnchorInvalid("anchor_changed", detail)
        return path
    unfinished = path.with_suffix(".json.part")
    unfinished.write_text(text, "utf-8")
    unfinished.replace(path)
    return path


def publish_missing(anchors: Sequence[StoredAnchor], key: PublicKey, folder: Path) -> list[Path]:
    """Publish every anchor under this key that has no file yet, and the newest again; return where they are.

    One that was made and never published, since the process or the disk gave way, is made up for so.

    Raises:
        AnchorInvalid: see `publish`; the others are published.
    """
    daily, written, differing = daily_numbers(anchors), list[Path](), list[AnchorInvalid]()
    for each in anchors:
        if each.key_id != key.id or each.unreadable:
            continue
        try:
            written.append(publish(each, key, folder, daily=each.number in daily))
        except AnchorInvalid as changed:
            differing.append(changed)
    if differing:
        raise differing[0]
    return written


def read_published(folder: Path) -> tuple[dict[str, list[StoredAnchor]], dict[str, PublicKey]]:
    """Read published anchors by district, oldest first, with the keys that they name.

    Raises:
        AnchorInvalid: `anchor_invalid`, naming a file that is none.
    """
    found: dict[str, list[StoredAnchor]] = defaultdict(list)
    keys: dict[str, PublicKey] = {}
    for path in sorted(folder.glob("anchor-*.json")):
        try:
            content = json.loads(path.read_text("utf-8"))
            anchor = Anchor.model_validate_json(content["document"])
            key = PublicKey(bytes.fromhex(content["public_key"]))
            stored = StoredAnchor(
                district=anchor.district,
                number=anchor.number,
                day=anchor.day,
                document=content["document"],
                hash=str(content["hash"]),
                signature=str(content["signature"]),
                key_id=anchor.key_id,
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise AnchorInvalid("anchor_invalid", f"不是锚定文件或已损坏:{path}。") from None
        found[anchor.district].append(stored)
        keys[key.id] = key
    return {district: sorted(each, key=lambda one: one.number) for district, each in found.items()}, keys


class AnchorKeeper:
    """Implements `domain.ports.Anchors`: into the table, and into a folder where one is named."""

    def __init__(self, store: AnchorStore, key: SigningKey, folder: Path | None) -> None:
        self._store = store
        self._key = key
        self._folder = folder

    async def anchor(self, district: str, at: datetime) -> Anchored:
        """Anchor, publish what is not published yet, and hold what stands against all anchors.

        The day's first looks at every entry that was ever anchored, the others at the cases that are not as they
        were: a case's newest head binds what is before it.
        """
        made, is_new = await self._store.add_anchor(district, at, self._key)
        stored = await self._store.anchors(district)
        contradicted = [each.row for each in stored if each.unreadable]
        if self._folder is not None:
            try:
                await asyncio.to_thread(publish_missing, stored, self._key.public, self._folder)
            except AnchorInvalid as changed:
                contradicted.append(changed.detail)
        anchors = await asyncio.to_thread(_read, stored)
        before = anchors[:-1] if is_new else anchors
        everything = is_new and made.number in daily_numbers(stored)
        contradicted += await self._contradicted(district, before, everything=everything)
        anchor = anchors[-1]
        return Anchored(
            district=district,
            number=anchor.number,
            day=anchor.day.isoformat(),
            root=anchor.root,
            chains=anchor.chains,
            is_new=is_new,
            contradicted=tuple(contradicted),
        )

    async def _contradicted(self, district: str, anchors: list[Anchor], *, everything: bool) -> list[str]:
        anchored = {head.case_id for each in anchors for head in each.changed}
        if not everything:
            stands = await self._store.heads(district)
            known = heads_of(anchors)
            anchored = {case_id for case_id, head in known.items() if stands.get(case_id) != head}
        ledger = await self._store.ledger_hashes(anchored)
        journals = await self._store.journal_hashes(
            district, (head for each in anchors for head in each.journals)
        )
        broken = [
            *compare_with_ledger(anchors, ledger, cases=anchored),
            *compare_with_journals(anchors, journals),
        ]
        return [finding.row for finding in broken]


def _read(stored: Sequence[StoredAnchor]) -> list[Anchor]:
    return [Anchor.model_validate_json(each.document) for each in stored]

"""The store: everything that the product keeps in SQL, as one object."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import JSON, Connection, Row, bindparam, cast, delete, func, insert, or_, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.anchors import AnchorStore
from adapters.database import Database, StoreUnavailable
from adapters.decodings import DecodingStore
from adapters.evidence import EvidenceStore
from adapters.journals import append_link
from adapters.kept_acts import KeptAct, binding_of, code_of, kept_act
from adapters.ledger import NotFound, append, notice_row
from adapters.loads import ITEMS, LoadStore, is_bound, record_load
from adapters.queries import QueryStore
from adapters.sealing import Binding, Seal
from adapters.settings import Settings
from adapters.tables import (
    AnswerRow,
    CatalogueRow,
    DistrictRow,
    IntakeRow,
    NoticeRow,
    PendingActRow,
    PersonRow,
    PostRow,
    TermsRow,
)
from adapters.terms import hand_over
from adapters.upkeep import UpkeepStore
from domain.case import CaseId, PersonId
from domain.district import District, Item, OrganisationKind, Terms
from domain.errors import Invalid, Refused
from domain.events import Entry
from domain.journal import Journal, Link
from domain.lifecycle import evolve
from domain.ports import CaseStart, InboxNotice, Intake, KnownHead, OutboxNotice, PendingAct
from domain.restart import from_ledger, require_extends

__all__ = [
    "Answer",
    "CatalogueVersion",
    "IdempotencyClash",
    "NotFound",
    "Store",
    "StoreUnavailable",
    "open_store",
]

_STARTED = (
    update(IntakeRow)
    .where(IntakeRow.case_id == bindparam("this_case"), IntakeRow.started_at.is_(None))
    .values(started_at=bindparam("started"))
)

_UNSENT = (
    select(NoticeRow)
    .where(
        NoticeRow.district == bindparam("here"),
        NoticeRow.sent_at.is_(None),
        NoticeRow.next_attempt_at <= bindparam("now"),
    )
    .order_by(NoticeRow.id)
    .limit(bindparam("most"))
)
_SENT = (
    update(NoticeRow)
    .where(NoticeRow.id.in_(bindparam("ids", expanding=True)))
    .values(sent_at=bindparam("at"))
)

_log = structlog.get_logger()


class IdempotencyClash(Exception):
    """The person has used this key before; look the answer up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request was answered, kept under its idempotency key.

    Attributes:
        body_digest: what the request said, so that the same key with another body is refused.
    """

    body_digest: str
    status: int
    body: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueVersion:
    """A version of a district's responsibility list: when it was first loaded, and how many items it has."""

    version: str
    loaded_at: datetime
    items: int


class Store(UpkeepStore, QueryStore, DecodingStore, EvidenceStore, AnchorStore, LoadStore):
    """SQLite or PostgreSQL behind the ports.

    Args:
        url: an SQLAlchemy URL; the driver is chosen here.
        seal: binds acts that wait, and what districts are loaded as. Without it acts are kept and read as unbound, so
            that nothing carries them out, and loads are not journaled.
    """

    def __init__(self, url: str, seal: Seal | None = None) -> None:
        self._database = Database(url)
        self._seal = seal
        self._terms: dict[CaseId, Terms] = {}
        self._waiting = []
        self._writer = None
        self._busy_until = 0.0

    async def close(self) -> None:
        """Close every connection."""
        await self._database.close()

    async def ping(self) -> None:
        """Say nothing if the database answers.

        Raises:
            StoreUnavailable: it does not.
        """
        async with self._database.read() as connection:
            await connection.execute(text("SELECT 1"))

    # --- districts -----------------------------------------------------------------------------------------

    async def load_district(self, district: District, at: datetime) -> None:
        """Take the district as it now is. Terms and catalogues of older versions stay for the cases under them."""
        async with self._database.write() as connection:
            terms_id = await connection.run_sync(self._keep_terms, district.code, district.terms())
            row = {
                "code": district.code,
                "name": district.name,
                "terms_id": terms_id,
                "document": district.model_dump_json(),
                "loaded_at": at,
            }
            await connection.execute(self._database.upsert(DistrictRow), [row])
            await connection.run_sync(hand_over)
            await self._keep_catalogue(connection, district, at)
            await self._load_people(connection, district)
            await self._journal_load(connection, district, at)

    async def catalogue(self, district: str, version: str) -> tuple[Item, ...] | None:
        """Return a version of a district's responsibility list; None for one that was never loaded."""
        query = select(CatalogueRow.document)
        query = query.where(CatalogueRow.district == district, CatalogueRow.version == version)
        async with self._database.read() as connection:
            document = (await connection.execute(query)).scalar_one_or_none()
        return None if document is None else ITEMS.validate_json(document)

    async def catalogue_versions(self, district: str) -> list[CatalogueVersion]:
        """Return every version that was ever loaded, the first loaded last."""
        document = CatalogueRow.document
        length = func.json_array_length(document if self._database.is_sqlite else cast(document, JSON))
        query = select(CatalogueRow.version, CatalogueRow.loaded_at, length.label("items"))
        query = query.where(CatalogueRow.district == district)
        async with self._database.read() as connection:
            rows = await connection.execute(
                query.order_by(CatalogueRow.loaded_at.desc(), CatalogueRow.version)
            )
            return [CatalogueVersion(**row) for row in rows.mappings()]

    async def load_catalogue(self, district: str, items: Sequence[Item], version: str, at: datetime) -> None:
        """Replace only the district's responsibility list, or nothing. Running cases keep the one they have.

        Raises:
            NotFound: there is no such district.
            Refused: `district_unbound`: the district is not what was last loaded, and would be taken for that from
                now on.
            Invalid: an item names a department that the district, as it is stored, does not have.
        """
        query = select(DistrictRow.document).where(DistrictRow.code == district)
        async with self._database.write() as connection:
            document = (await connection.execute(query)).scalar_one_or_none()
            if document is None:
                raise NotFound(district)
            if self._seal is not None and not await connection.run_sync(
                is_bound, district, document, self._seal
            ):
                detail = f"区(市)“{district}”的资料不是最近一次装载的内容:请先重新执行 shaodao district load 目录。"
                raise Refused("district_unbound", detail)
            changes = {"items": tuple(items), "catalogue_version": version}
            changed = District.model_validate_json(document).model_copy(update=changes)
            _require_departments(changed)
            values = {"document": changed.model_dump_json(), "loaded_at": at}
            await connection.execute(update(DistrictRow).where(DistrictRow.code == district).values(values))
            await self._keep_catalogue(connection, changed, at)
            await self._journal_load(connection, changed, at)

    async def _journal_load(self, connection: AsyncConnection, district: District, at: datetime) -> None:
        """Write what was loaded, bound by the secret; last of all, for nobody else journals here meanwhile."""
        if self._seal is not None:
            await connection.run_sync(record_load, self._database, district, at, self._seal)

    async def _keep_catalogue(self, connection: AsyncConnection, district: District, at: datetime) -> None:
        row = {
            "district": district.code,
            "version": district.catalogue_version,
            "document": ITEMS.dump_json(district.items).decode(),
            "loaded_at": at,
        }
        await connection.execute(self._database.insert_new(CatalogueRow), [row])

    def _keep_terms(self, connection: Connection, district: str, terms: Terms) -> str:
        document = terms.model_dump_json()
        terms_id = hashlib.sha256(document.encode()).hexdigest()
        row = {
            "id": terms_id,
            "district": district,
            "policy_version": terms.policy.version,
            "calendar_version": terms.calendar.version,
            "document": document,
        }
        connection.execute(self._database.insert_new(TermsRow), [row])
        return terms_id

    async def _load_people(self, connection: AsyncConnection, district: District) -> None:
        here = PersonRow.district == district.code
        mine = select(PersonRow.id).where(here)
        taken_over = [person.id for person in district.people]  # from another district, perhaps
        held = or_(PostRow.person.in_(mine), PostRow.person.in_(taken_over))
        await connection.execute(delete(PostRow).where(held))
        await connection.execute(update(PersonRow).where(here).values(active=False))
        people = [
            {
                "id": person.id,
                "district": district.code,
                "name": person.name,
                "phone": person.phone,
                "on_duty": person.on_duty,
                "active": True,
            }
            for person in district.people
        ]
        posts = [
            {
                "person": person.id,
                "role": post.role.value,
                "organisation": post.organisation,
                "township": post.township,
                "city": post.city,
                "squad": post.squad,
            }
            for person in district.people
            for post in person.posts
        ]
        if people:
            await connection.execute(self._database.upsert(PersonRow), people)
            await connection.execute(insert(PostRow), posts)

    # --- intake --------------------------------------------------------------------------------------------

    async def take_call(self, intake: Intake, *, person: str, status: int, body: str) -> None:
        """Commit a call: intake, first entry, read model, notices and the answer to the request, or nothing.

        Last comes the link of the district's chain of calls: the next call waits for it until this one is committed.

        Raises:
            IdempotencyClash: the person has used this key before.
        """
        answer = Answer(body_digest=intake.body_digest, status=status, body=body)
        taken = await asyncio.to_thread(self._take_call, intake, person, answer)
        _log.info(
            "call_taken", case_id=taken.key, district=taken.district, number=taken.sequence, hash=taken.hash
        )

    def _take_call(self, intake: Intake, person: str, answer: Answer) -> Link:
        """Do the whole transaction in one thread: a hop a statement would cost more than the statements."""
        opened, terms = intake.start.opened, intake.start.terms
        district = evolve(None, opened).call.district
        with self._database.write_in_thread() as connection:
            if intake.key:
                _remember_first(connection, person, intake.key, answer, opened.at)
            row = {
                "case_id": opened.case_id,
                "district": district,
                "called_at": opened.at,
                "opened": opened.model_dump_json(),
                "terms_id": self._keep_terms(connection, district, terms),
                "contact_name": intake.contact.name,
                "contact_phone": intake.contact.phone,
                "started_at": None,
                "next_attempt_at": opened.at,
                "attempts": 0,
                "last_error": "",
            }
            connection.execute(insert(IntakeRow), [row])
            append(self._database, connection, [[opened]], self._terms)
            return append_link(self._database, connection, Journal.INTAKE, row, key=opened.case_id)

    async def unstarted(self, now: datetime, limit: int) -> list[CaseStart]:
        """Return the calls whose workflow has not been started and may be tried (again) by now, oldest first."""
        query = (
            select(IntakeRow.opened, TermsRow.document)
            .join(TermsRow, TermsRow.id == IntakeRow.terms_id)
            .where(IntakeRow.started_at.is_(None), IntakeRow.next_attempt_at <= now)
            .order_by(IntakeRow.called_at)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [_start(row.opened, row.document) for row in rows]

    async def start_of(self, case_id: CaseId) -> CaseStart | None:
        """Return what the case's workflow starts with; None for a case that was never taken."""
        query = (
            select(IntakeRow.opened, TermsRow.document)
            .join(TermsRow, TermsRow.id == IntakeRow.terms_id)
            .where(IntakeRow.case_id == case_id)
        )
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return _start(row.opened, row.document) if row else None

    async def reopening(self, case_id: CaseId, known: Iterable[KnownHead]) -> CaseStart | None:
        """Return what a further run of a case starts with, after the one before has ended.

        Args:
            known: what anchors and archive hold of the case.

        Raises:
            LedgerConflict: `ledger_rewritten`, `broken_chain`: nothing may be built on this ledger.
        """
        start, entries = await self.start_of(case_id), await self.entries(case_id)
        if not start or not entries:
            return None
        require_extends(start, entries, known)
        return from_ledger(start, entries, {})

    async def is_started(self, case_id: CaseId) -> bool:
        """Whether the case's workflow runs, or has run."""
        query = select(IntakeRow.started_at).where(IntakeRow.case_id == case_id)
        async with self._database.read() as connection:
            return (await connection.execute(query)).scalar_one_or_none() is not None

    async def started(self, case_id: CaseId, at: datetime) -> None:
        """Mark that the workflow runs, or has run."""
        await asyncio.to_thread(self._mark_started, case_id, at)

    def _mark_started(self, case_id: CaseId, at: datetime) -> None:
        with self._database.write_in_thread() as connection:
            connection.execute(_STARTED, {"this_case": case_id, "started": at})

    async def start_failed(self, case_id: CaseId, error: str, retry_at: datetime) -> None:
        """Count the attempt, keep the reason, and try again later."""
        query = update(IntakeRow).where(IntakeRow.case_id == case_id)
        async with self._database.write() as connection:
            values = {"attempts": IntakeRow.attempts + 1, "last_error": error, "next_attempt_at": retry_at}
            await connection.execute(query.values(values))

    # --- answers -------------------------------------------------------------------------------------------

    async def answered(self, person: str, key: str) -> Answer | None:
        """Return what this person's request with this key was answered, or None."""
        query = select(AnswerRow).where(AnswerRow.person == person, AnswerRow.key == key)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return Answer(body_digest=row.body_digest, status=row.status, body=row.body) if row else None

    async def remember(self, person: str, key: str, answer: Answer, at: datetime) -> None:
        """Keep the answer, unless one stands already."""
        row = _answer_row(person, key, answer, at)
        async with self._database.write() as connection:
            await connection.execute(self._database.insert_new(AnswerRow), [row])

    # --- acts that wait for Temporal -----------------------------------------------------------------------

    async def defer_act(
        self,
        case_id: CaseId,
        act: str,
        command: str,
        *,
        update_id: str,
        person: str,
        at: datetime,
        not_before: datetime | None = None,
    ) -> None:
        """Commit an act that Temporal cannot take now; once for each update id.

        Args:
            not_before: the relay leaves it alone until then.
        """
        kept = KeptAct(
            case_id=case_id, act=act, command=command, update_id=update_id, person=person, accepted_at=at
        )
        row = {
            **asdict(kept),
            "next_attempt_at": not_before or at,
            "settled_at": None,
            "outcome": "",
            "attempts": 0,
            "last_error": "",
            "mac": code_of(kept, self._seal) if self._seal else None,
        }
        async with self._database.write() as connection:
            await connection.execute(self._database.insert_new(PendingActRow), [row])

    async def unsettled(self, now: datetime, limit: int) -> list[PendingAct]:
        """Return the acts that wait and may be tried by now, oldest first; those that are not bound as well."""
        return await self._pending(limit, PendingActRow.next_attempt_at <= now)

    async def pending_of(self, case_id: CaseId) -> list[PendingAct]:
        """Return the acts on this case that wait for Temporal, oldest first; none that is not bound."""
        return [each for each in await self._pending(200, PendingActRow.case_id == case_id) if each.bound]

    async def settled(self, pending: int, outcome: str, at: datetime) -> None:
        """Mark the act as taken or refused; `outcome` says which."""
        query = update(PendingActRow).where(PendingActRow.id == pending)
        async with self._database.write() as connection:
            await connection.execute(query.values(settled_at=at, outcome=outcome))

    async def act_failed(self, pending: int, error: str, retry_at: datetime) -> None:
        """Count the attempt, keep the reason, and try again later."""
        query = update(PendingActRow).where(PendingActRow.id == pending)
        async with self._database.write() as connection:
            values = {
                "attempts": PendingActRow.attempts + 1,
                "last_error": error,
                "next_attempt_at": retry_at,
            }
            await connection.execute(query.values(values))

    async def _pending(self, limit: int, condition: object) -> list[PendingAct]:
        query = (
            select(PendingActRow)
            .where(PendingActRow.settled_at.is_(None), condition)  # type: ignore[arg-type]
            .order_by(PendingActRow.id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(query)).all()
        return [self._judged(row) for row in rows]

    def _judged(self, row: Row[Any]) -> PendingAct:
        kept = kept_act(row)
        binding = binding_of(kept, row.mac, self._seal)
        return PendingAct(
            id=row.id,
            case_id=CaseId(kept.case_id),
            act=kept.act,
            command=kept.content,
            update_id=kept.update_id,
            person=PersonId(kept.person),
            attempts=row.attempts,
            accepted_at=kept.accepted_at,
            bound=binding is Binding.BOUND,
            other_key=binding is Binding.OTHER_KEY,
        )

    # --- notices -------------------------------------------------------------------------------------------

    async def unsent(self, district: str, limit: int, now: datetime) -> Sequence[OutboxNotice]:
        """Return the oldest notices that are due to be sent (again) by now."""
        return await asyncio.to_thread(self._read_unsent, district, limit, now)

    def _read_unsent(self, district: str, limit: int, now: datetime) -> list[OutboxNotice]:
        with self._database.read_in_thread() as connection:
            rows = connection.execute(_UNSENT, {"here": district, "most": limit, "now": now}).all()
        return [
            OutboxNotice(
                id=row.id,
                case_id=CaseId(row.case_id),
                sequence=row.sequence,
                receiver=PersonId(row.receiver),
                title=row.title,
                text=row.text,
                created_at=row.created_at,
                attempts=row.attempts,
            )
            for row in rows
        ]

    async def sent(self, ids: Sequence[int], at: datetime) -> None:
        """Mark these as sent."""
        if ids:
            await asyncio.to_thread(self._mark_sent, ids, at)

    def _mark_sent(self, ids: Sequence[int], at: datetime) -> None:
        with self._database.write_in_thread() as connection:
            connection.execute(_SENT, {"ids": list(ids), "at": at})

    async def failed(self, notice: OutboxNotice, error: str, retry_at: datetime) -> None:
        """Count the attempt, keep the reason, and try again later."""
        query = update(NoticeRow).where(NoticeRow.id == notice.id)
        async with self._database.write() as connection:
            values = {"attempts": NoticeRow.attempts + 1, "last_error": error, "next_attempt_at": retry_at}
            await connection.execute(query.values(values))

    async def notify(
        self,
        case_id: CaseId,
        *,
        district: str,
        receiver: str,
        reason: str,
        title: str,
        text: str,
        at: datetime,
    ) -> None:
        """Tell one person something that belongs to no entry; once for each (case, reason, receiver)."""
        row = notice_row(
            district, case_id, reason=reason, sequence=0, receiver=receiver, title=title, text=text, at=at
        )
        async with self._database.write() as connection:
            await connection.execute(self._database.insert_new(NoticeRow), [row])

    async def inbox(
        self, person: str, *, unread_only: bool = False, before: int | None = None, limit: int = 50
    ) -> list[InboxNotice]:
        """Return a person's notices, newest first; `before` is the id at which the last page ended."""
        query = select(NoticeRow).where(NoticeRow.receiver == person)
        if unread_only:
            query = query.where(NoticeRow.read_at.is_(None))
        if before is not None:
            query = query.where(NoticeRow.id < before)
        async with self._database.read() as connection:
            rows = (await connection.execute(query.order_by(NoticeRow.id.desc()).limit(limit))).all()
        return [
            InboxNotice(
                id=row.id,
                case_id=CaseId(row.case_id),
                title=row.title,
                text=row.text,
                created_at=row.created_at,
                read_at=row.read_at,
            )
            for row in rows
        ]

    async def mark_read(self, person: str, ids: Sequence[int], at: datetime) -> int:
        """Mark a person's own notices as read; return how many were unread."""
        query = update(NoticeRow).where(
            NoticeRow.receiver == person, NoticeRow.id.in_(ids), NoticeRow.read_at.is_(None)
        )
        async with self._database.write() as connection:
            return (await connection.execute(query.values(read_at=at))).rowcount


def _require_departments(district: District) -> None:
    departments = {
        office.code for office in district.organisations if office.kind is OrganisationKind.DEPARTMENT
    }
    for item in district.items:
        if unknown := {str(item.primary), *map(str, item.cooperating)} - departments:
            told = "、".join(sorted(unknown))
            raise Invalid("unknown_department", f"事项“{item.code}”所写的部门不存在:{told}。")


def _start(opened: str, terms: str) -> CaseStart:
    return CaseStart(opened=Entry.model_validate_json(opened), terms=Terms.model_validate_json(terms))


def _remember_first(connection: Connection, person: str, key: str, answer: Answer, at: datetime) -> None:
    try:
        connection.execute(insert(AnswerRow), [_answer_row(person, key, answer, at)])
    except IntegrityError as error:
        raise IdempotencyClash(key) from error


def _answer_row(person: str, key: str, answer: Answer, at: datetime) -> dict[str, object]:
    return {
        "person": person,
        "key": key,
        "body_digest": answer.body_digest,
        "status": answer.status,
        "body": answer.body,
        "at": at,
    }


def open_store(settings: Settings) -> Store:
    """Return the store of the settings, which binds acts that wait by their secret."""
    return Store(settings.database_url, Seal(settings.secret.get_secret_value()))

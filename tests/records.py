"""Records of cases for auditors' tests: played on the rules as the workflow plays them, and tampered with."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Self

from domain import audit
from domain.case import ActionKind, Actor, Attachment, CaseId, Grade
from domain.commands import (
    AnyCommand,
    Cancel,
    DisputeCheckIn,
    Plan,
    Rate,
    Refuse,
    Rework,
    TakeAction,
)
from domain.events import Entry, Event
from domain.lifecycle import evolve
from domain.policy import Urgency
from domain.ports import CaseStart
from domain.verify import Replayed, StoredRow
from tests.sample import DISPATCHER, ECOLOGY, MARKET, OFFICERS, POLICE, TOWN_OFFICER, Play

PHOTO = Attachment(name="现场照片.jpg", sha256=audit.digest("photo"), size=5)


class Kept(Play):
    """A play in which every act has its own key and its own moment, as over HTTP."""

    def do(self, command: AnyCommand) -> Self:
        """Do the act under a key of its own, half a minute after whatever was before."""
        self.later(seconds=30)
        return super().do(command.model_copy(update={"key": f"key-{len(self.entries)}"}))

    def _append(self, events: Sequence[Event], *, by: Actor | None) -> None:
        key = f"key-{len(self.entries)}" if by else ""
        for entry in audit.chain(
            self.state.case_id, events, after=self.entries[-1], at=self.now, by=by, key=key
        ):
            self.entries.append(entry)
            self.state = evolve(self.state, entry)


def straight() -> Kept:
    """Three departments, no trouble, with attachments."""
    play = Kept("2026-03-04 09:00", attachments=(PHOTO,)).dispatch().sign().check_in()
    play.do(Plan(by=OFFICERS[ECOLOGY], department=ECOLOGY, text="当场拆除"))
    play.do(
        TakeAction(
            by=OFFICERS[ECOLOGY],
            department=ECOLOGY,
            kind=ActionKind.DEMOLITION_NOTICE,
            description="下达通知",
            result="业主签收",
            follow_up_on=(play.now + timedelta(days=10)).date(),
            attachments=(PHOTO,),
        )
    )
    return play.act(POLICE, MARKET).done().rate()


def late() -> Kept:
    """Nobody in time: deemed sign-for, every rung, confirmation by silence, closed unrated."""
    play = Kept("2026-03-04 16:50").later(days=1).dispatch(ECOLOGY, POLICE).later(days=9)
    play.sign(ECOLOGY).check_in(ECOLOGY, POLICE, confirm=False).later(days=1)
    return play.act().done().rate(ECOLOGY).later(days=20)


def disputed() -> Kept:
    """A disputed check-in whose clock runs on past its limit, rework twice, then the end."""
    play = Kept("2026-03-04 09:00", urgency=Urgency.URGENT).dispatch(ECOLOGY).sign().check_in(confirm=False)
    play.later(hours=1)
    play.do(DisputeCheckIn(by=TOWN_OFFICER, department=ECOLOGY, reason="无人到场")).later(days=1)
    play.check_in().act().done()
    play.do(Rework(by=TOWN_OFFICER, department=ECOLOGY, reason="现场未清理")).act().done()
    play.do(
        Rate(by=TOWN_OFFICER, department=ECOLOGY, grade=Grade.DISSATISFIED, solved=False, comment="又冒烟")
    )
    return play.act().done().rate()


def refused() -> Kept:
    """Sent back."""
    return Kept().do(Refuse(by=DISPATCHER, reason="镇街自办事项"))


def cancelled() -> Kept:
    """Withdrawn."""
    return Kept().dispatch(POLICE).do(Cancel(by=TOWN_OFFICER, reason="已自行解决"))


def under_way() -> Kept:
    """Open: one department has checked in, one is late."""
    return Kept().dispatch(ECOLOGY, POLICE).sign(ECOLOGY).check_in(ECOLOGY).later(hours=5)


EVERY = (straight, late, disputed, refused, cancelled, under_way)


def renamed(play: Play, case_id: str) -> list[Entry]:
    """Return the play's entries as those of another case."""
    return rechained(play.entries, case_id=case_id)


def rechained(entries: Sequence[Entry], case_id: str | None = None) -> list[Entry]:
    """Return the entries renumbered and with hashes that fit: what somebody does who owns the whole database."""
    chain: list[Entry] = []
    previous = audit.GENESIS
    for sequence, entry in enumerate(entries, start=1):
        update = {"sequence": sequence, "previous": previous, "hash": ""}
        each = entry.model_copy(update=update | ({"case_id": CaseId(case_id)} if case_id else {}))
        chain.append(each.model_copy(update={"hash": audit.digest(audit.canonical(each))}))
        previous = chain[-1].hash
    return chain


def row(entry: Entry) -> StoredRow:
    """Return the entry as the ledger stores it."""
    return StoredRow(
        case_id=entry.case_id,
        sequence=entry.sequence,
        at=entry.at,
        kind=entry.event.kind,
        entry=audit.canonical(entry),
        hash=entry.hash,
    )


def rows(entries: Sequence[Entry]) -> list[StoredRow]:
    """Return the entries as the ledger stores them."""
    return [row(entry) for entry in entries]


def swapped(held: Sequence[StoredRow], one: int, other: int) -> list[StoredRow]:
    """Return the rows with the contents of two places exchanged, each under the other's number."""
    changed = list(held)
    changed[one] = replace(held[other], sequence=held[one].sequence)
    changed[other] = replace(held[one], sequence=held[other].sequence)
    return changed


def replayed(play: Play, *, unrecorded: int = 0, ended: bool | None = None) -> Replayed:
    """Return what replaying this case's only run gives."""
    return Replayed(
        name="history-1-run.json",
        start=CaseStart(opened=play.entries[0], terms=play.terms),
        entries=tuple(play.entries),
        unrecorded=unrecorded,
        ended=play.state.is_over if ended is None else ended,
        receipts=tuple((each.sequence, each.sequence, each.hash) for each in play.entries),
    )

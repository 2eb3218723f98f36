"""The store keeps its promises on SQLite and on PostgreSQL."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError

from adapters import ledger as ledger_module
from adapters.database import Database
from adapters.migrate import upgrade
from adapters.queries import CaseQuery, Sort
from adapters.store import Answer, IdempotencyClash, Store, StoreUnavailable
from adapters.tables import AssignmentRow, CaseRow, ClockRow, LedgerRow, TimelineRow
from domain.access import may_see, sight
from domain.case import CaseId, OrganisationCode
from domain.commands import Cancel
from domain.errors import Invalid, LedgerConflict
from domain.events import Entry
from domain.lifecycle import fold
from domain.ports import CaseStart, Contact, Intake
from tests.fakes.ledger import FakeLedger
from tests.sample import (
    DEPARTMENTS,
    ECOLOGY,
    MARKET,
    POLICE,
    TERMS,
    TOWN_OFFICER,
    Play,
    district,
    shanghai,
)

NOW = shanghai("2026-03-04 09:00")


async def take(store: Store, play: Play, *, key: str = "", answer: str = "{}") -> None:
    """Commit the play's call."""
    start = CaseStart(opened=play.entries[0], terms=play.terms)
    contact = Contact(name="张示例", phone="19900000001")
    intake = Intake(start=start, contact=contact, key=key, body_digest="d")
    await store.take_call(intake, person="town-officer", status=201, body=answer)


async def keep(store: Store, play: Play) -> None:
    """Commit the whole play."""
    await take(store, play)
    await store.record(play.entries)


async def everything(store: Store) -> list[Any]:
    """Return all rows of the read models."""
    async with store._database.read() as connection:
        return [
            sorted(map(str, (await connection.execute(select(*table.__table__.columns))).all()))
            for table in (CaseRow, AssignmentRow, ClockRow, TimelineRow)
        ]


async def test_a_committed_call_is_readable_before_any_workflow_runs(store: Store) -> None:
    play = Play()
    await take(store, play)
    assert await store.case(play.state.case_id) == play.state
    assert [line.kind for line in await store.timeline(play.state.case_id)] == ["called"]
    starts = await store.unstarted(NOW, 10)
    assert starts == [CaseStart(opened=play.entries[0], terms=TERMS)]
    await store.started(play.state.case_id, NOW)
    assert await store.unstarted(NOW, 10) == []


async def test_what_is_recorded_is_read_back_exactly_and_the_terms_with_it(store: Store) -> None:
    play = Play().until_rating().rate()
    await keep(store, play)
    assert await store.entries(play.state.case_id) == play.entries
    assert await store.case(play.state.case_id) == play.state
    assert await store.terms_of(play.state.case_id) == TERMS
    assert len(await store.timeline(play.state.case_id)) == len(play.entries)


async def test_recording_twice_changes_nothing(store: Store) -> None:
    await store.load_district(district(), NOW)
    play = Play().dispatch()
    await keep(store, play)
    before, inbox = await everything(store), await store.inbox("ecology-officer")
    again = await store.record(play.entries)
    assert (again.sequence, again.hash) == (2, play.entries[-1].hash)
    assert await everything(store) == before
    assert await store.inbox("ecology-officer") == inbox


async def test_entries_arriving_in_batches_give_the_same_as_all_at_once(store: Store) -> None:
    play = Play().until_rating()
    await take(store, play)
    for entry in play.entries:
        await store.record([entry])
    piecemeal = await everything(store)
    await store.rebuild()
    assert await everything(store) == piecemeal


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
async def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[FakeLedger | Store]:
    """Each ledger that there is."""
    if request.param == "fake":
        yield FakeLedger()
    elif request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'ledger.db'}"
        upgrade(url)
        yield (store := Store(url))
        await store.close()
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield (store := Store(url))
            await store.close()


async def held(ledger: FakeLedger | Store, play: Play) -> list[Entry]:
    """Return what the ledger holds of the play's case."""
    if isinstance(ledger, FakeLedger):
        return list(ledger.entries[play.state.case_id])
    return await ledger.entries(play.state.case_id)


async def test_other_entries_that_go_on_from_the_same_one_are_the_answer_and_nothing_is_written(
    ledger: FakeLedger | Store,
) -> None:
    play, other = Play().dispatch().sign(), Play().dispatch(POLICE)
    if isinstance(ledger, Store):
        await take(ledger, play)
    first = await ledger.record(play.entries)
    assert first.standing == ()
    before = await everything(ledger) if isinstance(ledger, Store) else None
    answer = await ledger.record(other.entries)
    assert answer.standing == tuple(play.entries[1:])
    assert (answer.sequence, answer.hash) == (play.entries[-1].sequence, play.entries[-1].hash)
    assert (await ledger.record(other.entries[1:])).standing == tuple(play.entries[1:])
    assert await held(ledger, play) == play.entries
    assert (await ledger.record(play.entries)).standing == ()
    assert before is None or await everything(ledger) == before  # type: ignore[arg-type]


async def test_other_entries_that_go_on_from_another_one_are_a_conflict_and_nothing_is_written(
    ledger: FakeLedger | Store,
) -> None:
    play, other = Play().dispatch().sign(), Play().dispatch(POLICE).sign()
    if isinstance(ledger, Store):
        await take(ledger, play)
    await ledger.record(play.entries)
    with pytest.raises(LedgerConflict) as conflict:
        await ledger.record(other.entries[2:])
    assert conflict.value.code == "ledger_conflict"
    assert await held(ledger, play) == play.entries


async def test_what_stands_and_is_no_chain_or_cannot_be_read_is_a_conflict(store: Store) -> None:
    for number, change in enumerate(({"hash": "0"}, {"entry": "{}"}, {"entry": "x"})):
        play = Play(case_id=f"sample-20260304-{number:06}").dispatch().sign()
        other = Play(case_id=play.state.case_id).dispatch(POLICE)
        await keep(store, play)
        async with store._database.write() as connection:
            if store._database.is_sqlite:
                await connection.execute(text("DROP TRIGGER IF EXISTS ledger_append_only_update"))
            else:
                await connection.execute(text("DROP TRIGGER IF EXISTS ledger_append_only ON ledger"))
            changed = update(LedgerRow).where(
                LedgerRow.case_id == play.state.case_id, LedgerRow.sequence == 3
            )
            await connection.execute(changed.values(change))
        with pytest.raises(LedgerConflict) as conflict:
            await store.record(other.entries)
        assert conflict.value.code == "ledger_conflict"


async def test_more_than_a_lost_task_can_have_left_is_a_conflict(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_module, "_MOST_STANDING", 2)
    play, other = Play().dispatch().sign(), Play().dispatch(POLICE)
    await keep(store, play)
    with pytest.raises(LedgerConflict):
        await store.record(other.entries)


async def test_what_stands_of_one_case_holds_up_no_other(store: Store) -> None:
    plays = [Play(case_id=f"sample-20260304-{number:06}").dispatch() for number in range(4)]
    for play in plays:
        await take(store, play)
    await store.record(plays[0].entries)
    other = Play(case_id=plays[0].state.case_id).dispatch(POLICE)
    answers = await asyncio.gather(*(store.record(play.entries) for play in (other, *plays[1:])))
    assert [bool(answer.standing) for answer in answers] == [True, False, False, False]
    assert [await store.entries(play.state.case_id) for play in plays] == [play.entries for play in plays]


async def test_a_gap_is_refused_and_a_forged_hash_is_refused(store: Store) -> None:
    play = Play().dispatch().sign()
    await take(store, play)
    with pytest.raises(LedgerConflict) as gap:
        await store.record(play.entries[2:])
    assert gap.value.code == "ledger_gap"
    forged = play.entries[1].model_copy(update={"hash": "0" * 64})
    with pytest.raises(LedgerConflict) as conflict:
        await store.record([forged])
    assert conflict.value.code == "ledger_conflict"
    assert len(await store.entries(play.state.case_id)) == 1


async def test_two_writers_of_the_same_entries_write_them_once(store: Store) -> None:
    play = Play().dispatch().sign()
    await take(store, play)
    await asyncio.gather(*(store.record(play.entries) for _ in range(6)))
    assert await store.entries(play.state.case_id) == play.entries


async def test_one_key_takes_one_call_however_many_try_at_once(store: Store) -> None:
    plays = [Play(case_id=f"sample-20260304-{number:06}") for number in range(6)]
    taken = await asyncio.gather(
        *(take(store, play, key="k", answer=play.state.case_id) for play in plays), return_exceptions=True
    )
    assert sum(isinstance(each, IdempotencyClash) for each in taken) == 5
    assert sum(each is None for each in taken) == 1
    starts = await store.unstarted(NOW, 10)
    answer = await store.answered("town-officer", "k")
    assert answer is not None
    assert [start.opened.case_id for start in starts] == [answer.body]


async def test_the_first_answer_to_a_key_stays(store: Store) -> None:
    first, second = (Answer(body_digest="d", status=200, body=body) for body in ("1", "2"))
    await store.remember("p", "k", first, NOW)
    await store.remember("p", "k", second, NOW)
    assert await store.answered("p", "k") == first
    assert await store.answered("q", "k") is None


async def test_rebuilding_from_the_ledger_mends_read_models_that_were_changed(store: Store) -> None:
    play = Play().until_rating().rate(ECOLOGY)
    await keep(store, play)
    before = await everything(store)
    async with store._database.write() as connection:
        await connection.execute(update(CaseRow).values(stage="closed", state="{}"))
        await connection.execute(update(ClockRow).values(level=9))
        await connection.execute(text("DELETE FROM timeline"))
    assert await store.rebuild() == len(play.entries)
    assert await everything(store) == before


@pytest.mark.parametrize("statement", ["UPDATE ledger SET kind = 'x'", "DELETE FROM ledger"])
async def test_the_ledger_refuses_change_and_deletion(store: Store, statement: str) -> None:
    play = Play().dispatch()
    await keep(store, play)
    with pytest.raises((DBAPIError, StoreUnavailable), match="append-only"):
        async with store._database.write() as connection:
            await connection.execute(text(statement))
    assert await store.entries(play.state.case_id) == play.entries


async def test_notices_reach_the_offices_that_the_event_names_and_not_the_person_who_acted(
    store: Store,
) -> None:
    await store.load_district(district(), NOW)
    await keep(store, Play().dispatch(ECOLOGY, POLICE))
    assert [each.title for each in await store.inbox("dispatcher")] == ["新呼叫待派单"]
    for receiver in ("ecology-officer", "police-officer", "police-resident"):
        assert [each.title for each in await store.inbox(receiver)] == ["新派单待签收"]
    for receiver in ("ecology-second", "police-elsewhere", "market-officer", "town-officer", "ecology-head"):
        assert await store.inbox(receiver) == []


async def test_the_ladder_tells_each_rungs_receivers(store: Store) -> None:
    await store.load_district(district(), NOW)
    play = Play().dispatch(ECOLOGY).sign().later(days=3)
    await keep(store, play)
    titles = {who: [each.title for each in await store.inbox(who)] for who in ("ecology-head", "coordinator")}
    assert titles["ecology-head"] == ["第2级升级通知", "第1级升级通知"]
    assert titles["coordinator"] == ["第3级升级通知"]


async def test_somebody_who_left_the_districts_folder_is_told_nothing_more(store: Store) -> None:
    await store.load_district(district(), NOW)
    whole = district()
    without = tuple(person for person in whole.people if person.id != "ecology-officer")
    await store.load_district(whole.model_copy(update={"people": without}), NOW)
    await keep(store, Play().dispatch(ECOLOGY))
    assert await store.inbox("ecology-officer") == []
    assert [each.code for each in await store.standing_districts()] == ["sample"]


async def test_a_notice_leaves_once_and_a_failed_one_waits_for_its_time(store: Store) -> None:
    await store.load_district(district(), NOW)
    await keep(store, Play())
    (notice,) = await store.unsent("sample", 10, NOW)
    assert notice.receiver == "dispatcher"
    await store.failed(notice, "gateway away", NOW + timedelta(minutes=1))
    assert await store.unsent("sample", 10, NOW) == []
    (again,) = await store.unsent("sample", 10, NOW + timedelta(minutes=1))
    assert again.attempts == 1
    await store.sent([again.id], NOW)
    assert await store.unsent("sample", 10, NOW + timedelta(hours=1)) == []
    assert await store.mark_read("dispatcher", [again.id], NOW) == 1
    assert await store.mark_read("dispatcher", [again.id], NOW) == 0
    assert await store.mark_read("coordinator", [again.id], NOW) == 0
    assert await store.inbox("dispatcher", unread_only=True) == []


async def test_an_act_that_waits_for_temporal_is_kept_once(store: Store) -> None:
    command = Cancel(by=TOWN_OFFICER, reason="x", key="u")
    case_id = CaseId("sample-20260304-aaaaaa")
    for _ in range(2):
        await store.defer_act(case_id, "cancel", command.model_dump_json(), update_id="u", person="p", at=NOW)
    (pending,) = await store.unsettled(NOW, 10)
    assert Cancel.model_validate(pending.command) == command
    await store.act_failed(pending.id, "away", NOW + timedelta(seconds=5))
    assert await store.unsettled(NOW, 10) == []
    assert len(await store.pending_of(case_id)) == 1
    await store.settled(pending.id, "done", NOW)
    assert await store.pending_of(case_id) == []


# --- lists -------------------------------------------------------------------------------------------------


async def many(store: Store) -> list[Play]:
    """Commit cases that differ in everything that one can filter by; several share one moment."""
    plays = [
        Play("2026-03-04 09:00", case_id=f"sample-20260304-{number:06}", title=f"案件{number}")
        for number in range(5)
    ]
    plays.append(
        Play("2026-03-04 10:00", case_id="sample-20260304-b00000", township="other-town").dispatch(POLICE)
    )
    plays.append(Play("2026-03-04 11:00", case_id="sample-20260304-b00001").dispatch(ECOLOGY, MARKET).sign())
    plays.append(Play("2026-03-05 09:00", case_id="sample-20260305-c00000").until_rating().rate())
    plays.append(Play("2026-03-05 10:00", case_id="other-20260305-d00000", district="other"))
    for play in plays:
        await keep(store, play)
    return plays


FORGED = [
    base64.urlsafe_b64encode(json.dumps(["called_at", True, moment, case_id]).encode()).decode()
    for moment, case_id in (
        ("0001-01-01T00:00:00+08:00", "x"),
        ("2026-03-04T00:00:00+08:00", "a\0b"),
        ("2026-03-04T00:00:00", "x"),
    )
]


def ids(lines: Sequence[Any]) -> list[str]:
    """Return the case ids."""
    return [line.case_id for line in lines]


async def test_a_list_shows_exactly_the_cases_that_the_rules_let_a_person_see(store: Store) -> None:
    plays = await many(store)
    people = [*district().people, *district("other", "o-").people]
    for person in people:
        actor = person.actor()
        page = await store.cases(CaseQuery(limit=200), sight(actor), NOW)
        expected = {play.state.case_id for play in plays if may_see(actor, play.state)}
        assert set(ids(page.items)) == expected, person.id
    assert len(await everything(store)) == 4


async def test_pages_give_every_case_once_also_when_many_share_one_moment(store: Store) -> None:
    plays = await many(store)
    everybody = sight(next(p for p in district().people if p.id == "leader").actor())
    for sort in Sort:
        for descending in (True, False):
            found: list[str] = []
            cursor = None
            while True:
                query = CaseQuery(sort=sort, descending=descending, limit=2, cursor=cursor)
                page = await store.cases(query, everybody, NOW)
                found += ids(page.items)
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert sorted(found) == sorted(play.state.case_id for play in plays), (sort, descending)
            if sort is Sort.NEXT_DUE_AT:
                assert found[-1] == "sample-20260305-c00000"


@pytest.mark.parametrize("cursor", ["x", "!!!", "W10", "WyJjYWxsZWRfYXQiLHRydWUsImJhZCIsMV0", *FORGED])
async def test_a_cursor_that_is_not_ours_is_refused(store: Store, cursor: str) -> None:
    everybody = sight(district().people[0].actor())
    with pytest.raises(Invalid) as caught:
        await store.cases(CaseQuery(cursor=cursor), everybody, NOW)
    assert caught.value.code == "bad_cursor"


async def test_every_filter_narrows_the_list(store: Store) -> None:
    await many(store)
    everybody = sight(next(p for p in district().people if p.id == "leader").actor())
    late = shanghai("2026-03-04 09:31")

    async def found(now: datetime = NOW, **filters: Any) -> int:
        return len((await store.cases(CaseQuery(**filters), everybody, now)).items)

    assert await found() == 9
    assert await found(district="other") == 1
    assert await found(township="other-town") == 1
    assert await found(department=POLICE) == 2
    assert await found(stage="signed") == 1
    assert await found(stage="closed") == 1
    assert await found(text="案件3") == 1
    assert await found(text="100%_") == 0
    assert await found(text="示例路") == 9
    assert await found(called_from=shanghai("2026-03-05 00:00")) == 2
    assert await found(called_before=shanghai("2026-03-05 00:00")) == 7
    assert await found(overdue=True) == 0
    assert await found(overdue=True, now=late) == 5
    assert await found(overdue=False, now=late) == 4
    assert await found(item="paper-mill") == 0
    assert await found(category="enforcement", urgency="routine") == 9


async def test_moments_keep_their_time_zone(store: Store) -> None:
    play = Play()
    await keep(store, play)
    everybody = sight(next(p for p in district().people if p.id == "leader").actor())
    (line,) = (await store.cases(CaseQuery(), everybody, NOW)).items
    assert line.called_at == play.now
    assert line.called_at.tzinfo == UTC


async def test_a_naive_moment_is_refused(store: Store) -> None:
    with pytest.raises(Exception, match="naive"):
        await store.unstarted(datetime(2026, 3, 4), 10)  # noqa: DTZ001 - that is the point


async def test_a_database_that_is_away_is_told_from_a_bug(tmp_path_factory: pytest.TempPathFactory) -> None:
    for url in (
        "postgresql://nobody@127.0.0.1:1/none",
        f"sqlite:///{tmp_path_factory.mktemp('x')}/no/such.db",
    ):
        store = Store(url)
        with pytest.raises(StoreUnavailable):
            await store.ping()
        with pytest.raises(StoreUnavailable):
            await take(store, Play())
        await store.close()


def test_only_sqlite_and_postgresql_are_accepted() -> None:
    with pytest.raises(ValueError, match="PostgreSQL"):
        Database("mysql://x/y")


async def test_the_ledger_folds_to_what_the_read_model_says(store: Store) -> None:
    for departments in (DEPARTMENTS, (OrganisationCode("police"),)):
        play = Play(case_id=f"sample-20260304-f0000{len(departments)}").dispatch(*departments).later(days=5)
        await keep(store, play)
        entries: list[Entry] = await store.entries(play.state.case_id)
        assert fold(entries) == await store.case(play.state.case_id)


async def test_the_cases_of_a_half_open_period_come_in_batches_each_once_and_in_order(store: Store) -> None:
    plays = [
        Play(NOW + timedelta(minutes=minute // 2), case_id=f"case-{minute}").dispatch(
            ECOLOGY if minute % 2 else MARKET
        )
        for minute in range(7)  # two of each minute: pages must not break between them
    ]
    for play in reversed(plays):
        await keep(store, play)

    async def found(**wanted: Any) -> list[list[str]]:
        return [[each.case_id for each in batch] async for batch in store.states_called(**wanted)]

    everything = [f"case-{minute}" for minute in range(7)]
    assert await found() == [everything]
    assert await found(batch=3) == [everything[:3], everything[3:6], everything[6:]]
    assert await found(batch=7) == [everything]
    until = NOW + timedelta(minutes=2)
    assert await found(called_from=NOW + timedelta(minutes=1), called_before=until) == [everything[2:4]]
    assert await found(department=ECOLOGY, batch=2) == [["case-1", "case-3"], ["case-5"]]
    assert await found(district="elsewhere") == await found(township="other-town") == []
    states = [each async for batch in store.states_called(batch=2) for each in batch]
    assert states == [play.state for play in plays]

"""What an auditor is told: nothing about a whole record, and the exact place of whatever is not."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from domain import verify
from domain.case import CaseId
from domain.commands import AdoptTerms, Sign
from domain.district import AdoptionScope, Terms
from domain.events import Called, Entry, Escalated, Signed
from domain.lifecycle import fold
from domain.policy import ClockKind
from domain.ports import Carried, CaseStart, Receipt
from domain.verify import Check, Finding, ReadModel, Replayed, StoredRow, Verdict
from tests.records import (
    EVERY,
    PHOTO,
    Kept,
    disputed,
    late,
    rechained,
    replayed,
    row,
    rows,
    straight,
    swapped,
    under_way,
)
from tests.sample import ADMINISTRATOR, ECOLOGY, MARKET, OFFICERS, POLICE, TERMS, shanghai

CASE = CaseId("sample-20260304-aaaaaa")


def places(findings: list[Finding]) -> set[tuple[str, str, str]]:
    return {(finding.code, finding.row, finding.field) for finding in findings}


def chain(held: list[StoredRow]) -> set[tuple[str, str, str]]:
    return places(verify.read_chain(CASE, held).findings)


def clocks(entries: list[Entry], terms: Terms = TERMS, **more: object) -> set[tuple[str, str, str]]:
    return places(verify.check_clocks(entries, terms, **more))  # type: ignore[arg-type]


def at_kind(entries: list[Entry], kind: str) -> int:
    return next(place for place, entry in enumerate(entries) if entry.event.kind == kind)


# --- whole records -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("played", EVERY)
def test_of_a_whole_record_nothing_is_found(played: Callable[[], Kept]) -> None:
    play = played()
    held = rows(play.entries)
    read = verify.read_chain(CASE, held)
    assert read.entries == play.entries
    assert read.findings == []
    derived = verify.derive([replayed(play)])
    assert verify.compare_with_history(held, derived)[0] == []
    assert verify.check_clocks(play.entries, play.terms, until=play.now) == []


def test_the_plays_see_every_kind_of_escalation_and_of_deemed_act() -> None:
    kinds = {entry.event.kind for played in EVERY for entry in played().entries if entry.by is None}
    assert kinds >= {"sign_deemed", "escalated", "check_in_confirmed", "closed"}
    levels = {entry.event.level for entry in late().entries if isinstance(entry.event, Escalated)}
    assert levels == {1, 2, 3}


def test_every_act_of_the_plays_is_decided_again_from_its_own_events() -> None:
    acts = {entry.event.kind for played in EVERY for entry in played().entries if entry.by is not None}
    assert len(acts) >= 13
    for played in EVERY:
        assert clocks(played().entries) == set()


# --- the chain ---------------------------------------------------------------------------------------------


def test_a_changed_text_is_told_from_a_changed_hash_by_the_row_that_follows() -> None:
    held = rows(straight().entries)
    forged = held[3].entry.replace("police", "market")
    assert ("hash_mismatch", "第4条", "entry") in chain(
        [*held[:3], replace(held[3], entry=forged), *held[4:]]
    )
    assert ("hash_mismatch", "第4条", "hash") in chain(
        [*held[:3], replace(held[3], hash="0" * 64), *held[4:]]
    )
    assert ("hash_mismatch", "第2条", "entry 或 hash") in chain([held[0], replace(held[1], hash="0" * 64)])


def test_a_deleted_row_is_named_and_so_is_a_case_without_any() -> None:
    held = rows(straight().entries)
    assert ("row_missing", "第5条", "") in chain(held[:4] + held[5:])
    assert ("row_missing", "第1条", "") in chain(held[1:])
    assert chain([]) == {("no_rows", "", "")}


def test_a_row_inserted_again_or_from_another_case_is_named() -> None:
    held = rows(straight().entries)
    assert ("row_out_of_order", "第2条", "sequence") in chain([held[0], held[1], held[1], *held[2:]])
    stranger = replace(held[2], case_id="sample-20260304-bbbbbb")
    assert ("other_case", "第3条", "case_id") in chain([*held[:2], stranger, *held[3:]])


def test_rows_that_changed_places_are_named_both() -> None:
    found = chain(swapped(rows(straight().entries), 2, 5))
    assert ("column_differs", "第3条", "sequence") in found
    assert ("column_differs", "第6条", "sequence") in found


@pytest.mark.parametrize(
    ("column", "value"),
    [("at", shanghai("2026-03-01 09:00")), ("kind", "signed"), ("case_id", "another")],
)
def test_a_column_that_differs_from_the_text_is_named(column: str, value: object) -> None:
    held = rows(straight().entries)
    changed = replace(held[6], **{column: value})  # type: ignore[arg-type]
    assert ("column_differs", "第7条", column) in chain([*held[:6], changed, *held[7:]])


def test_a_backdated_entry_is_named_even_when_every_hash_fits() -> None:
    entries = straight().entries
    backdated = entries[4].model_copy(update={"at": entries[2].at - timedelta(seconds=1)})
    found = chain(rows(rechained([*entries[:4], backdated, *entries[5:]])))
    assert found == {("time_goes_back", "第5条", "entry.at")}


def test_a_text_that_is_no_entry_or_not_in_canonical_form_is_named() -> None:
    held = rows(straight().entries)
    for nonsense in ("", "[]", "{}", "[" * 100_000, '{"case_id":1}'):
        assert ("unreadable", "第2条", "entry") in chain([held[0], replace(held[1], entry=nonsense)])
    spaced = held[1].entry.replace('":', '": ')
    assert ("not_canonical", "第2条", "entry") in chain([held[0], replace(held[1], entry=spaced)])


def test_a_forged_sequence_number_fills_no_memory() -> None:
    held = rows(straight().entries)
    assert len(verify.read_chain(CASE, [held[0], replace(held[1], sequence=10**12)]).findings) < 1100


# --- the history -------------------------------------------------------------------------------------------


def compared(play: Kept, held: list[StoredRow], **how: object) -> tuple[set[tuple[str, str, str]], str]:
    derived = verify.derive([replayed(play, **how)])  # type: ignore[arg-type]
    findings, note = verify.compare_with_history(held, derived)
    return places(findings), note


def test_a_ledger_rewritten_from_end_to_end_differs_from_its_history_at_the_exact_field() -> None:
    play = straight()
    event = play.entries[3].event
    assert isinstance(event, Signed)
    forged = play.entries[3].model_copy(update={"event": event.model_copy(update={"late": True})})
    held = rows(rechained([*play.entries[:3], forged, *play.entries[4:]]))
    assert chain(held) == set()
    found, _ = compared(play, held)
    assert ("differs_from_history", "第4条", "entry.event.late") in found


def test_an_entry_that_the_history_does_not_know_and_one_that_the_ledger_lost_are_named() -> None:
    play = straight()
    shorter = Kept()
    shorter.entries = play.entries[:-1]
    found, _ = compared(shorter, rows(play.entries), ended=True)
    assert found == {("not_in_history", f"第{len(play.entries)}条", "")}
    found, _ = compared(play, rows(play.entries[:-1]))
    assert found == {("missing_in_ledger", f"第{len(play.entries)}条", "")}


def test_a_ledger_that_has_yet_to_catch_up_is_behind_and_not_wrong() -> None:
    play = under_way()
    found, note = compared(play, rows(play.entries[:-2]), unrecorded=2)
    assert found == set()
    assert f"暂缺第{len(play.entries) - 1}至{len(play.entries)}条" in note
    found, _ = compared(play, rows(play.entries[:-3]), unrecorded=2)
    assert found == {("missing_in_ledger", f"第{len(play.entries) - 2}条", "")}


def test_a_receipt_in_the_history_that_does_not_fit_is_named() -> None:
    play = straight()
    run = replace(replayed(play), receipts=((17, 3, "0" * 64),))
    assert places(verify.derive([run]).findings) == {("receipt_differs", "事件17", "hash")}


def test_a_history_that_does_not_replay_is_said_once() -> None:
    for run in (
        Replayed(name="h", start=None, failure="NondeterminismError"),
        Replayed(name="h", start=None),
    ):
        findings, _ = verify.compare_with_history(rows(straight().entries), verify.derive([run]))
        assert [finding.code for finding in findings] == ["replay_failed"]


# --- runs that continue one another ------------------------------------------------------------------------


def two_runs(play: Kept, split: int, **changes: object) -> list[Replayed]:
    before, after = play.entries[:split], play.entries[split:]
    carried = Carried(
        state=fold(before),
        last=before[-1],
        latest=tuple(before[-3:]),
        receipts={"k": Receipt(sequence=2, hash=before[1].hash, stage="dispatched", recorded=True)},
    ).model_copy(update=changes)
    start = CaseStart(opened=before[0], terms=play.terms)
    return [
        Replayed(name="history-1", start=start, entries=tuple(before)),
        Replayed(
            name="history-2",
            start=start.model_copy(update={"carried": carried}),
            entries=tuple(after),
            ended=True,
        ),
    ]


def test_a_case_in_two_runs_derives_as_one() -> None:
    play = straight()
    derived = verify.derive(two_runs(play, 7))
    assert derived.findings == []
    assert derived.entries == play.entries
    assert verify.compare_with_history(rows(play.entries), derived)[0] == []


def test_carried_state_that_is_not_the_fold_of_what_was_before_is_named_by_its_part() -> None:
    play = straight()
    before = play.entries[:7]
    for part, value in {
        "state": fold(before[:-1]),
        "last": before[-2],
        "latest": tuple(before[:3]),
        "receipts": {"k": Receipt(sequence=2, hash="0" * 64, stage="", recorded=True)},
    }.items():
        findings = verify.derive(two_runs(play, 7, **{part: value})).findings
        assert places(findings) == {("carried_differs", "", f"input.carried.{part}")}
        assert findings[0].table == "history-2"


def test_a_missing_first_run_and_a_second_that_carries_nothing_are_named() -> None:
    first, second = two_runs(straight(), 7)
    assert [each.code for each in verify.derive([second]).findings] == ["run_missing"]
    assert "not_carried" in {each.code for each in verify.derive([first, first]).findings}
    assert [each.code for each in verify.derive([second, second]).findings] == ["run_missing"]


def test_what_a_run_had_not_got_into_the_ledger_when_it_was_ended_is_dropped_and_nothing_else() -> None:
    play = straight()
    first, second = two_runs(play, 7)
    lost = play.entries[7].model_copy(update={"key": "lost", "hash": "0" * 64})
    unrecorded = replace(first, entries=(*first.entries, lost), unrecorded=1)
    derived = verify.derive([unrecorded, second])
    assert (derived.findings, derived.dropped) == ([], 1)
    findings, note = verify.compare_with_history(rows(play.entries), derived)
    assert findings == []
    assert "另有 1 条在运行被终止时未及记入台账" in note
    acknowledged = replace(unrecorded, unrecorded=0)
    assert "carried_differs" in {each.code for each in verify.derive([acknowledged, second]).findings}


def test_where_the_newest_run_may_be_missing_all_before_it_is_compared_and_only_the_rest_left_open() -> None:
    play = straight()
    first, _ = two_runs(play, 7)
    derived = verify.derive([first])
    findings, _ = verify.compare_with_history(rows(play.entries), derived, gap="无")
    assert [(each.code, each.row, each.proven) for each in findings] == [
        ("history_missing", "第8条起", False)
    ]
    forged = play.entries[3].model_copy(update={"key": "forged"})
    held = rows(rechained([*play.entries[:3], forged, *play.entries[4:]]))
    codes = {(each.code, each.proven) for each in verify.compare_with_history(held, derived, gap="无")[0]}
    assert codes == {("differs_from_history", True), ("history_missing", False)}
    found, _ = verify.compare_with_history(rows(play.entries), derived)
    assert {each.code for each in found} == {"not_in_history"}


# --- read models -------------------------------------------------------------------------------------------


def test_a_changed_a_missing_and_an_added_row_of_a_read_model_are_named() -> None:
    right = ({"id": "a", "n": 1, "v": "x"}, {"id": "a", "n": 2, "v": "y"})
    stands = ({"id": "a", "n": 1, "v": "z"}, {"id": "a", "n": 3, "v": "y"})
    findings = verify.compare_read_models(
        [ReadModel(table="t", keys=("id", "n"), expected=right, found=stands)]
    )
    assert places(findings) == {
        ("column_differs", "a/1", "v"),
        ("row_missing", "a/2", ""),
        ("row_added", "a/3", ""),
    }


# --- clocks ------------------------------------------------------------------------------------------------


def test_an_escalation_that_was_left_out_is_missed_before_the_next_entry() -> None:
    entries = late().entries
    place = at_kind(entries, "escalated")
    found = clocks(rechained([*entries[:place], *entries[place + 1 :]]))
    assert ("not_fired", f"第{place + 1}条之前", "") in found


def test_an_escalation_fired_twice_or_too_early_was_not_due() -> None:
    entries = late().entries
    place = at_kind(entries, "escalated")
    twice = rechained([*entries[: place + 1], entries[place], *entries[place + 1 :]])
    assert ("not_due", f"第{place + 2}条", "entry.event") in clocks(twice)
    early = entries[place].model_copy(update={"at": entries[0].at})
    found = clocks(rechained([entries[0], early, *entries[1:]]))
    assert ("not_due", "第2条", "entry.event") in found


def test_escalations_in_the_wrong_order_are_named() -> None:
    entries = late().entries
    place = next(
        number
        for number, (one, other) in enumerate(itertools.pairwise(entries))
        if one.by is None and other.by is None and one.at == other.at
    )
    turned = [*entries[:place], entries[place + 1], entries[place], *entries[place + 2 :]]
    assert ("out_of_order", f"第{place + 1}条", "entry.event") in clocks(rechained(turned))


def test_a_moment_in_what_a_clock_did_is_recomputed() -> None:
    entries = late().entries
    place = at_kind(entries, "escalated")
    event = entries[place].event
    assert isinstance(event, Escalated)
    forged = event.model_copy(update={"rung_due_at": event.rung_due_at + timedelta(hours=1)})
    changed = [*entries[:place], entries[place].model_copy(update={"event": forged}), *entries[place + 1 :]]
    found = clocks(rechained(changed))
    assert ("clock_differs", f"第{place + 1}条", "entry.event.rung_due_at") in found


def test_the_due_moments_of_every_clock_that_an_act_starts_are_recomputed() -> None:
    for played in EVERY:
        entries = played().entries
        for place, entry in enumerate(entries):
            for number, clock in enumerate(entry.event.clocks):
                longer = clock.model_copy(update={"due_at": clock.due_at + timedelta(days=365)})
                started = (*entry.event.clocks[:number], longer, *entry.event.clocks[number + 1 :])
                forged = entry.model_copy(
                    update={"event": entry.event.model_copy(update={"clocks": started})}
                )
                found = clocks(rechained([*entries[:place], forged, *entries[place + 1 :]]))
                column = f"entry.event.clocks[{number}].due_at"
                assert ("act_differs", f"第{place + 1}条", column) in found


def test_an_act_that_the_rules_refuse_is_named_but_proves_nothing_without_a_history() -> None:
    entries = straight().entries
    place = at_kind(entries, "signed")
    stranger = entries[place].model_copy(update={"by": OFFICERS[MARKET]})
    findings = verify.check_clocks(rechained([*entries[:place], stranger, *entries[place + 1 :]]), TERMS)
    assert places(findings) == {("act_not_reproduced", f"第{place + 1}条", "entry.event")}
    assert not findings[0].proven


def test_what_cannot_happen_at_all_ends_the_recomputation() -> None:
    entries = straight().entries
    found = clocks(rechained([entries[0], entries[0], *entries[1:]]))
    assert ("cannot_happen", "第2条", "entry.event") in found
    assert clocks(rechained(entries[1:])) == {("cannot_happen", "第1条", "entry.event")}


def test_a_call_that_the_rules_would_not_have_taken_is_named() -> None:
    entries = straight().entries
    event = entries[0].event
    assert isinstance(event, Called)
    elsewhere = event.model_copy(update={"call": event.call.model_copy(update={"township": "nowhere"})})
    found = clocks(rechained([entries[0].model_copy(update={"event": elsewhere}), *entries[1:]]))
    assert ("act_refused", "第1条", "entry.event") in found


def test_an_open_case_lacks_what_fell_due_since_its_last_entry() -> None:
    play = under_way()
    assert clocks(play.entries, until=play.now) == set()
    found = clocks(play.entries, until=play.now + timedelta(days=3))
    assert ("not_fired", "末条之后", "") in found


def test_an_act_without_its_sign_clock_is_late_by_the_rules_of_its_own_moment() -> None:
    play = Kept().dispatch(ECOLOGY).later(hours=3)
    play.do(Sign(by=OFFICERS[ECOLOGY], department=ECOLOGY))
    place = at_kind(play.entries, "signed")
    event = play.entries[place].event
    assert isinstance(event, Signed)
    on_time = event.model_copy(update={"late": False})
    forged = [*play.entries[:place], play.entries[place].model_copy(update={"event": on_time})]
    assert ("act_differs", f"第{place + 1}条", "entry.event.late") in clocks(rechained(forged))


def test_terms_that_a_case_adopts_on_its_way_hold_from_there_on() -> None:
    later = TERMS.model_copy(
        update={
            "policy": TERMS.policy.model_copy(
                update={"ladder": TERMS.policy.ladder.model_copy(update={"department": ()})}
            )
        }
    )

    play = Kept().dispatch(ECOLOGY)
    adopting = AdoptTerms(by=ADMINISTRATOR, scope=AdoptionScope.POLICY, terms=later, reason="新政策")
    play.do(adopting).later(days=9)
    assert all(not entry.event.department for entry in play.entries if isinstance(entry.event, Escalated))
    assert clocks(play.entries) == set()
    assert clocks([*play.entries[:-3], *play.entries[-2:]]) != set()


def test_what_a_replay_has_decided_again_needs_no_second_look() -> None:
    entries = straight().entries
    place = at_kind(entries, "signed")
    stranger = entries[place].model_copy(update={"by": OFFICERS[POLICE]})
    forged = rechained([*entries[:place], stranger, *entries[place + 1 :]])
    assert clocks(forged, rederived={entry.sequence for entry in forged}) == set()


# --- reports -----------------------------------------------------------------------------------------------


def test_what_is_wrong_weighs_more_than_what_could_not_be_checked() -> None:
    def verdict(*proven: bool) -> Verdict:
        return Verdict(
            check=Check.CHAIN,
            findings=tuple(
                Finding(check=Check.CHAIN, code="c", table="t", detail="d", proven=each) for each in proven
            ),
        )

    assert [verdict().status, verdict(False).status, verdict(False, True).status] == [0, 2, 1]
    assert verify.status_of([verdict(), verdict(False)]) == 2
    assert verify.status_of([verdict(True), verdict(False)]) == 1
    assert verify.status_of([]) == 0


def test_a_place_reads_as_table_row_and_column() -> None:
    finding = Finding(check=Check.CHAIN, code="c", table="ledger", row="第3条", field="hash", detail="d")
    assert finding.place == "ledger,第3条,hash"


def test_attachments_are_found_wherever_in_an_event_they_stand() -> None:
    found = list(verify.attachments_of(straight().entries))
    assert [attachment for _, attachment in found] == [PHOTO, PHOTO]
    assert found[0][0] == 1


def test_every_check_has_a_chinese_line() -> None:
    assert set(verify.CHECKS) == set(Check)


def test_the_clock_that_ran_on_after_a_dispute_rings_in_the_record() -> None:
    kinds = [entry.event.clock for entry in disputed().entries if isinstance(entry.event, Escalated)]
    assert ClockKind.CHECK_IN in kinds
    assert row(disputed().entries[0]).sequence == 1

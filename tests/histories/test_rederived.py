"""What every recorded history decides is, byte for byte, what it decided when it was recorded: its receipts say so."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.evidence import projected
from adapters.histories import read_run
from domain import audit, verify
from domain.verify import Check
from starter.auditor import judge
from starter.replay import replay
from tests.records import rows

HISTORIES = sorted(Path(__file__).parent.glob("*.json"))


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_the_entries_of_a_recorded_history_have_the_hashes_that_its_receipts_name(file: Path) -> None:
    (run,) = await replay([read_run(file.name, f"case/{file.stem}", file.read_text())])
    assert run.failure == ""
    assert run.start is not None
    hashes = {entry.sequence: entry.hash for entry in run.entries}
    assert run.receipts[-1][2] == run.entries[-1].hash
    assert all(hashes[sequence] == said for _, sequence, said in run.receipts)
    assert {sequence for _, sequence, _ in run.receipts} >= {max(hashes)}
    assert run.unrecorded == 0
    if run.start.carried is not None:
        return  # goes on from a ledger that is not in this file: its own entries hang on the last one carried
    audit.check_chain(run.entries)
    assert verify.derive([run]).findings == []
    assert verify.check_clocks(run.entries, run.start.terms) == []


@pytest.mark.parametrize("file", HISTORIES, ids=lambda file: file.stem)
async def test_the_ledger_of_a_recorded_case_is_not_accused_once_its_history_is_gone(file: Path) -> None:
    (run,) = await replay([read_run(file.name, f"case/{file.stem}", file.read_text())])
    assert run.start is not None
    if run.start.carried is not None:
        return  # the ledger that it goes on from is not in this file
    verdicts = judge(
        run.start.opened.case_id,
        rows(run.entries),
        terms_text=run.start.terms.model_dump_json(),
        read_models=projected(run.entries, run.start.terms),
        replayed=[],
        gap="gone",
        read_at=run.entries[-1].at,
    )
    assert [(each.check, each.status) for each in verdicts] == [
        (Check.CHAIN, 0),
        (Check.HISTORY, 2),
        (Check.READ_MODELS, 0),
        (Check.CLOCKS, 0),
    ]


async def test_a_receipt_that_was_changed_in_a_recorded_history_is_noticed() -> None:
    file = next(each for each in HISTORIES if each.stem.endswith("straight"))
    (run,) = await replay([read_run(file.name, "case/x", file.read_text())])
    event, sequence, said = run.receipts[3]
    forged = tuple(
        (event, sequence, "0" * 64) if each == (event, sequence, said) else each for each in run.receipts
    )
    assert verify.derive([replace(run, receipts=forged)]).findings


async def test_a_run_that_no_worker_has_taken_up_yet_has_decided_only_what_it_was_started_with() -> None:
    content = json.loads(next(each for each in HISTORIES if each.stem.endswith("straight")).read_text())
    for kept in (1, 2, 3):
        begun = json.dumps({"events": content["events"][:kept]})
        (run,) = await replay([read_run("begun", "case/x", begun)])
        assert run.failure == ""
        assert [entry.sequence for entry in run.entries] == [1]
        assert (run.unrecorded, run.ended) == (1, False)
    (nothing,) = await replay([read_run("nothing", "case/x", '{"events": []}')])
    assert nothing.failure

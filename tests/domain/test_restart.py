"""A case goes on only from a ledger that nothing outside it contradicts."""

import pytest

from domain.errors import LedgerConflict
from domain.ports import CaseStart, KnownHead
from domain.restart import require_extends
from tests.records import rechained, straight


def test_a_ledger_goes_on_from_what_was_taken_and_from_every_head_that_is_known() -> None:
    play = straight()
    start = CaseStart(opened=play.entries[0], terms=play.terms)
    known = [
        KnownHead(source="锚定", sequence=entry.sequence, hash=entry.hash) for entry in play.entries[2:6:2]
    ]
    require_extends(start, play.entries, known)
    require_extends(start, play.entries, [])
    changed = play.entries[3].model_copy(update={"key": "forged"})
    forged = rechained([*play.entries[:3], changed, *play.entries[4:]])
    require_extends(start, forged, known[:1])
    for ledger, told in ((forged, "台账中哈希为"), (play.entries[:4], "没有这一条")):
        with pytest.raises(LedgerConflict) as refused:
            require_extends(start, ledger, known)
        assert refused.value.code == "ledger_rewritten"
        assert "其时第 5 条" in refused.value.detail
        assert told in refused.value.detail


def test_a_ledger_that_begins_with_another_call_than_was_taken_is_refused() -> None:
    play = straight()
    start = CaseStart(opened=play.entries[0].model_copy(update={"hash": "1" * 64}), terms=play.terms)
    with pytest.raises(LedgerConflict, match="受理记录"):
        require_extends(start, play.entries, [])

"""Everything that may happen is told in Chinese, with the offices' names, and to somebody or on purpose to nobody."""

import re
from typing import get_args

from domain import words
from domain.commands import Cancel
from domain.events import Event
from domain.lifecycle import evolve, terms_after
from domain.notices import notice_of
from tests.adapters.test_mechanism_store import every_kind
from tests.domain.test_words import eventful
from tests.sample import FULL_TERMS, TOWN_OFFICER, Play

SILENT = {"signed", "sign_deemed", "check_in_confirmed", "plan_agreed", "action_taken", "rated", "watched"}
"""What everybody concerned sees on the case itself, or has caused."""


def test_every_event_is_told_as_a_chinese_sentence_without_codes() -> None:
    told: set[str] = set()
    noticed: set[str] = set()
    cancelled = Play(terms=FULL_TERMS).do(Cancel(by=TOWN_OFFICER, reason="已解决"))
    for play in [*every_kind(), eventful(), cancelled]:
        state, terms = None, FULL_TERMS
        for entry in play.entries:
            state, terms = evolve(state, entry), terms_after(entry, terms)
            text = words.sentence(entry, terms)
            assert re.search("[\u4e00-\u9fff]", text)
            assert not re.search(r"\b(ecology|police|market|housing|town|None|True|False)\b", text), text
            told.add(entry.event.kind)
            if notice := notice_of(entry, state, terms):
                about = f"{words.subject(state, terms)}({state.case_id})"
                assert (notice.text, bool(notice.to)) == (f"{about}:{text}", True)
                noticed.add(entry.event.kind)
        assert words.details(play.state, play.entries[-8:], play.now, terms).startswith("## ")
    kinds = {each.model_fields["kind"].default for each in get_args(get_args(Event)[0])}
    assert told == kinds
    assert kinds - noticed == SILENT

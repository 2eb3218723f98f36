"""What already stands in the ledger of a task that was lost, and whether it is the case's own decision.

A worker may be killed after the ledger has committed and before Temporal has heard of it. The task comes again, at
another moment, and decides the same acts anew: other moments, other hashes, at places that are taken. What stands is
taken on if the rules make exactly that of acts that the case has before it, and of its clocks; nothing else ever is.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple, Self

from domain import audit
from domain.case import CaseState
from domain.commands import AnyCommand
from domain.district import Terms
from domain.errors import DomainError
from domain.events import Entry
from domain.lifecycle import decide, evolve, overdue, terms_after


class Point(NamedTuple):
    """A case after one of its entries, with the terms that hold from there on."""

    state: CaseState
    last: Entry
    terms: Terms

    def after(self, entries: Sequence[Entry]) -> Self:
        """Return the case once these have happened, too."""
        state, last, terms = self
        for entry in entries:
            state, last, terms = evolve(state, entry), entry, terms_after(entry, terms)
        return type(self)(state, last, terms)


class Step(NamedTuple):
    """What an act, or the clocks (`command` is None), did, and the case after it."""

    command: AnyCommand | None
    entries: Sequence[Entry]
    point: Point


def rederived(
    point: Point, standing: Sequence[Entry], commands: Sequence[AnyCommand], *, until: datetime
) -> list[Step] | None:
    """Return the steps that the standing entries consist of; None unless every one of them is our own decision.

    Args:
        point: the case at the last entry that is known to be recorded.
        standing: what the ledger holds from there on.
        commands: the acts that may have caused it; each at most once.
        until: the moment that nothing can have been decided after.
    """
    steps: list[Step] = []
    left, waiting = list(standing), list(commands)
    while left:
        if not point.state.acted_at <= left[0].at <= until:
            return None
        step = _clocks_step(point, left[0]) if left[0].by is None else _act_step(point, left, waiting)
        if step is None or not _begins_with(left, step.entries):
            return None
        if step.command is not None:
            waiting = [each for each in waiting if each is not step.command]
        steps.append(step)
        point, left = step.point, left[len(step.entries) :]
    return steps


def _clocks_step(point: Point, first: Entry) -> Step | None:
    entries = _overdue(point, first.at)
    return Step(None, entries, point.after(entries)) if entries else None


def _act_step(point: Point, left: Sequence[Entry], commands: Sequence[AnyCommand]) -> Step | None:
    """Return the step of the first of these acts that makes the next entries; before any act come the clocks."""
    first = left[0]
    if _overdue(point, first.at):
        return None
    for command in commands:
        if (command.key, command.by) != (first.key, first.by):
            continue
        try:
            entries = _decided(point, command, first.at)
        except DomainError:
            continue
        if entries and _begins_with(left, entries):
            return Step(command, entries, point.after(entries))
    return None


def _begins_with(left: Sequence[Entry], entries: Sequence[Entry]) -> bool:
    return [each.hash for each in left[: len(entries)]] == [each.hash for each in entries]


def carried_out(point: Point, command: AnyCommand, at: datetime) -> list[Step]:
    """Return what happens when the act is done at this moment: first the clocks, then the act, and the clocks again.

    Raises:
        DomainError: as `lifecycle.decide`.
    """
    steps: list[Step] = []
    if before := _overdue(point, at):
        point = point.after(before)
        steps.append(Step(None, before, point))
    entries = _decided(point, command, at)
    point = point.after(entries)
    steps.append(Step(command, entries, point))
    if after := _overdue(point, at):
        steps.append(Step(None, after, point.after(after)))
    return steps


def _overdue(point: Point, at: datetime) -> list[Entry]:
    events = overdue(point.state, at, point.terms)
    return audit.chain(point.state.case_id, events, after=point.last, at=at, by=None)


def _decided(point: Point, command: AnyCommand, at: datetime) -> list[Entry]:
    events = decide(point.state, command, at, point.terms)
    return audit.chain(point.state.case_id, events, after=point.last, at=at, by=command.by, key=command.key)

"""Calls the roll of a period: which cases Temporal, archive and anchors know, and whether the database has them all."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from adapters import anchors as published
from adapters.evidence import Registered
from adapters.store import Store
from domain import anchor as anchoring
from domain.case import CaseId
from domain.ports import Archive
from domain.roll import Scope, missing_cases, orphaned_rows
from domain.verify import Check, Finding, Verdict
from workflows import names

_WITHIN = timedelta(seconds=30)
_CASE = names.case_workflow_id(CaseId(""))


@dataclass(frozen=True, slots=True, kw_only=True)
class RollCall:
    """What calling the roll gave.

    Attributes:
        known: cases of the period that somebody knows and that the database has, too.
    """

    verdicts: tuple[Verdict, ...]
    known: tuple[CaseId, ...]


@dataclass(slots=True)
class _Witnesses:
    """Who knows which case; and whom nobody could ask."""

    scope: Scope
    by_case: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[str, int] = field(default_factory=dict)
    unasked: list[Finding] = field(default_factory=list)

    def say(self, who: str, told: Mapping[str, str]) -> None:
        """Take what one of them knows: for each case what to call it there."""
        meant = {case_id: text for case_id, text in told.items() if self.scope.covers(case_id)}
        self.counts[who] = len(meant)
        for case_id, text in meant.items():
            self.by_case[case_id].append(text)

    def not_asked(self, who: str, why: str) -> None:
        """Keep that one of them did not answer."""
        detail = f"{who}无法读取,未能对照:{why[:100]}"
        self.unasked.append(
            Finding(check=Check.CASES, code="not_compared", table=who, detail=detail, proven=False)
        )


async def call_roll(
    store: Store, client: Client, archive: Archive | None, anchor_files: Path | None, scope: Scope
) -> RollCall:
    """Hold the database against everybody who knows cases of it, and its read models against the ledger.

    The others are asked first: what they know the database has held before them, so that a case that is called
    meanwhile accuses nobody.
    """
    witnesses = _Witnesses(scope)
    try:
        witnesses.say("Temporal", {case_id: text async for case_id, text in _running_or_retained(client)})
    except (RPCError, RuntimeError) as error:
        witnesses.not_asked("Temporal", str(error))
    registered = await store.registered()
    unarchived = [each for row in registered if scope.covers(row.case_id) for each in row.unreadable]
    try:
        stored_names = set(await archive.names("cases")) if archive else set()
        kept = {name.split("/")[1] for name in stored_names} | {row.case_id for row in registered}
        witnesses.say("归档", dict.fromkeys(kept, "归档"))
        if archive is not None:
            unarchived += not_there([row for row in registered if scope.covers(row.case_id)], stored_names)
    except OSError as error:
        witnesses.not_asked("归档", str(error))
    await _ask_anchors(store, anchor_files, witnesses)
    held = await store.held(sorted(witnesses.by_case))
    told = "、".join(f"{who} {count} 件" for who, count in witnesses.counts.items())
    findings = [*missing_cases(witnesses.by_case, held), *unarchived, *witnesses.unasked]
    findings += [
        _unreadable(code)
        for code in await store.unreadable_districts()
        if scope.district is None or code == scope.district
    ]
    orphans = await store.orphans()
    if orphans and scope.district is not None:
        # What a row says of its time is not believed, so that the period does not count here.
        here, shown = Scope(district=scope.district), await store.listed_in(scope.district)
        orphans = [each for each in orphans if here.covers(each.case_id) or each.case_id in shown]
    return RollCall(
        verdicts=(
            Verdict(check=Check.CASES, findings=tuple(findings), note=f"对照 {told}"),
            Verdict(
                check=Check.READ_MODELS,
                findings=tuple(orphaned_rows(orphans)),
                note="全部各行,不限期间:有行必有台账",
            ),
        ),
        known=tuple(CaseId(case_id) for case_id in sorted(held)),
    )


def not_there(registered: Sequence[Registered], there: Collection[str]) -> list[Finding]:
    """Name the rows of which the archive does not have the file, or which name the file of another."""
    findings = []
    for row in registered:
        if row.unreadable or (row.name == row.right_name and row.name in there):
            continue
        detail = "登记为已归档,而归档中没有其文件:文件被删除,或此行是绕过系统写入的。"
        findings.append(
            Finding(check=Check.CASES, code="archive_damaged", table=row.table, row=row.row, detail=detail)
        )
    return findings


def _unreadable(district: str) -> Finding:
    """Nobody is accused: an older version may have written what this one cannot read."""
    return Finding(
        check=Check.CASES,
        code="unreadable",
        table="districts",
        row=district,
        field="document",
        detail="区(市)的原文无法读取:被改动,或由其他版本写入;重新载入区(市)资料即可恢复。",
        proven=False,
    )


async def _running_or_retained(client: Client) -> AsyncIterator[tuple[str, str]]:
    """Give every case of which Temporal has a run; the newest run of each comes last."""
    runs = [
        (each.start_time, each.id.removeprefix(_CASE), each.status)
        async for each in client.list_workflows(f"WorkflowType = '{names.CASE}'", rpc_timeout=_WITHIN)
        if each.id.startswith(_CASE)
    ]
    for _, case_id, status in sorted(runs, key=lambda run: run[:2]):
        runs_on = status is WorkflowExecutionStatus.RUNNING
        yield case_id, f"Temporal({'运行中' if runs_on else '已结束'})"


async def _ask_anchors(store: Store, folder: Path | None, witnesses: _Witnesses) -> None:
    told: dict[str, str] = {}
    files: Mapping[str, Sequence[anchoring.StoredAnchor]] = {}
    try:
        files = published.read_published(folder)[0] if folder is not None and folder.is_dir() else {}
    except published.AnchorInvalid as invalid:
        witnesses.not_asked("锚定文件", invalid.detail)
    codes = {*await store.anchored_districts(), *files}
    for code in sorted(codes):
        for some in (files.get(code, ()), await store.anchors(code)):
            for anchor in anchoring.read_anchors(some).anchors:
                told |= {head.case_id: f"{anchor.day} 第{anchor.number}号锚定" for head in anchor.changed}
    witnesses.say("锚定", told)

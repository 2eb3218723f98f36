"""Whether a record is what happened: what is stored is held against what the rules make of it.

Pure: rows and re-derived entries come in, findings go out, each with its exact place. Nothing here knows single acts,
events or kinds of clock: the checks run the rules again (`lifecycle.overdue`, `decide`, `evolve`) and compare.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ValidationError

from domain import audit
from domain.case import Attachment, CaseId, CaseState
from domain.commands import COMMANDS, AnyCommand
from domain.district import Terms
from domain.errors import DomainError
from domain.events import Called, Entry, Event
from domain.lifecycle import decide, evolve, fold, open_case, overdue, terms_after
from domain.ports import Carried, CaseStart


class Check(StrEnum):
    """What is checked, one line each in a report."""

    SIGNATURE = "signature"
    FILES = "files"
    CHAIN = "chain"
    HISTORY = "history"
    READ_MODELS = "read_models"
    CLOCKS = "clocks"
    ATTACHMENTS = "attachments"
    ANCHORS = "anchors"
    INTAKE = "intake"
    OPERATIONS = "operations"
    DECODINGS = "decodings"
    CASES = "cases"
    REGISTER = "register"
    ACTS = "acts"
    DIRECTORY = "directory"


class DigestName(StrEnum):
    """With what the files of an audit bundle are digested: SHA-256, or SM3 (GB/T 32905)."""

    SHA256 = "sha256"
    SM3 = "sm3"


CHECKS = {
    Check.SIGNATURE: "签名有效",
    Check.FILES: "文件与清单一致",
    Check.CHAIN: "台账哈希链完整",
    Check.HISTORY: "台账由执行历史得出",
    Check.READ_MODELS: "读模型由台账得出",
    Check.CLOCKS: "时钟与升级逐一重算",
    Check.ATTACHMENTS: "附件与摘要一致",
    Check.ANCHORS: "台账、日志与历次锚定一致",
    Check.INTAKE: "受理链完整",
    Check.OPERATIONS: "运维日志链完整",
    Check.DECODINGS: "解密记录链完整",
    Check.CASES: "没有整案缺失",
    Check.REGISTER: "归档登记与归档一致",
    Check.DIRECTORY: "区(市)资料与装载时一致",
    Check.ACTS: "暂存待补办的操作未被伪造",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be, or that could not be checked.

    Attributes:
        code: stable, for programs.
        table: the table or file; `row` names the row in it and `field` the column, each as far as known.
        detail: Chinese, for people.
        proven: False when it could only not be checked; such a finding accuses nobody.
    """

    check: Check
    code: str
    table: str
    detail: str
    row: str = ""
    field: str = ""
    proven: bool = True

    @property
    def place(self) -> str:
        """Where, for people: 'ledger,第3条,hash'."""
        return ",".join(part for part in (self.table, self.row, self.field) if part)


_NOT_CHECKED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of a report.

    Attributes:
        note: Chinese; what was looked at, or what is worth knowing though nothing is wrong.
    """

    check: Check
    findings: tuple[Finding, ...] = ()
    note: str = ""

    @property
    def label(self) -> str:
        """What was checked, in Chinese; of a signature that nobody's key was held against, no more than it is."""
        own = self.check is Check.SIGNATURE and self.status == _NOT_CHECKED
        return "签名自洽,但公钥未核对" if own else CHECKS[self.check]

    @property
    def status(self) -> int:
        """0 all good, 1 something is wrong, 2 it could not be checked."""
        if any(finding.proven for finding in self.findings):
            return 1
        return _NOT_CHECKED if self.findings else 0


def not_checked(error: Exception, check: Check, table: str, what: str) -> Finding:
    """Say that an unexpected error ended the verification of one thing; it accuses nobody.

    Args:
        what: Chinese; what was not verified to the end.
    """
    detail = f"核验中出现意外错误 {type(error).__name__},{what}未核验完毕。"
    return Finding(check=check, code="not_checked", table=table, detail=detail, proven=False)


def status_of(verdicts: Iterable[Verdict]) -> int:
    """Return the exit status of a whole report: what is wrong weighs more than what could not be checked."""
    statuses = {verdict.status for verdict in verdicts}
    return 1 if 1 in statuses else max(statuses, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """One row of the ledger as it stands, whoever wrote it.

    Attributes:
        unreadable: columns of which the value is none of the column's type; that has been said elsewhere.
    """

    case_id: str
    sequence: int
    at: datetime
    kind: str
    entry: str
    hash: str
    unreadable: tuple[str, ...] = ()


# --- the chain ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Chain:
    """The rows of a case, read: the entries as far as they can be read, and what is wrong with them."""

    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def read_chain(case_id: CaseId, rows: Sequence[StoredRow], *, table: str = "ledger") -> Chain:
    """Read the rows and check that they are one whole chain.

    Sequence numbers without gap, each hash over its text, each text bound to the hash before and in canonical form,
    the columns equal to the text, one case, and times that never go backwards.
    """
    chain = Chain()
    if not rows:
        chain.findings.append(_chain("no_rows", table, None, "", "台账中没有该案件的任何记录。"))
    expected, previous_hash, previous_at = 1, audit.GENESIS, datetime.min.replace(tzinfo=UTC)
    for row, following in itertools.zip_longest(rows, rows[1:]):
        chain.findings += _numbering(row, expected, table)
        entry = _readable(row, table, chain.findings)
        chain.findings += _own(row, entry, case_id, following, table)
        if entry is not None:
            chain.findings += _linked(row, entry, previous_hash, previous_at, table)
            chain.entries.append(entry)
            previous_at = max(previous_at, entry.at)
        expected, previous_hash = max(expected, row.sequence) + 1, row.hash
    return chain


def _chain(code: str, table: str, sequence: int | None, column: str, detail: str) -> Finding:
    row = f"第{sequence}条" if sequence is not None else ""
    return Finding(check=Check.CHAIN, code=code, table=table, row=row, field=column, detail=detail)


def _numbering(row: StoredRow, expected: int, table: str) -> Iterator[Finding]:
    for missing in range(expected, min(row.sequence, expected + _MOST_NAMED)):
        yield _chain("row_missing", table, missing, "", f"缺少第{missing}条记录。")
    if row.sequence < expected:
        yield _chain("row_out_of_order", table, row.sequence, "sequence", "序号重复或顺序被调换。")


_MOST_NAMED = 1000
"""How many missing rows are named one by one at most: a forged number must not fill the memory."""


def _readable(row: StoredRow, table: str, findings: list[Finding]) -> Entry | None:
    try:
        entry = Entry.model_validate({**json.loads(row.entry), "hash": row.hash})
        text = audit.canonical(entry)
    except (ValueError, TypeError, RecursionError, ValidationError):
        findings.append(_chain("unreadable", table, row.sequence, "entry", "记录原文无法读取。"))
        return None
    if text != row.entry:
        detail = f"记录原文不是规范形式:{_told(row.entry, text)}。"
        findings.append(_chain("not_canonical", table, row.sequence, "entry", detail))
    return entry


def _own(
    row: StoredRow, entry: Entry | None, case_id: CaseId, following: StoredRow | None, table: str
) -> Iterator[Finding]:
    """Check one row against itself."""
    right = audit.digest(row.entry)
    if row.hash != right:
        column = _which_changed(row, right, following)
        detail = {
            "entry": "记录原文被改动:与其哈希不符,而下一条仍指向该哈希。",
            "hash": "哈希被改动:与记录原文不符,而下一条指向原文的哈希。",
        }.get(column, "记录原文与其哈希不符。")
        yield _chain("hash_mismatch", table, row.sequence, column, detail)
    if row.case_id != case_id:
        yield _chain("other_case", table, row.sequence, "case_id", f"属于另一案件:{row.case_id}。")
    if entry is None:
        return
    columns: dict[str, tuple[object, object]] = {
        "case_id": (row.case_id, entry.case_id),
        "sequence": (row.sequence, entry.sequence),
        "at": (row.at, entry.at),
        "kind": (row.kind, entry.event.kind),
    }
    for column, (stored, said) in columns.items():
        if stored != said and column not in row.unreadable:
            detail = f"列值“{_short(stored)}”与记录原文中的“{_short(said)}”不符。"
            yield _chain("column_differs", table, row.sequence, column, detail)


def _which_changed(row: StoredRow, right: str, following: StoredRow | None) -> str:
    """Return which of text and hash was changed, as the next row's link tells."""
    if following is None:
        return "entry 或 hash"
    if f'"previous":"{row.hash}"' in following.entry:
        return "entry"
    return "hash" if f'"previous":"{right}"' in following.entry else "entry 和 hash"


def _linked(
    row: StoredRow, entry: Entry, previous_hash: str, previous_at: datetime, table: str
) -> Iterator[Finding]:
    if entry.previous != previous_hash:
        detail = "与上一条不相连:上一条被改动、删除、插入或调换。"
        yield _chain("broken_link", table, row.sequence, "entry.previous", detail)
    if entry.at < previous_at:
        yield _chain("time_goes_back", table, row.sequence, "entry.at", "时间早于上一条记录(倒填时间)。")


# --- the history -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What replaying one run of the case's workflow with our own code gave.

    Attributes:
        name: the run's file in a bundle, or its run id.
        start: what the run started with.
        entries: what the run decided, in order; without what it was handed by the run before.
        unrecorded: how many of the newest the ledger had not acknowledged yet.
        ended: whether the run is over.
        receipts: (history event, sequence, hash) of every answer that the history itself holds.
        failure: why the history does not replay; empty when it does.
    """

    name: str
    start: CaseStart | None
    entries: tuple[Entry, ...] = ()
    unrecorded: int = 0
    ended: bool = False
    receipts: tuple[tuple[int, int, str], ...] = ()
    failure: str = ""


@dataclass(slots=True)
class Derived:
    """What all runs of a case decided, one after the other.

    Attributes:
        bridged: the numbers of entries of which nobody has the history, and which a later run's carried head binds:
            they stand in `entries` as the ledger has them.
        dropped: how many entries of a run that was ended the ledger never had; the next run began before them.
    """

    entries: list[Entry] = field(default_factory=list)
    bridged: set[int] = field(default_factory=set)
    acknowledged: int = 0
    dropped: int = 0
    ended: bool = False
    findings: list[Finding] = field(default_factory=list)


def derive(runs: Sequence[Replayed], ledger: Sequence[Entry] = ()) -> Derived:
    """Join the runs of a case, and check what each handed to the next.

    A run that goes on for another starts with carried state: that must be the fold of the entries before. Where runs
    between the two are gone, the ledger's entries stand for them if they lead to the very head that was carried.

    Args:
        ledger: the ledger's entries, as far as they can be read.
    """
    derived = Derived()
    for number, run in enumerate(runs, start=1):
        if run.failure or run.start is None:
            derived.findings.append(
                _history(
                    "replay_failed", run.name, "", "", f"执行历史无法重放:{run.failure or '没有开始事件'}"
                )
            )
            return derived
        _drop_unrecorded(derived, run.start)
        if number > 1:
            _bridge(derived, run.start, ledger)
        derived.findings += _handed_over(derived.entries, run, first=number == 1)
        derived.entries += run.entries
        derived.acknowledged = len(derived.entries) - run.unrecorded
        derived.ended = run.ended
        derived.findings += _receipts(derived.entries, run)
    return derived


def _drop_unrecorded(derived: Derived, start: CaseStart) -> None:
    """Forget what a run had decided and not got into the ledger when it was ended: the case went on from the ledger.

    What the ledger had acknowledged stays: a run that begins before that contradicts the history.
    """
    if start.carried is None:
        return
    reached = start.carried.last.sequence
    if derived.acknowledged <= reached < len(derived.entries):
        derived.dropped += len(derived.entries) - reached
        del derived.entries[reached:]


def _bridge(derived: Derived, start: CaseStart, ledger: Sequence[Entry]) -> None:
    """Take from the ledger what came between the runs that are known, and say that nobody has its history."""
    known, last = len(derived.entries), start.carried.last if start.carried else None
    if last is None or last.sequence <= known:
        return
    between = ledger[known : last.sequence]
    follows = [entry.sequence for entry in between] == list(range(known + 1, last.sequence + 1))
    if not follows or between[-1] != last or not _leads_on(derived.entries[-1:], between):
        return  # which is said of what the run carries
    derived.entries += between
    numbers = [entry.sequence for entry in between]
    derived.bridged |= set(numbers)
    place = f"第{numbers[0]}至{numbers[-1]}条" if len(numbers) > 1 else f"第{numbers[0]}条"
    detail = "办理这些记录的运行已不存在(超过保留期或被删除),由后续运行承接的末条哈希佐证,未重放。"
    derived.findings.append(
        Finding(
            check=Check.HISTORY,
            code="history_missing",
            table="ledger",
            row=place,
            detail=detail,
            proven=False,
        )
    )


def _leads_on(before: Sequence[Entry], entries: Sequence[Entry]) -> bool:
    """Whether each of these entries binds the one before it, and its hash is that of its own text."""
    previous = [*before, *entries]
    return all(entry.previous == earlier.hash for earlier, entry in itertools.pairwise(previous)) and all(
        entry.hash == audit.digest(audit.canonical(entry)) for entry in entries
    )


def _history(code: str, table: str, row: str, column: str, detail: str) -> Finding:
    return Finding(check=Check.HISTORY, code=code, table=table, row=row, field=column, detail=detail)


def _handed_over(before: Sequence[Entry], run: Replayed, *, first: bool) -> Iterator[Finding]:
    assert run.start is not None  # noqa: S101 - the caller has looked
    carried = run.start.carried
    if carried is None:
        if not first:
            yield _history("not_carried", run.name, "", "input", "后续运行没有承接此前的案件状态。")
        return
    if first:
        yield _history("run_missing", run.name, "", "input.carried", "缺少此前运行的执行历史。")
        return
    try:
        state = fold(before)
    except DomainError:
        return  # what was before is not whole, which has been said
    yield from _carried(before, state, carried, run.name)


def _carried(before: Sequence[Entry], state: CaseState, carried: Carried, name: str) -> Iterator[Finding]:
    checks: dict[str, bool] = {
        "last": carried.last == before[-1],
        "state": carried.state == state,
        "latest": not carried.latest or list(carried.latest) == list(before[-len(carried.latest) :]),
        "receipts": all(
            0 < receipt.sequence <= len(before) and before[receipt.sequence - 1].hash == receipt.hash
            for receipt in carried.receipts.values()
        ),
    }
    for part, good in checks.items():
        if not good:
            detail = "承接的内容与此前全部记录推出的不符。"
            yield _history("carried_differs", name, "", f"input.carried.{part}", detail)


def _receipts(entries: Sequence[Entry], run: Replayed) -> Iterator[Finding]:
    """Check the answers that the history holds against what it decides when it is replayed."""
    hashes = {entry.sequence: entry.hash for entry in entries}
    for event, sequence, said in run.receipts:
        if hashes.get(sequence) != said:
            detail = f"历史中的回执记载第{sequence}条的哈希与重放得出的不符。"
            yield _history("receipt_differs", run.name, f"事件{event}", "hash", detail)


def compare_with_history(
    rows: Sequence[StoredRow], derived: Derived, *, gap: str = "", table: str = "ledger"
) -> tuple[list[Finding], str]:
    """Hold the ledger against the entries that replaying the history gave.

    Args:
        gap: Chinese; why there may have been a further run of which nobody has the history. Then what the ledger
            holds beyond the history is left open; all before it is compared as always.

    Returns:
        The findings, and a note: a ledger that only lacks what it has not acknowledged yet is behind, not wrong.
    """
    findings = list(derived.findings)
    if any(finding.code == "replay_failed" for finding in findings):
        return findings, ""
    stored = {row.sequence: row for row in rows}
    right = {entry.sequence: entry for entry in derived.entries}
    behind = []
    for sequence in sorted(stored.keys() | right.keys()):
        row, entry = stored.get(sequence), right.get(sequence)
        place = f"第{sequence}条"
        if entry is None and gap and sequence > len(right):
            findings.append(
                Finding(
                    check=Check.HISTORY,
                    code="history_missing",
                    table=table,
                    row=f"{place}起",
                    detail=gap,
                    proven=False,
                )
            )
            break
        if entry is None:
            findings.append(_history("not_in_history", table, place, "", "执行历史中没有这条记录。"))
        elif row is None:
            if sequence <= derived.acknowledged or derived.ended:
                findings.append(
                    _history("missing_in_ledger", table, place, "", "执行历史中有这条记录,台账中没有。")
                )
            else:
                behind.append(sequence)
        else:
            findings += _differing(row, entry, table, place)
    note = f"{len(right)} 条记录逐条重放比对"
    if derived.dropped:
        note += f";另有 {derived.dropped} 条在运行被终止时未及记入台账,案件由台账续办"
    if behind:
        note += f";台账暂缺第{behind[0]}至{behind[-1]}条(执行历史已有,尚未记入,将自动补记)"
    return findings, note


def _differing(row: StoredRow, entry: Entry, table: str, place: str) -> Iterator[Finding]:
    text = audit.canonical(entry)
    if row.entry != text:
        paths = [path for path, _, _ in _differences(_parsed(row.entry), json.loads(text))]
        column = ".".join(("entry", paths[0])) if paths else "entry"
        detail = f"与执行历史重放得出的不符:{_told(row.entry, text)}。"
        yield _history("differs_from_history", table, place, column, detail)
    elif row.hash != entry.hash:
        yield _history("differs_from_history", table, place, "hash", "哈希与执行历史重放得出的不符。")


def _parsed(text: str) -> Any:  # whatever stands there
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _told(stored: str, right: str) -> str:
    """Say in one line what differs between two texts."""
    told = [
        f"{path or '原文'} 为“{_short(mine)}”,应为“{_short(other)}”"
        for path, mine, other in itertools.islice(_differences(_parsed(stored), json.loads(right)), 3)
    ]
    return ";".join(told) or "写法不同"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


_SHOWN = 60


def _differences(mine: object, other: object, path: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield where two JSON values differ, as dotted paths."""
    if isinstance(mine, dict) and isinstance(other, dict):
        for key in sorted(mine.keys() | other.keys()):
            yield from _differences(mine.get(key), other.get(key), f"{path}.{key}" if path else str(key))
    elif isinstance(mine, list) and isinstance(other, list) and len(mine) == len(other):
        for number, (left, right) in enumerate(zip(mine, other, strict=True)):
            yield from _differences(left, right, f"{path}[{number}]")
    elif mine != other:
        yield path, mine, other


# --- read models -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadModel:
    """The rows of one case in one read model: as the projection makes them, and as they stand."""

    table: str
    keys: tuple[str, ...]
    expected: tuple[Mapping[str, object], ...]
    found: tuple[Mapping[str, object], ...]


def compare_read_models(models: Iterable[ReadModel]) -> list[Finding]:
    """Hold read models against what the projection of the fold makes."""
    findings: list[Finding] = []
    for model in models:
        right = {_key(row, model): row for row in model.expected}
        stands: dict[tuple[object, ...], Mapping[str, object]] = {}
        for row in model.found:
            if stands.setdefault(key := _key(row, model), row) is not row:
                detail = "此行重复:按台账只应有一行(表的主键已被去除)。"
                findings.append(_of_read_model("row_added", model.table, _place(key), "", detail))
        for key in [*right, *(key for key in stands if key not in right)]:
            findings += _read_model_row(model.table, _place(key), right.get(key), stands.get(key))
    return findings


def _key(row: Mapping[str, object], model: ReadModel) -> tuple[object, ...]:
    return tuple(row[key] for key in model.keys)


def _place(key: Iterable[object]) -> str:
    return "/".join(str(part) for part in key if part not in {"", None})


def _of_read_model(code: str, table: str, place: str, column: str, detail: str) -> Finding:
    return Finding(check=Check.READ_MODELS, code=code, table=table, row=place, field=column, detail=detail)


def _read_model_row(
    table: str, place: str, right: Mapping[str, object] | None, stands: Mapping[str, object] | None
) -> Iterator[Finding]:
    if stands is None:
        yield _of_read_model("row_missing", table, place, "", "按台账应有此行,读模型中没有。")
    elif right is None:
        yield _of_read_model("row_added", table, place, "", "按台账不应有此行。")
    else:
        for column, value in right.items():
            if stands.get(column) != value:
                detail = f"为“{_short(stands.get(column))}”,按台账应为“{_short(value)}”。"
                yield _of_read_model("column_differs", table, place, column, detail)


# --- clocks ------------------------------------------------------------------------------------------------


def check_clocks(
    entries: Sequence[Entry],
    terms: Terms,
    *,
    until: datetime | None = None,
    rederived: frozenset[int] | set[int] = frozenset(),
    table: str = "ledger",
) -> list[Finding]:
    """Recompute every clock, and see that each escalation due was fired once and none that was not due.

    The rules are run again over the entries. What the clocks did must be exactly what `overdue` yields on the state
    before, in its order, before any act is taken. What people did must be what `decide` yields for some act with
    that content: its clocks are recomputed with it. Acts that replaying the history has decided again already need
    no second look.

    An honest ledger is never accused, and two things are left open without its history (`proven` is False): an act
    that the rules as they are now would not take from this person, for rules may have changed since; and clocks that
    have been silent since the last entry, for the workers may have stood still as well as somebody cut the ledger.

    Args:
        until: the moment up to which everything due must have been fired; None for the last entry's.
        rederived: sequence numbers of entries that equal what replaying the history gave.
    """
    clocks = _Clocks(terms=terms, rederived=rederived, table=table)
    for _, group in itertools.groupby(entries, key=lambda entry: (entry.at, entry.by, entry.key)):
        if not clocks.take(list(group)):
            return clocks.findings
    if until is not None and clocks.state is not None:
        clocks.require_fired(until, None)
    return clocks.findings


@dataclass(slots=True)
class _Clocks:
    """The state of a case as the entries make it, and what was found on the way."""

    terms: Terms
    rederived: frozenset[int] | set[int]
    table: str
    state: CaseState | None = None
    findings: list[Finding] = field(default_factory=list)
    _missed: set[str] = field(default_factory=set)

    def take(self, group: list[Entry]) -> bool:
        """Check and fold entries of one moment by one person, or by the clocks; False when they cannot be folded."""
        if self.state is None:
            opened, *group = group
            self._opening(opened)
            if not self._fold([opened]):
                return False
            if not group:
                return True
        assert self.state is not None  # noqa: S101 - the opening was folded
        if group[0].by is None:
            self._clock_made(self.state, group)
            return self._fold(group)
        return self._acts(group)

    def _acts(self, group: list[Entry]) -> bool:
        """Check and fold what one person did at one moment: one act, or several where no key tells them apart."""
        while group:
            assert self.state is not None  # noqa: S101 - the opening was folded
            self.require_fired(group[0].at, group[0])
            again = all(entry.sequence in self.rederived for entry in group)
            taken = len(group) if again else self._act(self.state, group)
            if not self._fold(group[:taken]):
                return False
            group = group[taken:]
        return True

    def require_fired(self, at: datetime, before: Entry | None) -> None:
        """Report whatever the clocks had to do before this moment and did not."""
        assert self.state is not None  # noqa: S101 - the opening was folded
        for event in overdue(self.state, at, self.terms):
            self._missing(event, before)

    def _missing(self, event: Event, before: Entry | None) -> None:
        text = event.model_dump_json()
        if text in self._missed:
            return
        self._missed.add(text)
        told = f"应由时钟产生而没有:{_told_event(event)}"
        if before is not None:
            self._found("not_fired", f"第{before.sequence}条之前", "", f"{told}。")
        else:
            detail = f"{told};工作进程停摆(恢复后自动补记),或台账被截短。"
            self._found("not_fired", "末条之后", "", detail, proven=False)

    def _found(self, code: str, row: str, column: str, detail: str, *, proven: bool = True) -> None:
        self.findings.append(
            Finding(
                check=Check.CLOCKS,
                code=code,
                table=self.table,
                row=row,
                field=column,
                detail=detail,
                proven=proven,
            )
        )

    def _fold(self, group: Sequence[Entry]) -> bool:
        for entry in group:
            try:
                self.state = evolve(self.state, entry)
            except DomainError as error:
                self._found("cannot_happen", f"第{entry.sequence}条", "entry.event", error.detail)
                return False
            self.terms = terms_after(entry, self.terms)
        return True

    def _opening(self, entry: Entry) -> None:
        """Call again with the same words: the call's clocks are recomputed."""
        event = entry.event
        if not isinstance(event, Called):
            return  # folding says so
        try:
            right = open_case(
                event.call, entry.at, self.terms, caller=entry.by, catalogue_version=event.catalogue_version
            )
        except DomainError as error:
            self._found(
                "act_refused", f"第{entry.sequence}条", "entry.event", f"按规则不予受理:{error.detail}"
            )
            return
        if right != event:
            self._differs("act_differs", entry, right)

    def _clock_made(self, state: CaseState, group: Sequence[Entry]) -> None:
        due = overdue(state, group[0].at, self.terms)
        if [entry.event for entry in group] == due:
            return
        left = list(due)
        for entry in group:
            same = next((each for each in left if each == entry.event), None)
            alike = next((each for each in left if _identity(each) == _identity(entry.event)), None)
            if same is None and alike is None:
                self._found(
                    "not_due",
                    f"第{entry.sequence}条",
                    "entry.event",
                    f"此刻按时钟不应产生(或已产生过):{_told_event(entry.event)}。",
                )
            elif same is None and alike is not None:
                self._differs("clock_differs", entry, alike)
                left.remove(alike)
            elif same is not None:
                if same != left[0]:
                    self._found(
                        "out_of_order", f"第{entry.sequence}条", "entry.event", "与到期先后次序不符。"
                    )
                left.remove(same)
        for event in left:
            self._missing(event, group[-1])

    def _act(self, state: CaseState, group: Sequence[Entry]) -> int:
        """Do the act again from what its events say, and compare; which act it was, the rules find out.

        Returns:
            How many of the entries are that act's. All of them where they bear a key, for a key is one act's; else
            the longest that some act gives.
        """
        entry = group[0]
        alike: list[Event] = []
        for length in (len(group),) if entry.key else range(len(group), 0, -1):
            events = [each.event for each in group[:length]]
            for command in _commands(entry, events):
                try:
                    right = decide(state, command, entry.at, self.terms)
                except DomainError:
                    continue
                if right == events:
                    return length
                if [event.kind for event in right] == [event.kind for event in events]:
                    alike = alike or right
        if alike:
            for each, event in zip(group, alike, strict=False):
                if each.event != event:
                    self._differs("act_differs", each, event)
            return len(alike)
        self._found(
            "act_not_reproduced",
            f"第{entry.sequence}条",
            "entry.event",
            "仅凭台账不能重新得出:按规则,此人此时办理任何操作都不产生这样的记录;须以执行历史佐证。",
            proven=False,
        )
        return len(group)

    def _differs(self, code: str, entry: Entry, right: Event) -> None:
        stands = json.loads(entry.event.model_dump_json())
        for path, mine, other in _differences(stands, json.loads(right.model_dump_json())):
            detail = f"为“{_short(mine)}”,按规则重算应为“{_short(other)}”。"
            self._found(code, f"第{entry.sequence}条", f"entry.event.{path}", detail)


def _identity(event: Event) -> dict[str, object]:
    """Return what tells this event from others of its kind: everything but moments and lists."""
    return {
        name: value
        for name, value in event.model_dump().items()
        if value is None or isinstance(value, str | int | bool)
    }


def _told_event(event: Event) -> str:
    return ",".join(
        f"{name}={_short(value)}" for name, value in _identity(event).items() if value is not None
    )


def _commands(entry: Entry, events: Sequence[Event]) -> Iterator[AnyCommand]:
    """Yield every act that these events can come from: one whose fields are found in them by name."""
    said: dict[str, Any] = {}
    for event in reversed(events):
        content = {name: getattr(event, name) for name in type(event).model_fields if name != "clocks"}
        said |= content
        for value in content.values():
            if isinstance(value, BaseModel):
                said |= {name: getattr(value, name) for name in type(value).model_fields}
    said |= {"by": entry.by, "key": entry.key}
    for told, asked in (("upheld", "uphold"), ("approved", "approve")):
        if told in said:
            said.setdefault(asked, said[told])
    said["answer_required"] = said.get("order") is not None
    if "link" in said:
        said["kind"] = said["link"]
    for kind in COMMANDS.values():
        needed = (name for name, info in kind.model_fields.items() if info.is_required())
        if all(name in said for name in needed):
            try:
                yield kind.model_validate({name: said[name] for name in kind.model_fields if name in said})
            except ValidationError:
                continue


# --- attachments -------------------------------------------------------------------------------------------


def attachments_of(entries: Iterable[Entry]) -> Iterator[tuple[int, Attachment]]:
    """Yield every attachment that an entry names, with the entry's number; wherever in the event it stands."""
    for entry in entries:
        for attachment in _attachments(entry.event):
            yield entry.sequence, attachment


def _attachments(value: object) -> Iterator[Attachment]:
    if isinstance(value, Attachment):
        yield value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _attachments(getattr(value, name))
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _attachments(each)

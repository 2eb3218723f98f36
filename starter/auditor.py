"""Gathers what there is about a case, seals it into a bundle, and judges a case or a bundle."""

import asyncio
import csv
import hashlib
import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, select_autoescape
from pydantic import ValidationError
from temporalio.client import Client
from temporalio.service import RPCError

from adapters.bundle import Opened, check_files, check_signature, seal
from adapters.codec import PayloadUnreadable
from adapters.database import StoreUnavailable
from adapters.evidence import Evidence, Rows, read_models_of
from adapters.histories import HistoryIncomplete, RunHistory, fetch_runs, read_run
from adapters.kept_runs import KeptRuns
from adapters.signing import PublicKey, SigningKey
from adapters.store import Store
from domain import audit, verify, words
from domain.calendar import SHANGHAI, utc
from domain.case import Attachment, CaseId, CaseState, Clock
from domain.district import Terms
from domain.errors import ArchiveConflict, DomainError
from domain.events import Entry
from domain.lifecycle import fold
from domain.ports import Archive
from domain.verify import Check, DigestName, Finding, Replayed, StoredRow, Verdict, status_of
from starter.replay import replay
from workflows import names

LEDGER, TERMS, READ_MODELS = "ledger.jsonl", "terms.json", "read-models.json"
ATTACHMENTS, TIMELINE, README = "attachments.csv", "timeline.html", "README.txt"

_SETTLES_WITHIN = 5.0
_PAUSE = 0.2
_GRACE = timedelta(minutes=2)
"""How late beyond `wake_spread` a clock may be looked at before an open case counts as missing an escalation."""
_AT_ONCE = 16

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=select_autoescape()
)


class CaseUnknown(DomainError):
    """Nothing at all is held about the case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What store and Temporal hold about a case, read together.

    Attributes:
        runs: every run, oldest first; none when nobody has the history of the case.
        gap: why the history is not whole, in Chinese; empty when it is.
        read_at: when it was read.
        findings: what is wrong with where the history was to be read.
    """

    evidence: Evidence
    runs: tuple[RunHistory, ...]
    gap: str
    read_at: datetime
    findings: tuple[Finding, ...] = ()


async def gather(
    store: Store, client: Client | None, case_id: CaseId, archive: Archive | None = None
) -> Gathered:
    """Read ledger, read models and history of a case so that they belong to the same moment.

    Runs that Temporal has forgotten are read from the archive.

    The ledger is read first and the history after it, for the history leads. An act that is just under way stands
    in the ledger a moment before its workflow task is complete: then both are read again.

    Raises:
        CaseUnknown: `case_unknown`.
        StoreUnavailable: the database is away.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + _SETTLES_WITHIN
    while True:
        evidence = await store.evidence(case_id)
        kept = KeptRuns(store, archive, case_id) if archive is not None else None
        runs, gap, findings = await _runs(client, case_id, evidence, kept)
        if kept is not None:
            findings += kept.unreadable
            findings += await _gone(kept) if gap and client is not None else ()
        if evidence is None:
            if not runs and not findings:
                raise CaseUnknown("case_unknown", f"没有案件“{case_id}”:台账、执行历史中均无记录。")
            evidence = _nothing(case_id)
        settled = not runs or runs[-1].is_over or runs[-1].source or _knows_head(runs, evidence)
        if settled or loop.time() > give_up_at:
            return Gathered(
                evidence=evidence,
                runs=tuple(runs),
                gap=gap,
                read_at=datetime.now(UTC),
                findings=tuple(findings),
            )
        await asyncio.sleep(_PAUSE)


async def _runs(
    client: Client | None, case_id: CaseId, evidence: Evidence | None, kept: KeptRuns | None
) -> tuple[list[RunHistory], str, list[Finding]]:
    """Return the runs; else why there are none, and what is wrong where they should be."""
    if client is None:
        return [], "未连接 Temporal,执行历史未核验。", []
    where = "Temporal 与归档中均没有" if kept is not None else "Temporal 中已没有(未设置归档)"
    try:
        runs = await fetch_runs(client, names.case_workflow_id(case_id), kept)
    except HistoryIncomplete as missing:
        return [], f"{where}此前运行 {missing} 的执行历史(超过保留期)。", []
    except PayloadUnreadable as unreadable:
        return [], f"载荷无法解密,执行历史未核验:{unreadable.detail}", []
    except (RPCError, RuntimeError) as error:
        return [], f"无法连接 Temporal,执行历史未核验:{str(error)[:100]}", []
    except ArchiveConflict as damaged:
        found = Finding(check=Check.HISTORY, code=damaged.code, table="归档", detail=damaged.detail)
        return [], "", [found]
    except OSError as error:
        return [], f"Temporal 中已没有,归档无法读取,执行历史未核验:{str(error)[:100]}", []
    if not runs and not _never_started(evidence):
        gone = f"{where}该案件的执行历史(超过保留期或被删除);请以当时导出的审计包核验。"
        return [], gone, []
    left_off = runs and (runs[-1].source or runs[-1].was_ended)
    if left_off and evidence is not None and not _knows_head(runs, evidence):
        return runs, f"{where}此后运行的执行历史。", []
    return runs, "", []


async def _gone(kept: KeptRuns) -> list[Finding]:
    """Name the files that the archive must have, where the history is not whole."""
    try:
        missing = await kept.gone()
    except (ArchiveConflict, OSError):
        return []  # which is why the history is not whole, and has been said
    detail = "登记或清单所载的文件不在归档中:被删除。"
    return [
        Finding(check=Check.HISTORY, code="archive_damaged", table="归档", row=name, detail=detail)
        for name in missing
    ]


def _never_started(evidence: Evidence | None) -> bool:
    """Whether the case may have no history yet: it was taken, and nobody has done anything since."""
    return evidence is not None and not evidence.started and len(evidence.rows) <= 1


def _knows_head(runs: Sequence[RunHistory], evidence: Evidence) -> bool:
    """Whether the history already speaks of the newest entry that the ledger holds."""
    if not evidence.rows:
        return True
    head = evidence.rows[-1].hash.encode()
    return any(head in event.SerializeToString() for event in reversed(runs[-1].history.events))


def _nothing(case_id: CaseId) -> Evidence:
    return Evidence(
        case_id=case_id,
        district=case_id.partition("-")[0],
        rows=(),
        terms="",
        terms_id="",
        started=False,
        read_models={},
    )


# --- judging -----------------------------------------------------------------------------------------------


async def verify_cases(
    store: Store,
    client: Client | None,
    case_ids: Sequence[CaseId],
    archive: Archive | None = None,
    *,
    by_sdk: bool = False,
) -> list[tuple[CaseId, list[Verdict]]]:
    """Judge cases as store, Temporal and archive have them now; one of which nothing is held gets one finding.

    Histories are rehearsed (`starter.rehearsal`); a case that something is found against is replayed by the SDK, and
    that is what counts.

    Args:
        by_sdk: replay every case by the SDK.
    """
    gate = asyncio.Semaphore(_AT_ONCE)

    async def gated(case_id: CaseId) -> Gathered | Exception:
        async with gate:
            try:
                return await gather(store, client, case_id, archive)
            except StoreUnavailable:
                raise
            except Exception as error:
                return error

    gathered = await asyncio.gather(*(gated(case_id) for case_id in case_ids))
    known = {
        case_id: each for case_id, each in zip(case_ids, gathered, strict=True) if isinstance(each, Gathered)
    }
    judged = await _judge_all(known, by_sdk=by_sdk)
    if not by_sdk:
        suspects = {
            case_id: known[case_id] for case_id, verdicts in judged.items() if status_of(verdicts) == 1
        }
        judged |= await _judge_all(suspects, by_sdk=True)
    return [
        (
            case_id,
            await _not_gathered(store, case_id, each) if isinstance(each, Exception) else judged[case_id],
        )
        for case_id, each in zip(case_ids, gathered, strict=True)
    ]


async def _judge_all(gathered: Mapping[CaseId, Gathered], *, by_sdk: bool) -> dict[CaseId, list[Verdict]]:
    replayed = await _replay_all({case_id: each.runs for case_id, each in gathered.items()}, by_sdk=by_sdk)
    return {case_id: _judge_one(each, replayed[case_id]) for case_id, each in gathered.items()}


async def _replay_all(
    runs: Mapping[CaseId, Sequence[RunHistory]], *, by_sdk: bool
) -> dict[CaseId, list[Replayed] | Exception]:
    """Replay all of them together; where that ends in an error, case by case: it is the error of one of them."""
    try:
        done = iter(await replay([run for some in runs.values() for run in some], by_sdk=by_sdk))
        return {case_id: [next(done) for _ in some] for case_id, some in runs.items()}
    except Exception as error:
        if len(runs) == 1:
            return dict.fromkeys(runs, error)
    single = [await _replay_all({case_id: some}, by_sdk=by_sdk) for case_id, some in runs.items()]
    return {case_id: each for some in single for case_id, each in some.items()}


def _judge_one(gathered: Gathered, replayed: Sequence[Replayed] | Exception) -> list[Verdict]:
    if isinstance(replayed, Exception):
        return _given_up(gathered, replayed)
    try:
        return judge_gathered(gathered, replayed)
    except Exception as error:
        return _given_up(gathered, error)


def _given_up(gathered: Gathered, error: Exception) -> list[Verdict]:
    return [Verdict(check=Check.CHAIN, findings=(*gathered.evidence.unreadable, _not_checked(error)))]


async def _not_gathered(store: Store, case_id: CaseId, error: Exception) -> list[Verdict]:
    if not isinstance(error, CaseUnknown):
        findings = [_not_checked(error)]
    elif not (findings := await store.of_no_case(case_id)):
        findings = [_unknown(Check.CHAIN, error.code, "ledger", error.detail)]
    return [Verdict(check=Check.CHAIN, findings=tuple(findings))]


def _not_checked(error: Exception) -> Finding:
    return verify.not_checked(error, Check.CHAIN, "ledger", "本案")


def judge_gathered(gathered: Gathered, replayed: Sequence[Replayed]) -> list[Verdict]:
    """Judge a case as it was read."""
    evidence = gathered.evidence
    found = [*gathered.findings, *evidence.unreadable]
    found += _stored_terms(evidence)
    verdicts = judge(
        evidence.case_id,
        evidence.rows,
        terms_text=evidence.terms,
        read_models=evidence.read_models,
        replayed=replayed,
        gap=gathered.gap,
        read_at=gathered.read_at,
        found=found,
        source=_told_sources(gathered.runs),
    )
    if acts := evidence.kept_acts.number:
        kept = evidence.kept_acts.findings
        verdicts.append(Verdict(check=Check.ACTS, findings=kept, note=f"{acts} 项"))
    return verdicts


def _stored_terms(evidence: Evidence) -> Iterator[Finding]:
    """Hold the row of the terms against the digest that the intake names, and its columns against its document."""
    if not evidence.terms:
        if evidence.terms_id:
            detail = f"没有编号(摘要)为 {evidence.terms_id} 的政策与日历:被删除,或编号被改动。"
            yield _terms_finding("terms_missing", "terms", "id", detail)
        return
    if hashlib.sha256(evidence.terms.encode()).hexdigest() != evidence.terms_id:
        yield _terms_finding("terms_changed", "terms", "document", "与其编号(摘要)不符。")
    try:
        terms = _read_terms(evidence.terms)
    except ValidationError:
        return  # which is said where they are needed
    said = {
        "district": evidence.district,
        "policy_version": terms.policy.version,
        "calendar_version": terms.calendar.version,
    }
    for column, stands in evidence.terms_columns.items():
        if stands != (right := said[column]):
            detail = f"为“{stands}”,按政策与日历原文应为“{right}”。"
            yield _terms_finding("terms_changed", "terms", column, detail)


def _told_sources(runs: Sequence[RunHistory]) -> str:
    numbers: dict[str, list[str]] = defaultdict(list)
    for number, run in enumerate(runs, start=1):
        if run.source:
            numbers[run.source].append(str(number))
    return ";".join(f"第{'、'.join(each)}次运行的历史取自{source}" for source, each in numbers.items())


def judge(
    case_id: CaseId,
    rows: Sequence[StoredRow],
    *,
    terms_text: str,
    read_models: Rows,
    replayed: Sequence[Replayed],
    gap: str,
    read_at: datetime,
    found: Sequence[Finding] = (),
    source: str = "",
    ledger: str = "ledger",
    same_software: bool = True,
) -> list[Verdict]:
    """Judge what is held about a case, wherever it was read from.

    Args:
        replayed: what each run of the history gave; none when there is no history.
        gap: why there is none, or why a newer run may be missing.
        found: what is wrong with terms or history as far as they could be read.
        source: Chinese; from where the history was read, if not from where one expects it.
        same_software: whether this version wrote the read models: others may word sentences differently.
    """
    chain = verify.read_chain(case_id, rows, table=ledger)
    derived = verify.derive(replayed, chain.entries)
    chain.findings += (each for each in found if each.check is Check.CHAIN)
    history = [each for each in found if each.check is not Check.CHAIN]
    whole = not any(finding.code in _BREAKS for finding in chain.findings)
    terms = _terms(terms_text, replayed, history)
    note = "" if history else "案件尚未在 Temporal 启动,仅有受理记录"
    if replayed:
        compared, note = verify.compare_with_history(rows, derived, gap=gap, table=ledger)
        history += compared
        note = ";".join(filter(None, (note, source)))
    elif gap:
        history.append(_unknown(Check.HISTORY, "history_missing", ledger, gap))
        note = ""
    return [
        Verdict(check=Check.CHAIN, findings=tuple(chain.findings), note=f"{len(rows)} 条"),
        Verdict(check=Check.HISTORY, findings=tuple(history), note=note),
        _judge_read_models(chain.entries, terms, read_models, whole=whole, same_software=same_software),
        _judge_clocks(chain.entries, terms, derived, read_at, whole=whole, table=ledger),
    ]


_BREAKS = frozenset({"no_rows", "row_missing", "row_out_of_order", "unreadable", "other_case"})


def _unknown(check: Check, code: str, table: str, detail: str) -> Finding:
    return Finding(check=check, code=code, table=table, detail=detail, proven=False)


def _terms_finding(code: str, table: str, column: str, detail: str) -> Finding:
    return Finding(check=Check.HISTORY, code=code, table=table, field=column, detail=detail)


def _terms(text: str, replayed: Sequence[Replayed], findings: list[Finding]) -> Terms | None:
    """Return the terms of the case; what SQL keeps must be what the history started with."""
    started = replayed[0].start.terms if replayed and replayed[0].start else None
    if not text:
        return started
    try:
        terms = _read_terms(text)
    except ValidationError:
        findings.append(_terms_finding("terms_unreadable", "terms", "document", "政策与日历原文无法读取。"))
        return started
    if started is not None and started != terms:
        detail = "政策与日历和执行历史开始时的不符。"
        findings.append(_terms_finding("terms_differ", "terms", "document", detail))
    return started or terms


@lru_cache(maxsize=64)
def _read_terms(text: str) -> Terms:
    """Most cases of a district are under the same terms."""
    return Terms.model_validate_json(text)


def _judge_read_models(
    entries: Sequence[Entry], terms: Terms | None, found: Rows, *, whole: bool, same_software: bool
) -> Verdict:
    check = Check.READ_MODELS
    if terms is None or not whole:
        return Verdict(
            check=check,
            findings=(_unknown(check, "ledger_not_whole", "ledger", "台账或政策不完整,无法推算。"),),
        )
    findings = verify.compare_read_models(read_models_of(entries, terms, found))
    if not same_software:
        findings = [_reworded(finding) for finding in findings]
    number = sum(len(rows) for rows in found.values())
    return Verdict(check=check, findings=tuple(findings), note=f"{number} 行")


def _reworded(finding: Finding) -> Finding:
    """Accuse nobody of a sentence that another version worded."""
    if finding.field != "text" and finding.table != TIMELINE:
        return finding
    detail = f"{finding.detail}(审计包由其他版本生成,措辞可能不同)"
    return _unknown(finding.check, finding.code, finding.place, detail)


def _judge_clocks(
    entries: Sequence[Entry],
    terms: Terms | None,
    derived: verify.Derived,
    read_at: datetime,
    *,
    whole: bool,
    table: str,
) -> Verdict:
    check = Check.CLOCKS
    if terms is None or not whole:
        return Verdict(
            check=check, findings=(_unknown(check, "ledger_not_whole", table, "台账或政策不完整,无法重算。"),)
        )
    right = {entry.sequence: entry.hash for entry in derived.entries}
    rederived = {
        entry.sequence
        for entry in entries
        if entry.sequence not in derived.bridged
        and right.get(entry.sequence) == entry.hash == audit.digest(audit.canonical(entry))
    }
    until = read_at - terms.policy.wake_spread - _GRACE
    findings = verify.check_clocks(
        entries,
        terms,
        until=until if not entries or until > entries[-1].at else None,
        rederived=rederived,
        table=table,
    )
    clocks = sum(len(entry.event.clocks) for entry in entries)
    made = sum(entry.by is None for entry in entries)
    return Verdict(check=check, findings=tuple(findings), note=f"时钟 {clocks} 个,时钟产生的记录 {made} 条")


def judge_attachments(entries: Sequence[Entry], folder: Path) -> Verdict:
    """Hold files against the digests in the ledger; a file lies there under its digest or its name."""
    findings: list[Finding] = []
    count = 0
    for sequence, attachment in verify.attachments_of(entries):
        count += 1
        findings += _judge_attachment(sequence, attachment, folder)
    return Verdict(check=Check.ATTACHMENTS, findings=tuple(findings), note=f"{count} 个附件")


def _judge_attachment(sequence: int, attachment: Attachment, folder: Path) -> list[Finding]:
    def found(code: str, detail: str, *, proven: bool = True) -> list[Finding]:
        return [
            Finding(
                check=Check.ATTACHMENTS,
                code=code,
                table=attachment.name,
                row=f"第{sequence}条所附",
                detail=detail,
                proven=proven,
            )
        ]

    candidates = [folder / attachment.sha256, folder / Path(attachment.name).name]
    path = next((each for each in candidates if each.is_file()), None)
    if path is None:
        return found("attachment_missing", "附件目录中没有此文件。", proven=False)
    content = path.read_bytes()
    if len(content) != attachment.size:
        return found("attachment_changed", f"大小为 {len(content)} 字节,台账所载为 {attachment.size} 字节。")
    if hashlib.sha256(content).hexdigest() != attachment.sha256:
        return found("attachment_changed", "内容与台账所载 SHA-256 不符。")
    return []


# --- bundles -----------------------------------------------------------------------------------------------


def bundle_of(
    gathered: Gathered, key: SigningKey, *, digest: DigestName = DigestName.SHA256, notes: str = ""
) -> bytes:
    """Return the bundle of a case as it was read.

    Raises:
        DomainError: the ledger cannot be folded, so that there is no timeline; verify the case first.
    """
    evidence = gathered.evidence
    if evidence.unreadable:
        raise ValueError(evidence.unreadable[0].place)
    chain = verify.read_chain(evidence.case_id, evidence.rows)
    state = fold(chain.entries)
    terms = Terms.model_validate_json(evidence.terms)
    files = {
        LEDGER: write_rows(evidence.rows),
        TERMS: evidence.terms.encode(),
        READ_MODELS: _json(evidence.read_models),
        ATTACHMENTS: write_attachments(chain.entries),
        TIMELINE: timeline_page(state, chain.entries, terms).encode(),
        README: _readme(gathered, notes).encode(),
        **{run.name: run.to_json() for run in gathered.runs},
    }
    return seal(
        files,
        key,
        case_id=evidence.case_id,
        district=evidence.district,
        exported_at=gathered.read_at,
        over=state.is_over,
        sequence=evidence.rows[-1].sequence,
        head=evidence.rows[-1].hash,
        software=version("shaodao"),
        gap=gathered.gap,
        digest=digest,
    )


async def judge_bundle(
    bundle: Opened,
    *,
    trusted: PublicKey | None = None,
    whose: str = "指定公钥",
    attachments: Path | None = None,
) -> list[Verdict]:
    """Judge a bundle by itself: neither database nor Temporal is asked.

    Args:
        trusted, whose: see `adapters.bundle.check_signature`.
    """
    manifest, files = bundle.manifest, bundle.files
    findings: list[Finding] = []
    rows = read_rows(files.get(LEDGER, b""), findings)
    runs = []
    for name in sorted(each for each in files if each.startswith("history-")):
        try:
            text = files[name].decode("utf-8")
            runs.append(read_run(name, names.case_workflow_id(manifest.case_id), text))
        except ValueError:
            detail = "执行历史文件无法读取。"
            findings.append(Finding(check=Check.FILES, code="file_unreadable", table=name, detail=detail))
    runs.sort(key=lambda run: _number(run.name))
    checked = check_files(bundle)
    replayed = await replay(runs, by_sdk=True)
    verdicts = judge(
        manifest.case_id,
        rows,
        terms_text=files.get(TERMS, b"").decode("utf-8", "replace"),
        read_models=_rows(files.get(READ_MODELS, b""), findings),
        replayed=replayed,
        gap=manifest.gap or ("" if runs else "审计包中没有执行历史。"),
        read_at=manifest.exported_at,
        ledger=LEDGER,
        same_software=manifest.software == version("shaodao"),
    )
    files_verdict = Verdict(
        check=Check.FILES,
        findings=(*checked.findings, *findings, *_head(manifest_rows=rows, bundle=bundle)),
        note=checked.note,
    )
    verdicts = [check_signature(bundle, trusted, whose=whose), files_verdict, *verdicts]
    chain = verify.read_chain(manifest.case_id, rows, table=LEDGER)
    verdicts = _with_pages(verdicts, bundle, chain.entries, replayed)
    if attachments is not None:
        verdicts.append(judge_attachments(chain.entries, attachments))
    return verdicts


def _number(name: str) -> int:
    digits = name.removeprefix("history-").partition("-")[0]
    return int(digits) if digits.isdecimal() else 0


def _head(*, manifest_rows: Sequence[StoredRow], bundle: Opened) -> list[Finding]:
    manifest = bundle.manifest
    newest = manifest_rows[-1] if manifest_rows else None
    if newest and (newest.sequence, newest.hash) == (manifest.sequence, manifest.head):
        return []
    detail = f"清单所载末条为第{manifest.sequence}条,与 {LEDGER} 不符。"
    return [
        Finding(check=Check.FILES, code="head_differs", table="manifest.json", field="head", detail=detail)
    ]


def _with_pages(
    verdicts: Sequence[Verdict], bundle: Opened, entries: Sequence[Entry], replayed: Sequence[Replayed]
) -> list[Verdict]:
    """Add to the read models' line whether the pages for people say what the ledger says."""
    files, findings = bundle.files, []
    terms = _terms(files.get(TERMS, b"").decode("utf-8", "replace"), replayed, [])
    try:
        pages = {
            TIMELINE: timeline_page(fold(entries), entries, terms).encode() if terms else b"",
            ATTACHMENTS: write_attachments(entries),
        }
    except DomainError:
        return list(verdicts)
    for name, page in pages.items():
        if page and files.get(name) != page:
            detail = "页面内容不是由台账生成的。"
            finding = Finding(check=Check.READ_MODELS, code="page_differs", table=name, detail=detail)
            same = bundle.manifest.software == version("shaodao")
            findings.append(finding if same else _reworded(finding))
    return [
        Verdict(check=each.check, findings=(*each.findings, *findings), note=each.note)
        if each.check is Check.READ_MODELS
        else each
        for each in verdicts
    ]


def _json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, indent=1).encode() + b"\n"


def _rows(content: bytes, findings: list[Finding]) -> Rows:
    try:
        rows = json.loads(content)
        if isinstance(rows, dict) and all(
            isinstance(each, list) and all(isinstance(row, dict) for row in each) for each in rows.values()
        ):
            return rows
    except (ValueError, RecursionError):
        pass
    detail = "读模型文件无法读取。"
    findings.append(Finding(check=Check.FILES, code="file_unreadable", table=READ_MODELS, detail=detail))
    return {}


def write_rows(rows: Sequence[StoredRow]) -> bytes:
    """Return ledger rows as lines of JSON, each with the columns as they stand."""
    return b"".join(
        json.dumps(
            {
                "case_id": row.case_id,
                "sequence": row.sequence,
                "at": row.at.isoformat(),
                "kind": row.kind,
                "entry": row.entry,
                "hash": row.hash,
            },
            ensure_ascii=False,
        ).encode()
        + b"\n"
        for row in rows
    )


def read_rows(content: bytes, findings: list[Finding]) -> list[StoredRow]:
    """Read what `write_rows` wrote; a line that cannot be read is named and left out."""
    rows = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            said = json.loads(line)
            rows.append(
                StoredRow(
                    case_id=str(said["case_id"]),
                    sequence=int(said["sequence"]),
                    at=utc(datetime.fromisoformat(said["at"])),
                    kind=str(said["kind"]),
                    entry=str(said["entry"]),
                    hash=str(said["hash"]),
                )
            )
        except (ValueError, KeyError, TypeError, RecursionError):
            findings.append(
                Finding(
                    check=Check.FILES,
                    code="line_unreadable",
                    table=LEDGER,
                    row=f"第{number}行",
                    detail="此行无法读取。",
                )
            )
    return rows


def write_attachments(entries: Sequence[Entry]) -> bytes:
    """Return the digests of all attachments as a sheet."""
    sheet = io.StringIO()
    writer = csv.writer(sheet, lineterminator="\r\n")
    writer.writerow(["台账序号", "文件名", "SHA-256", "字节数"])
    for sequence, attachment in verify.attachments_of(entries):
        name = attachment.name
        if name.startswith(("=", "+", "-", "@", "\t")):  # a spreadsheet would take it for a formula
            name = f"'{name}"
        writer.writerow([sequence, name, attachment.sha256, attachment.size])
    return sheet.getvalue().encode("utf-8-sig")


def timeline_page(state: CaseState, entries: Sequence[Entry], terms: Terms) -> str:
    """Return the case as a page for people: self-contained, printable, made of the ledger alone."""
    call = state.call
    facts = [
        ("案件编号", state.case_id),
        ("镇街", terms.name(call.township)),
        ("类别", words.CATEGORIES[call.category]),
        ("事项", call.item_name or "未列事项"),
        ("地点", call.location.address),
        ("内容", call.description),
        ("当前阶段", words.STAGES[state.stage]),
        ("政策版本", state.policy_version),
        ("末条哈希", entries[-1].hash),
    ]
    return _templates.get_template("audit_timeline.html").render(
        title=call.title,
        case_id=state.case_id,
        facts=facts,
        lines=[
            {
                "number": entry.sequence,
                "time": _local(entry.at),
                "actor": words.actor_name(entry),
                "text": words.sentence(entry, terms),
                "hash": entry.hash[:16],
            }
            for entry in entries
        ],
        clocks=[_clock(clock, terms) for clock in state.clocks],
    )


def _clock(clock: Clock, terms: Terms) -> Mapping[str, str]:
    ended = clock.ended_at
    result = "进行中" if ended is None else "超时" if ended > clock.due_at else "按时"
    if clock.fired:
        result += f",升级至第{max(clock.fired)}级"
    return {
        "kind": words.CLOCKS[clock.kind] + (f"(第{clock.round}次)" if clock.round > 1 else ""),
        "department": terms.name(clock.department) if clock.department else "—",
        "started": _local(clock.started_at),
        "due": _local(clock.due_at),
        "ended": _local(ended) if ended else "—",
        "result": result,
    }


def _local(moment: datetime) -> str:
    return f"{moment.astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S}"


def _readme(gathered: Gathered, notes: str) -> str:
    evidence = gathered.evidence
    runs = "\n".join(f"  {run.name}" for run in gathered.runs) or "  (无)"
    gap = f"\n注意:{gathered.gap}\n" if gathered.gap else ""
    return f"""哨到审计包

案件 {evidence.case_id},导出时间 {_local(gathered.read_at)}(北京时间)。{notes}
{gap}
一、内容
manifest.json      清单:每个文件的大小与摘要、末条哈希、签名公钥
manifest.sig       对 manifest.json 的 Ed25519 签名(十六进制)
ledger.jsonl       台账原文,一行一条;entry 的 SHA-256 即 hash,entry 内的 previous 为上一条的 hash
terms.json         立案时的政策、工作日历与组织机构
read-models.json   导出时列表、时钟、时间线各表中本案的各行
attachments.csv    附件摘要(附件原件不在包内)
timeline.html      时间线,可直接打印
执行历史(与 temporal workflow show --output json 格式相同,载荷已解密):
{runs}

二、核验(不需要数据库,也不需要联网)
  shaodao audit verify 本文件 --public-key 公钥文件
公钥须从本审计包以外的途径取得(接口 /api/v1/audit/key,或向管理员索取),并与安装方核对指纹(shaodao audit key)。
不指定可信公钥时,签名一项为“?”:任何人都能另做一包,用自己的密钥签名。
附件原件放在同一目录时加 --attachments 目录。
退出状态:0 全部无误,1 发现问题,2 有内容无法核验。

三、不用本软件的核验
  1. 从 manifest.json 的 public_key 得到公钥,验 manifest.sig;
  2. 各文件的摘要(算法见 manifest.json 的 digest)应与 manifest.json 所载相同;
  3. ledger.jsonl 各条:SHA-256(entry) = hash;previous 等于上一条 hash,第一条为 64 个 0;sequence 从 1 连续。

本包含案件内容,请按工作秘密保管。
"""

"""What `shaodao audit` does: export, verify and anchor, straight from store and Temporal, one printed line a check."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from itertools import repeat
from pathlib import Path

import typer
import uvloop
from temporalio.client import Client

from adapters import anchors as published
from adapters.archive import open_archive
from adapters.bundle import BundleInvalid, open_bundle
from adapters.database import StoreUnavailable
from adapters.settings import Settings, SettingsInvalid
from adapters.signing import KEY_FILE, AuditKeyInvalid, PublicKey, SigningKey
from adapters.store import Store, open_store
from adapters.temporal import connect
from domain import anchor as anchoring
from domain import words
from domain.calendar import SHANGHAI
from domain.case import CaseId
from domain.errors import DomainError
from domain.journal import LABELS as JOURNAL_LABELS
from domain.ports import Archive
from domain.roll import Scope
from domain.verify import (
    Check,
    DigestName,
    Finding,
    Verdict,
    not_checked,
    read_chain,
    status_of,
)
from starter.auditor import bundle_of, gather, judge_attachments, judge_bundle, verify_cases
from starter.journal_audit import judge_journals
from starter.local import use_data
from starter.register_audit import judge_register
from starter.roll_call import call_roll

_CHUNK = 40
_WORTH_A_PROCESS = 60
_SHOWN = 20
_GARBAGE_AFTER = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which cases: those that are named, and those called within a half-open period in a district."""

    cases: tuple[str, ...] = ()
    called_from: datetime | None = None
    called_before: datetime | None = None
    district: str | None = None

    @property
    def by_query(self) -> bool:
        """Whether cases are looked up, and not only named."""
        return self.called_from is not None or (self.district is not None and not self.cases)


# --- export ------------------------------------------------------------------------------------------------


async def export(wanted: Wanted, out: Path, digest: DigestName) -> int:
    """Write a bundle a case; return the exit status."""
    key, failed = signing_key(), 0
    out.mkdir(parents=True, exist_ok=True)
    archive = _archive()
    async with _open() as (store, client):
        case_ids = await _case_ids(store, wanted)
        for case_id in case_ids:
            try:
                gathered = await gather(store, client, case_id, archive)
                content = bundle_of(gathered, key, digest=digest)
            except (DomainError, ValueError) as error:
                failed += 1
                detail = error.detail if isinstance(error, DomainError) else "台账或政策无法读取"
                _say(f"✗ {case_id}:{detail};请先执行 shaodao audit verify {case_id}。")
                continue
            path = out / f"{case_id}.zip"
            path.write_bytes(content)
            _say(f"✓ {path}({len(gathered.evidence.rows)} 条记录,{len(content):,} 字节)")
            if gathered.gap:
                failed += 1
                _say(f"  ? {gathered.gap}")
    _say(f"共处理 {len(case_ids)} 件。" if case_ids else "没有符合条件的案件。")
    return 2 if failed else 0


# --- verify ------------------------------------------------------------------------------------------------


def verify_file(
    path: Path, trusted: PublicKey | None, attachments: Path | None, *, whose: str = "指定公钥"
) -> int:
    """Judge a bundle, print, and return the exit status."""
    _say(f"审计包 {path}")
    try:
        bundle = open_bundle(path.read_bytes())
    except OSError:
        _say("  ? 文件无法读取,请核对路径。")
        return 2
    except BundleInvalid as invalid:
        _say(f"  ✗ {invalid.detail}")
        return 1
    manifest = bundle.manifest
    _say(f"  案件 {manifest.case_id},{manifest.exported_at.astimezone(SHANGHAI):%Y-%m-%d %H:%M:%S} 导出")
    judged = judge_bundle(bundle, trusted=trusted, whose=whose, attachments=attachments)
    return _print(asyncio.run(judged))


def verify_wanted(
    wanted: Wanted,
    attachments: Path | None,
    jobs: int,
    *,
    anchor_files: Path | None = None,
    by_sdk: bool = False,
) -> int:
    """Judge cases as store, Temporal and archive have them, print, and return the exit status.

    Cases that are looked up are called by the roll, too: none may be missing, and no row without its ledger.
    """
    case_ids, roll = asyncio.run(_looked_up(wanted, anchor_files))
    if not case_ids and status_of(roll) == 0:
        _say("没有符合条件的案件。")
        return 2
    statuses = []
    register = not wanted.by_query  # else the roll looks at it
    judged = verify_many(case_ids, jobs=jobs, attachments=attachments, by_sdk=by_sdk, register=register)
    for case_id, verdicts in judged:
        _say(f"案件 {case_id}")
        statuses.append(_print(verdicts))
    if len(case_ids) > 1:
        _say(
            f"共核验 {len(case_ids)} 件:无误 {statuses.count(0)},有误 {statuses.count(1)},"
            f"部分无法核验 {statuses.count(2)}。"
        )
    if roll:
        _say("全部案件")
        statuses.append(_print(roll))
    return worst(statuses)


async def _looked_up(wanted: Wanted, anchor_files: Path | None) -> tuple[list[CaseId], tuple[Verdict, ...]]:
    async with _open(temporal=wanted.by_query) as (store, client):
        case_ids = await _case_ids(store, wanted)
        if client is None:
            return case_ids, ()
        scope = Scope(
            district=wanted.district, called_from=wanted.called_from, called_before=wanted.called_before
        )
        folder = anchor_files or Settings().anchor_dir
        try:
            roll = await call_roll(store, client, _archive(), folder, scope)
        except StoreUnavailable:
            raise
        except Exception as error:
            return case_ids, (_not_judged(error, Check.CASES, "全部案件"),)
        overlooked = sorted(set(roll.known) - set(case_ids))  # their rows say that they are of another time
        return [*case_ids, *overlooked], roll.verdicts


def verify_many(
    case_ids: Sequence[CaseId],
    *,
    jobs: int,
    attachments: Path | None = None,
    by_sdk: bool = False,
    register: bool = False,
) -> Iterable[tuple[CaseId, list[Verdict]]]:
    """Judge many cases, in several processes: replaying is bound to one core each.

    Args:
        by_sdk: replay every history by the SDK, three times as slowly, whether anything is found or not.
        register: look at what is registered of each case as archived, too.
    """
    size = min(_CHUNK, -(-len(case_ids) // jobs)) or 1
    chunks = [case_ids[start : start + size] for start in range(0, len(case_ids), size)]
    if jobs == 1 or len(case_ids) < _WORTH_A_PROCESS:
        for chunk in chunks:
            yield from _verify_chunk(chunk, attachments, by_sdk, register)
        return
    # Not a fork of this process: it would share the client's threads. One that has only read our code is forked.
    served = multiprocessing.get_context("forkserver")
    served.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(min(jobs, len(chunks)), mp_context=served, initializer=_settle) as pool:
        settings = map(repeat, (attachments, by_sdk, register))
        for judged in pool.map(_verify_chunk, chunks, *settings):
            yield from judged


def _settle() -> None:
    """Look for garbage seldom, and never through our own code: a twentieth of the time."""
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER)


def _verify_chunk(
    case_ids: Sequence[CaseId], attachments: Path | None, by_sdk: bool, register: bool
) -> list[tuple[CaseId, list[Verdict]]]:
    return uvloop.run(_verify_some(case_ids, attachments, by_sdk=by_sdk, register=register))


async def _verify_some(
    case_ids: Sequence[CaseId], attachments: Path | None, *, by_sdk: bool, register: bool
) -> list[tuple[CaseId, list[Verdict]]]:
    async with _open() as (store, client):
        archive = _archive()
        judged = await verify_cases(store, client, case_ids, archive, by_sdk=by_sdk)
        if register:
            for case_id, verdicts in judged:
                if (registered := await judge_register(store, archive, case_id)) is not None:
                    verdicts.append(registered)
        if attachments is not None:
            for case_id, verdicts in judged:
                evidence = await store.evidence(case_id)
                entries = read_chain(case_id, evidence.rows).entries if evidence else []
                verdicts.append(judge_attachments(entries, attachments))
        return judged


def _print(verdicts: Sequence[Verdict]) -> int:
    for verdict in verdicts:
        mark = "✓✗?"[verdict.status]
        note = f"({verdict.note})" if verdict.note else ""
        _say(f"  {mark} {verdict.label}{note}")
        for finding in verdict.findings[:_SHOWN]:
            kind = "✗" if finding.proven else "?"
            _say(f"      {kind} [{finding.code}] {finding.place}:{finding.detail}")
        if len(verdict.findings) > _SHOWN:
            _say(f"      ……另有 {len(verdict.findings) - _SHOWN} 处")
    return status_of(verdicts)


# --- anchors -----------------------------------------------------------------------------------------------


async def anchor(district: str | None, day: date | None, out: Path | None) -> int:
    """Anchor a district, or all, and publish; or publish the anchors of an earlier day again.

    Returns:
        The exit status: 1 when what stands now contradicts an anchor, which a new one would seem to confirm.

    Raises:
        AnchorInvalid: `district_unknown`, `anchor_missing`; see `adapters.anchors.publish`, too.
    """
    key, contradicted = signing_key(), False
    out = out or Settings().anchor_dir
    async with _open(temporal=False) as (store, _):
        known = await store.district_codes()
        if district is not None and district not in known:
            raise published.AnchorInvalid("district_unknown", f"没有区(市)“{district}”,未作锚定。")
        for code in [district] if district is not None else sorted(known):
            if day is None:
                made, is_new = await store.add_anchor(code, datetime.now(UTC), key)
                wanted = [made]
            else:
                wanted, is_new = [each for each in await store.anchors(code) if each.day == day], False
                if not wanted:
                    detail = f"{code} 在 {day} 没有锚定;锚定只对当下有效,不能补做过去的。"
                    raise published.AnchorInvalid("anchor_missing", detail)
            daily = published.daily_numbers(await store.anchors(code))
            for stored in wanted:
                _say_anchor(stored, daily=stored.number in daily, is_new=is_new or day is not None)
                if out is not None and stored.key_id != key.public.id:
                    _say(f"  ? 该锚定由另一密钥 {stored.key_id} 签名,未重新发布。")
                elif out is not None:
                    path = published.publish(stored, key.public, out, daily=stored.number in daily)
                    _say(f"  已发布:{path}")
            judged = await judge_anchors(store, code, None, _own_key())
            if status_of([judged]) == 1:
                contradicted = True
                _print([judged])
    return 1 if contradicted else 0


def _say_anchor(stored: anchoring.StoredAnchor, *, daily: bool, is_new: bool) -> None:
    made = anchoring.Anchor.model_validate_json(stored.document)
    journals = "、".join(f"{JOURNAL_LABELS[each.journal]} {each.sequence} 条" for each in made.journals)
    _say(
        f"✓ {stored.district} {made.day} 第{made.number}号{'(每日锚定)' if daily else ''}"
        f"{'' if is_new else '(此后无变化)'}:{made.chains} 件{f',{journals}' if journals else ''},"
        f"根哈希 {made.root}"
    )


async def verify_anchors(district: str | None, folder: Path | None, pinned: PublicKey | None) -> int:
    """Hold the present ledgers against all anchors, print, and return the exit status."""
    keys = {pinned.id: pinned} if pinned else _own_key()
    files, wrong = _published(folder, district)
    unnamed = folder is None and wrong is None
    statuses = []
    if wrong is not None:
        _say("已发布的锚定文件")
        statuses.append(_print([Verdict(check=Check.ANCHORS, findings=(wrong,))]))
    async with _open(temporal=False) as (store, _):
        codes = await store.district_codes() | set(await store.anchored_districts()) | set(files)
        for code in [district] if district else sorted(codes):
            _say(f"区(市) {code}")
            missing = await _files_missing(store, code) if unnamed and code not in files else []
            verdict = await _anchors_of(store, code, files.get(code), keys)
            statuses.append(_print([replace(verdict, findings=(*verdict.findings, *missing))]))
    return worst(statuses or [2])


async def _anchors_of(
    store: Store,
    code: str,
    files: Sequence[anchoring.StoredAnchor] | None,
    keys: Mapping[str, PublicKey],
) -> Verdict:
    """Judge, and let an error that nobody thought of end the judgement of this district alone."""
    try:
        return await judge_anchors(store, code, files, keys)
    except StoreUnavailable:
        raise
    except Exception as error:
        return _not_judged(error, Check.ANCHORS, "本区(市)的锚定")


async def _files_missing(store: Store, code: str) -> list[Finding]:
    """Accuse a folder of the settings that has no anchor of a district which has some: they are published as made.

    A folder that is not there at all may be on the machine of the workers alone.
    """
    where = Settings().anchor_dir
    if where is None or not (stored := await store.anchors(code)):
        return []
    detail = (
        f"数据库中有 {len(stored)} 次锚定,而发布目录 {where} 中一个也没有:被删除,或从未发布"
        f"(执行 shaodao audit anchor --district {code} 可重新发布)。"
    )
    return [
        Finding(
            check=Check.ANCHORS,
            code="anchor_file_missing",
            table="锚定文件",
            detail=detail,
            proven=where.is_dir(),
        )
    ]


def _not_judged(error: Exception, check: Check, what: str) -> Verdict:
    return Verdict(check=check, findings=(not_checked(error, check, check.value, what),))


def _published(
    folder: Path | None, district: str | None
) -> tuple[Mapping[str, Sequence[anchoring.StoredAnchor]], Finding | None]:
    """Read the published files, of the named folder or of the one of the settings, and say what is wrong with them.

    Only who names a folder is told that nothing lies there.
    """
    where = folder or Settings().anchor_dir
    if where is None:
        return {}, None
    try:
        files, _ = published.read_published(where)  # the keys that files name of themselves prove nothing
    except published.AnchorInvalid as invalid:
        return {}, Finding(check=Check.ANCHORS, code=invalid.code, table="锚定文件", detail=invalid.detail)
    if folder is None or (district in files if district else files):
        return files, None
    detail = f"目录 {where} 不存在,或其中没有已发布的锚定文件。"
    return files, Finding(
        check=Check.ANCHORS, code="no_anchor_file", table="锚定文件", detail=detail, proven=False
    )


async def verify_journals(district: str | None) -> int:
    """Check every journal of a district, or of all, print, and return the exit status."""
    statuses = []
    async with _open(temporal=False) as (store, _):
        codes = await store.district_codes() | await store.journaled_districts()
        for code in [district] if district else sorted(codes):
            _say(f"区(市) {code}")
            try:
                judged = await judge_journals(store, code)
            except StoreUnavailable:
                raise
            except Exception as error:
                judged = [_not_judged(error, Check.INTAKE, "本区(市)的日志链")]
            statuses.append(_print(judged))
    if not statuses:
        _say("没有任何区(市)与日志可核验。")
    return worst(statuses or [2])


async def judge_anchors(
    store: Store,
    district: str,
    files: Sequence[anchoring.StoredAnchor] | None,
    keys: Mapping[str, PublicKey],
) -> Verdict:
    """Hold a district's present ledger and journals against its anchors: the table's, and published files if any."""
    stored = await store.anchors(district)
    findings: list[Finding] = []
    anchors: list[anchoring.Anchor] = []
    for table, some in (("anchors", stored), ("锚定文件", files or [])):
        chain = anchoring.read_anchors(some, table=table)
        findings += chain.findings + published.check_signatures(some, keys, table=table)
        anchors += chain.anchors
    findings += _published_and_gone(stored, files or [])
    ledger = await store.ledger_hashes(head.case_id for each in anchors for head in each.changed)
    findings += anchoring.compare_with_ledger(anchors, ledger)
    journals = await store.journal_hashes(district, (head for each in anchors for head in each.journals))
    findings += anchoring.compare_with_journals(anchors, journals)
    if not stored and not files:
        findings.append(
            Finding(
                check=Check.ANCHORS,
                code="no_anchor",
                table="anchors",
                detail="尚无任何锚定(零时十分及其后定时锚定)。",
                proven=False,
            )
        )
    note = f"{len(stored)} 次锚定" + (f",{len(files)} 个已发布文件" if files else "") + f",{len(ledger)} 件"
    if anchors:
        note += f",最近 {words.local(max(each.at for each in anchors))}"
    return Verdict(check=Check.ANCHORS, findings=tuple(findings), note=note)


def _published_and_gone(
    stored: Sequence[anchoring.StoredAnchor], files: Sequence[anchoring.StoredAnchor]
) -> list[Finding]:
    held = {each.number: each.hash for each in stored}
    return [
        Finding(
            check=Check.ANCHORS,
            code="anchor_gone" if each.number not in held else "anchor_changed",
            table="anchors",
            row=f"第{each.number}号({each.day})",
            detail="已发布的锚定在数据库中不存在或已被改动。",
        )
        for each in files
        if held.get(each.number) != each.hash
    ]


# --- keys --------------------------------------------------------------------------------------------------


def signing_key() -> SigningKey:
    """Return the key of the settings.

    Raises:
        AuditKeyInvalid: there is none, or it cannot be read.
    """
    named = Settings().audit_key
    if named is None:
        detail = "未设置 SHAODAO_AUDIT_KEY;可用 shaodao audit key --new 文件 生成。"
        raise AuditKeyInvalid("audit_key_missing", detail)
    return SigningKey.load(named.get_secret_value())


def new_key(path: Path) -> SigningKey:
    """Make a key and keep it in a new file.

    Raises:
        AuditKeyInvalid: the file is there already, or cannot be written.
    """
    try:
        SigningKey.new().write_new(path)
    except OSError:
        raise AuditKeyInvalid("audit_key_invalid", f"{path} 已存在或无法写入;密钥从不覆盖。") from None
    return SigningKey.load(str(path))


def key_at_hand(data: Path) -> PublicKey | None:
    """Return the installation's own public key where one is at hand: the environment's, or the data folder's.

    None where there is none, or where the auditor cannot read it: then a key has to be named.
    """
    use(data)
    named = os.environ.get("SHAODAO_AUDIT_KEY")
    with contextlib.suppress(SettingsInvalid, AuditKeyInvalid):
        if named is None and (set_ := Settings().audit_key) is not None:
            named = set_.get_secret_value()
        if named:
            return SigningKey.load(named).public
    return None


def _own_key() -> dict[str, PublicKey]:
    named = Settings().audit_key
    if named is None:
        return {}
    key = SigningKey.load(named.get_secret_value()).public
    return {key.id: key}


# --- what they share ---------------------------------------------------------------------------------------


def use(data: Path) -> None:
    """Take database and keys from an embedded stack's folder, unless the environment names others."""
    use_data(data)
    if (data / KEY_FILE).exists():
        os.environ.setdefault("SHAODAO_AUDIT_KEY", str((data / KEY_FILE).resolve()))
        os.environ.setdefault("SHAODAO_ANCHOR_DIR", str((data / "anchors").resolve()))


def _archive() -> Archive | None:
    named = Settings().archive
    return open_archive(named) if named else None


@contextlib.asynccontextmanager
async def _open(*, temporal: bool = True) -> AsyncIterator[tuple[Store, Client | None]]:
    store = open_store(Settings())
    try:
        yield store, await connect() if temporal else None
    finally:
        await store.close()


async def _case_ids(store: Store, wanted: Wanted) -> list[CaseId]:
    named = [CaseId(case_id) for case_id in wanted.cases]
    if not wanted.by_query:
        return named
    found = await store.cases_called(
        district=wanted.district, called_from=wanted.called_from, called_before=wanted.called_before
    )
    return [*named, *(case_id for case_id in found if case_id not in named)]


def worst(statuses: Sequence[int]) -> int:
    """Return the exit status of many: what is wrong weighs more than what could not be checked."""
    return 1 if 1 in statuses else max(statuses, default=0)


def _say(line: str) -> None:
    typer.echo(line)

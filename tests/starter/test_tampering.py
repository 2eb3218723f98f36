"""A thousand tamperings, drawn at random over every place where a record stands: each is found, at its exact place."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters import bundle
from adapters.bundle import Opened, check_files, check_signature, open_bundle
from adapters.evidence import Evidence, Rows, projected
from adapters.signing import SigningKey, digest_of
from domain import audit
from domain.case import ActionKind, CaseId
from domain.commands import TakeAction
from domain.events import Entry
from domain.journal import (
    CHECK_OF,
    Journal,
    JournalCheck,
    JournalHead,
    Link,
    compare_heads,
    content_digest,
    link,
)
from domain.verify import DigestName, Finding, StoredRow, status_of
from starter.audit_runs import verify_file
from starter.auditor import Gathered, bundle_of, judge, judge_attachments
from tests.records import EVERY, PHOTO, Kept, rechained, replayed, rows, straight, swapped
from tests.sample import ECOLOGY, FULL_TERMS, OFFICERS

TAMPERINGS = 1000
READ_AT = datetime(2026, 3, 4, tzinfo=UTC)


@dataclass(frozen=True)
class Record:
    """A case as it stands, and what its history gives when replayed."""

    play: Kept
    held: tuple[StoredRow, ...]
    read_models: Rows

    def findings(self, held: list[StoredRow] | None = None, read_models: Rows | None = None) -> list[Finding]:
        """Judge the record with these parts in place of its own."""
        verdicts = judge(
            self.play.state.case_id,
            list(self.held) if held is None else held,
            terms_text=self.play.terms.model_dump_json(),
            read_models=self.read_models if read_models is None else read_models,
            replayed=[replayed(self.play)],
            gap="",
            read_at=READ_AT,
        )
        return [finding for verdict in verdicts for finding in verdict.findings]


@cache
def records() -> tuple[Record, ...]:
    plays = [played() for played in EVERY]
    return tuple(
        Record(play, tuple(rows(play.entries)), projected(play.entries, play.terms)) for play in plays
    )


@cache
def key() -> SigningKey:
    return SigningKey.new()


@cache
def sealed() -> bytes:
    record = records()[0]
    evidence = Evidence(
        case_id=record.play.state.case_id,
        district="sample",
        rows=record.held,
        terms=record.play.terms.model_dump_json(),
        terms_id="",
        started=True,
        read_models=record.read_models,
    )
    gathered = Gathered(evidence=evidence, runs=(), gap="", read_at=READ_AT)
    return bundle_of(gathered, key())


# --- the ledger --------------------------------------------------------------------------------------------


def other_text(data: st.DataObject, text: str) -> str:
    """Change one letter or digit of a text to another."""
    place = data.draw(st.sampled_from([at for at, sign in enumerate(text) if sign.isalnum()]))
    sign = data.draw(st.sampled_from([each for each in "0123456789abcdef镇" if each != text[place]]))
    return text[:place] + sign + text[place + 1 :]


def change_a_column(data: st.DataObject) -> tuple[list[Finding], str, str, str]:
    record = data.draw(st.sampled_from(records()))
    place = data.draw(st.integers(0, len(record.held) - 1))
    column = data.draw(st.sampled_from(["case_id", "at", "kind", "entry", "hash"]))
    row = record.held[place]
    if column == "at":
        changed = replace(row, at=row.at + timedelta(microseconds=data.draw(st.integers(1, 10**12))))
    else:
        changed = replace(row, **{column: other_text(data, getattr(row, column))})  # type: ignore[arg-type]
    held = [*record.held[:place], changed, *record.held[place + 1 :]]
    return record.findings(held), "ledger", f"第{place + 1}条", column


def delete_a_row(data: st.DataObject) -> tuple[list[Finding], str, str, str]:
    record = data.draw(st.sampled_from(records()))
    place = data.draw(st.integers(0, len(record.held) - 1))
    held = [*record.held[:place], *record.held[place + 1 :]]
    return record.findings(held), "ledger", f"第{place + 1}条", ""


def insert_a_row(data: st.DataObject) -> tuple[list[Finding], str, str, str]:
    """Put a row in between, and renumber and rehash everything after it."""
    record = data.draw(st.sampled_from(records()))
    entries = record.play.entries
    place = data.draw(st.integers(1, len(entries)))
    forged = data.draw(st.sampled_from(entries)).model_copy(
        update={"at": entries[place - 1].at, "key": "forged"}
    )
    held = rows(rechained([*entries[:place], forged, *entries[place:]]))
    return record.findings(held), "ledger", f"第{place + 1}条", ""


def reorder_rows(data: st.DataObject) -> tuple[list[Finding], str, str, str]:
    record = data.draw(st.sampled_from(records()))
    one, other = sorted(
        data.draw(st.lists(st.integers(0, len(record.held) - 1), min_size=2, max_size=2, unique=True))
    )
    if data.draw(st.booleans()):
        return record.findings(swapped(record.held, one, other)), "ledger", f"第{one + 1}条", "sequence"
    entries = list(record.play.entries)
    entries[one], entries[other] = entries[other], entries[one]
    return record.findings(rows(rechained(entries))), "ledger", f"第{one + 1}条", ""


def backdate_a_row(data: st.DataObject) -> tuple[list[Finding], str, str, str]:
    """Let an entry have happened at another moment, with every hash made to fit."""
    record = data.draw(st.sampled_from(records()))
    entries = record.play.entries
    place = data.draw(st.integers(0, len(entries) - 1))
    earlier = timedelta(microseconds=data.draw(st.integers(1, 10**12)))
    moved = entries[place].model_copy(update={"at": entries[place].at - earlier})
    held = rows(rechained([*entries[:place], moved, *entries[place + 1 :]]))
    return record.findings(held), "ledger", f"第{place + 1}条", "entry.at"


def rewrite_an_entry(data: st.DataObject) -> tuple[list[Finding], str, str, str]:
    """Change a field of an event and rehash the whole chain from there."""
    record = data.draw(st.sampled_from(records()))
    entries = record.play.entries
    place = data.draw(st.integers(0, len(entries) - 1))
    forged = _forged(data, entries[place])
    held = rows(rechained([*entries[:place], forged, *entries[place + 1 :]]))
    return record.findings(held), "ledger", f"第{place + 1}条", "entry"


def _forged(data: st.DataObject, entry: Entry) -> Entry:
    content = json.loads(audit.canonical(entry))
    texts = [name for name, value in content["event"].items() if isinstance(value, str) and name in _FREE]
    if texts:
        name = data.draw(st.sampled_from(texts))
        content["event"][name] = content["event"][name] + "。"
    else:
        content["key"] = "forged"
    return Entry.model_validate({**content, "hash": ""})


_FREE = {"reason", "note", "text", "result", "comment"}


# --- journals: calls taken, operations, decryptions ----------------------------------------------------------


@dataclass
class JournalRecord:
    """A journal as it stands: its rows by key, its links, and what was anchored of it."""

    journal: Journal
    rows: dict[str, dict[str, str | int | datetime]]
    links: list[Link]
    anchored: tuple[tuple[str, JournalHead], ...]

    def findings(self) -> list[Finding]:
        check = JournalCheck(self.journal)
        for each in self.links:
            row = self.rows.get(each.key)
            check.take(each, content_digest(row) if row is not None else None)
        for key in self.rows.keys() - {each.key for each in self.links}:
            check.added(key)
        hashes = {self.journal: check.hashes}
        return [*check.findings, *compare_heads(self.anchored, hashes, check=CHECK_OF[self.journal])]

    def relink(self) -> None:
        """Make all links anew over the rows as they stand: what somebody does who owns the whole database."""
        links: list[Link] = []
        for each in self.links:
            row = self.rows[each.key]
            links.append(chained(self.journal, each.key, row, links))
        self.links = links


def chained(journal: Journal, key: str, row: Mapping[str, str | int | datetime], before: list[Link]) -> Link:
    at = row["at"]
    assert isinstance(at, datetime)
    after = head_of(before[-1]) if before else None
    return link(journal, "sample", key=key, at=at, content=content_digest(row), after=after)


def head_of(each: Link) -> JournalHead:
    return JournalHead(journal=each.journal, sequence=each.sequence, hash=each.hash)


def journal_record(journal: Journal) -> JournalRecord:
    """Return a journal of twelve rows, anchored after the fourth and after the twelfth."""
    rows: dict[str, dict[str, str | int | datetime]] = {
        f"row-{number}": {"at": READ_AT + timedelta(hours=number), "who": f"person {number}", "count": number}
        for number in range(1, 13)
    }
    links: list[Link] = []
    for key, row in rows.items():
        links.append(chained(journal, key, row, links))
    anchored = tuple((f"锚定{place}", head_of(links[place - 1])) for place in (4, 12))
    return JournalRecord(journal, rows, links, anchored)


def tamper_with_a_journal(
    data: st.DataObject, ways: Sequence[str] = ()
) -> tuple[list[Finding], str, str, str]:
    record = journal_record(data.draw(st.sampled_from(list(Journal))))
    place = data.draw(st.integers(0, len(record.links) - 1))
    each, on_chain = record.links[place], f"{record.journal} 第{place + 1}条"
    in_table = f"第{place + 1}条({each.key})"
    what = data.draw(st.sampled_from(ways or _WITH_A_JOURNAL))
    match what:
        case "change a row":
            record.rows[each.key]["who"] = other_text(data, str(record.rows[each.key]["who"]))
            return record.findings(), record.journal, in_table, ""
        case "backdate a row":
            earlier = timedelta(microseconds=data.draw(st.integers(1, 10**12)))
            record.rows[each.key]["at"] = each.at - earlier
            return record.findings(), record.journal, in_table, ""
        case "delete a row":
            del record.rows[each.key]
            return record.findings(), record.journal, in_table, ""
        case "insert a row":
            record.rows["forged"] = dict(record.rows[each.key])
            return record.findings(), record.journal, "forged", ""
        case "exchange two rows":
            other = record.links[(place + data.draw(st.integers(1, 11))) % 12]
            rows = record.rows
            rows[each.key], rows[other.key] = rows[other.key], rows[each.key]
            return record.findings(), record.journal, in_table, ""
        case "change a link":
            column = data.draw(st.sampled_from(["key", "digest", "previous", "hash", "district"]))
            changed = other_text(data, getattr(each, column))
            record.links[place] = each.model_copy(update={column: changed})
            return record.findings(), "journals", on_chain, ""
        case "delete row and link":
            del record.links[place], record.rows[each.key]
            if place == len(record.links):  # the newest leaves no gap: the anchor knows of it
                return record.findings(), "journals", f"{record.journal} 第12条", ""
            return record.findings(), "journals", on_chain, ""
        case "make a row and its link anew":
            record.rows[each.key]["who"] = "forged"
            content = content_digest(record.rows[each.key])
            forged = each.model_copy(update={"digest": content})
            record.links[place] = forged.model_copy(update={"hash": forged.right_hash()})
            if place + 1 == len(record.links):
                return record.findings(), "journals", f"{record.journal} 第5至12条", ""
            return record.findings(), "journals", on_chain, ""
        case "exchange two links":
            other_place = (place + data.draw(st.integers(1, 11))) % 12
            other = record.links[other_place]
            record.links[place] = other.model_copy(update={"sequence": each.sequence})
            record.links[other_place] = each.model_copy(update={"sequence": other.sequence})
            return record.findings(), "journals", on_chain, ""
        case _:  # the whole chain is made anew without the row: only what was anchored tells
            del record.links[place], record.rows[each.key]
            record.relink()
            between = "第1至4条" if place < 4 else "第12条"  # of 5 to 11 nothing tells any more
            return record.findings(), "journals", f"{record.journal} {between}", ""


_WITH_A_JOURNAL = (
    "change a row",
    "backdate a row",
    "delete a row",
    "insert a row",
    "exchange two rows",
    "change a link",
    "delete row and link",
    "make a row and its link anew",
    "exchange two links",
    "make the whole chain anew",
)


def test_journals_that_nobody_touched_are_well() -> None:
    for journal in Journal:
        assert journal_record(journal).findings() == []


@pytest.mark.parametrize("what", _WITH_A_JOURNAL)
def test_each_way_to_tamper_with_a_journal_is_named_at_its_exact_place(what: str) -> None:
    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(st.data())
    def tampered_so(data: st.DataObject) -> None:
        require_found(tamper_with_a_journal(data, [what]))

    tampered_so()


# --- read models, bundles, attachments ---------------------------------------------------------------------


def change_a_read_model(data: st.DataObject) -> tuple[list[Finding], str, str, str]:
    record = data.draw(st.sampled_from(records()))
    table = data.draw(st.sampled_from(sorted(name for name, held in record.read_models.items() if held)))
    held: list[Mapping[str, object]] = list(record.read_models[table])
    place = data.draw(st.integers(0, len(held) - 1))
    what = data.draw(st.sampled_from(["change", "delete", "insert"]))
    column = ""
    if what == "delete":
        del held[place]
    elif what == "insert":
        name = (
            "sequence" if table == "timeline" else "department" if "department" in held[place] else "case_id"
        )
        held.append({**held[place], name: 999 if name == "sequence" else "nobody"})
    else:
        column = data.draw(st.sampled_from(sorted(held[place].keys() - _KEYS)))
        held[place] = {**held[place], column: "forged"}
    return record.findings(read_models={**record.read_models, table: held}), table, "", column


_KEYS = {"case_id", "department", "kind", "round", "sequence"}


def change_a_bundle(data: st.DataObject) -> tuple[list[Finding], str, str, str]:
    """Change one bit of a file, or add, drop or exchange files; the zip itself is made anew."""
    files = bundle.unpack(sealed())
    name = data.draw(st.sampled_from(sorted(files.keys() - {bundle.MANIFEST, bundle.SIGNATURE})))
    what = data.draw(st.sampled_from(["change", "delete", "insert", "reorder", "manifest"]))
    if what == "change":
        content = bytearray(files[name])
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        files[name] = bytes(content)
    elif what == "delete":
        del files[name]
    elif what == "insert":
        name = "extra.txt"
        files[name] = b"forged"
    elif what == "reorder":
        other = data.draw(st.sampled_from(sorted(files.keys() - {name, bundle.MANIFEST, bundle.SIGNATURE})))
        files[name], files[other] = files[other], files[name]
    else:
        name = bundle.SIGNATURE
        text = files[bundle.MANIFEST]
        digit = data.draw(st.sampled_from([at for at, sign in enumerate(text) if chr(sign) in "12345678"]))
        files[bundle.MANIFEST] = text[:digit] + bytes([text[digit] ^ 1]) + text[digit + 1 :]
    return _judged(bundle.pack(files)), name, "", ""


def _judged(content: bytes) -> list[Finding]:
    try:
        opened = open_bundle(content)
    except bundle.BundleInvalid:  # a manifest that cannot be read any more
        return [Finding(check="signature", code="bundle_invalid", table=bundle.SIGNATURE, detail="")]  # type: ignore[arg-type]
    verdicts = [check_signature(opened, key().public), check_files(opened)]
    return [finding for verdict in verdicts for finding in verdict.findings]


ATTACHED: dict[str, Path] = {}


def change_an_attachment(data: st.DataObject) -> tuple[list[Finding], str, str, str]:
    folder = ATTACHED["folder"]
    content = data.draw(st.binary(max_size=10).filter(lambda each: each != b"photo"))
    (folder / PHOTO.name).write_bytes(content)
    verdict = judge_attachments(records()[0].play.entries, folder)
    return list(verdict.findings), PHOTO.name, "第1条所附", ""


WAYS: tuple[Callable[[st.DataObject], tuple[list[Finding], str, str, str]], ...] = (
    change_a_column,
    delete_a_row,
    insert_a_row,
    reorder_rows,
    backdate_a_row,
    rewrite_an_entry,
    tamper_with_a_journal,
    change_a_read_model,
    change_a_bundle,
    change_an_attachment,
)


def test_a_closed_case_with_a_follow_up_to_come_cannot_be_said_to_be_settled() -> None:
    """Nobody would look for its run any more, and the follow-up would never be called for."""
    play = Kept(terms=FULL_TERMS).release().dispatch(ECOLOGY).sign().check_in()
    follow_up_on = (play.now + timedelta(days=10)).date()
    notice = TakeAction(
        by=OFFICERS[ECOLOGY],
        department=ECOLOGY,
        kind=ActionKind.DEMOLITION_NOTICE,
        description="下达通知",
        result="业主签收",
        follow_up_on=follow_up_on,
    )
    play.do(notice).done().rate()
    assert (play.state.is_over, play.state.is_settled) == (True, False)
    record = Record(play, tuple(rows(play.entries)), projected(play.entries, play.terms))
    assert record.findings() == []
    (case,) = record.read_models["cases"]
    assert case["settled_at"] is None
    forged = {**record.read_models, "cases": [{**case, "settled_at": case["acted_at"]}]}
    (finding,) = record.findings(read_models=forged)
    assert (finding.code, finding.table, finding.field) == ("column_differs", "cases", "settled_at")
    (clock,) = (each for each in record.read_models["clocks"] if each["ended_at"] is None)
    others = [each for each in record.read_models["clocks"] if each is not clock]
    stopped = {**forged, "clocks": [*others, {**clock, "ended_at": case["acted_at"]}]}
    assert {each.field for each in record.findings(read_models=stopped)} == {"settled_at", "ended_at"}


def test_records_that_nobody_touched_are_well() -> None:
    for record in records():
        assert record.findings() == []
    assert _judged(sealed()) == []


_TRIED: list[str] = []


@settings(max_examples=TAMPERINGS, suppress_health_check=list(HealthCheck), database=None)
@given(st.data())
def tampered(data: st.DataObject) -> None:
    way = data.draw(st.sampled_from(WAYS))
    _TRIED.append(way.__name__)
    require_found(way(data))


def require_found(tampering: tuple[list[Finding], str, str, str]) -> None:
    findings, table, row, column = tampering
    assert any(
        finding.proven
        and finding.table == table
        and finding.row.startswith(row)
        and finding.field.startswith(column)
        for finding in findings
    ), (table, row, column, findings)


def test_a_thousand_tamperings_are_all_found_each_at_its_exact_place(tmp_path: Path) -> None:
    ATTACHED["folder"] = tmp_path
    _TRIED.clear()
    tampered()
    assert len(_TRIED) >= TAMPERINGS
    assert set(_TRIED) == {way.__name__ for way in WAYS}


# --- what a thief of the database or of a bundle might try -------------------------------------------------


def test_a_bundle_signed_anew_by_somebody_else_is_not_that_of_the_pinned_key() -> None:
    files = bundle.unpack(sealed())
    manifest = open_bundle(sealed()).manifest
    rest = {name: files[name] for name in manifest.files}
    forger = SigningKey.new()
    forged = bundle.seal(
        rest,
        forger,
        case_id=manifest.case_id,
        district=manifest.district,
        exported_at=manifest.exported_at,
        over=manifest.over,
        sequence=manifest.sequence,
        head=manifest.head,
        software=manifest.software,
    )
    verdict = check_signature(open_bundle(forged), key().public)
    assert [finding.code for finding in verdict.findings] == ["other_key"]


def test_without_a_trusted_key_a_signature_proves_nothing_and_the_line_gives_the_fingerprint_to_ask_about() -> (
    None
):
    verdict = check_signature(open_bundle(sealed()), None)
    assert (verdict.status, verdict.label) == (2, "签名自洽,但公钥未核对")
    assert check_signature(open_bundle(sealed()), key().public).label == "签名有效"
    (finding,) = verdict.findings
    assert (finding.code, finding.proven) == ("key_not_trusted", False)
    assert "签名自洽,但未与可信公钥核对" in finding.detail
    assert key().public.fingerprint in finding.detail
    assert hashlib.sha256(key().public.raw).hexdigest() == key().public.fingerprint.replace(" ", "")
    files = bundle.unpack(sealed())
    files[bundle.MANIFEST] = files[bundle.MANIFEST].replace(b'"over": true', b'"over": false')
    (finding,) = check_signature(open_bundle(bundle.pack(files)), None).findings
    assert (finding.code, finding.proven) == ("signature_bad", True)


def test_the_same_record_gives_the_same_bundle_and_sm3_may_digest_it() -> None:
    record = records()[0]
    evidence = Evidence(
        case_id=record.play.state.case_id,
        district="sample",
        rows=record.held,
        terms=record.play.terms.model_dump_json(),
        terms_id="",
        started=True,
        read_models=record.read_models,
    )
    gathered = Gathered(evidence=evidence, runs=(), gap="", read_at=READ_AT)
    assert bundle_of(gathered, key()) == sealed()
    opened = open_bundle(bundle_of(gathered, key(), digest=DigestName.SM3))
    assert opened.manifest.digest is DigestName.SM3
    assert status_of([check_signature(opened, key().public), check_files(opened)]) == 0
    assert opened.manifest.files["ledger.jsonl"].digest == digest_of(
        DigestName.SM3, opened.files["ledger.jsonl"]
    )


def test_sm3_gives_the_standards_own_example() -> None:
    """GB/T 32905-2016, appendix A.1."""
    known = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert digest_of(DigestName.SM3, b"abc") == known


def test_a_case_id_in_the_bundle_that_is_not_the_ledgers_is_named() -> None:
    record = records()[0]
    verdicts = judge(
        CaseId("sample-20260304-zzzzzz"),
        record.held,
        terms_text=record.play.terms.model_dump_json(),
        read_models={},
        replayed=[replayed(record.play)],
        gap="",
        read_at=READ_AT,
    )
    assert any(finding.code == "other_case" for verdict in verdicts for finding in verdict.findings)


def test_a_record_whose_history_is_gone_is_judged_as_far_as_it_goes() -> None:
    for record in records():
        verdicts = judge(
            record.play.state.case_id,
            record.held,
            terms_text=record.play.terms.model_dump_json(),
            read_models=record.read_models,
            replayed=[],
            gap="Temporal 中已没有该案件的执行历史",
            read_at=READ_AT,
        )
        assert [verdict.status for verdict in verdicts] == [0, 2, 0, 0]
        assert status_of(verdicts) == 2


def test_attachments_are_looked_up_by_digest_or_by_name_and_a_missing_one_accuses_nobody(
    tmp_path: Path,
) -> None:
    entries = straight().entries
    assert judge_attachments(entries, tmp_path).status == 2
    (tmp_path / PHOTO.sha256).write_bytes(b"photo")
    assert judge_attachments(entries, tmp_path).status == 0


# --- hostile zips ------------------------------------------------------------------------------------------


def _zip(*members: tuple[str, bytes]) -> bytes:
    import warnings

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a zip",
        sealed()[:-30],
        sealed()[:200] + b"\xff" * 50 + sealed()[250:],
        _zip(("../evil.txt", b"x")),
        _zip(("/etc/passwd", b"x")),
        _zip(("a/b.txt", b"x")),
        _zip(("manifest.json", b"{}"), ("manifest.json", b"{}")),
        _zip(("manifest.json", b"[")),
        _zip(("ledger.jsonl", b"")),
        _zip(*((f"f{number}.txt", b"") for number in range(1001))),
    ],
    ids=range(11),
)
def test_what_is_no_bundle_is_refused(content: bytes) -> None:
    with pytest.raises(bundle.BundleInvalid):
        open_bundle(content)


@pytest.mark.parametrize(
    "content",
    [
        b"before" + sealed(),
        sealed() + b"after",
        sealed() + _zip(("manifest.json", b"{}"))[:60],
        sealed()[:-2] + b"\x07\x00comment",
        _zip(("manifest.json", b"{}")) + sealed(),
    ],
    ids=range(5),
)
def test_a_bundle_with_anything_beside_its_zip_is_refused(content: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert "ledger.jsonl" in archive.namelist(), "any other program reads it"
    with pytest.raises(bundle.BundleInvalid, match="另有内容"):
        open_bundle(content)
    (tmp_path / "case.zip").write_bytes(content)
    assert verify_file(tmp_path / "case.zip", None, None) == 1


def test_a_bundle_that_another_program_has_packed_again_is_read() -> None:
    files, stream = bundle.unpack(sealed()), _Unseekable()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    assert bundle.unpack(stream.getvalue()) == files


class _Unseekable(io.BytesIO):
    """What a program writes to that cannot go back: it puts each size after the data."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError

    def seek(self, *_: int) -> int:
        raise OSError


def test_a_zip_that_unpacks_to_more_than_it_says_is_not_read_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bundle, "_MOST_BYTES", 10_000)
    with pytest.raises(bundle.BundleInvalid) as refused:
        open_bundle(_zip(("manifest.json", b"0" * 1_000_000)))
    assert "上限" in refused.value.detail


def test_any_byte_of_a_bundle_may_be_anything_without_another_error() -> None:
    content = sealed()

    @settings(max_examples=300)
    @given(st.integers(0, len(content) - 1), st.binary(min_size=1, max_size=8))
    def flipped(place: int, wrong: bytes) -> None:
        try:
            opened: Opened = open_bundle(content[:place] + wrong + content[place + len(wrong) :])
        except bundle.BundleInvalid:
            return
        if status_of([check_signature(opened, key().public), check_files(opened)]) == 0:
            assert {**opened.files} == {**open_bundle(content).files}

    flipped()


def test_numbers_in_a_key_or_a_signature_that_are_none_are_refused(tmp_path: Path) -> None:
    from adapters.signing import AuditKeyInvalid, PublicKey

    for wrong in ("", "no such file", "-----BEGIN PRIVATE KEY-----\nx"):
        with pytest.raises(AuditKeyInvalid):
            SigningKey.load(wrong)
    with pytest.raises(AuditKeyInvalid):
        PublicKey.from_pem(b"x")
    with pytest.raises(AuditKeyInvalid):
        PublicKey(b"x")
    path = tmp_path / "key.pem"
    key().write_new(path)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        key().write_new(path)
    assert SigningKey.load(str(path)).public.raw == key().public.raw
    assert SigningKey.load(path.read_text()).public.id == key().public.id
    assert PublicKey.from_pem(key().public.pem().encode()).raw == key().public.raw

"""Holds what the register says of one case's archive against the archive itself; the roll does so for a whole period."""

from collections.abc import Sequence
from dataclasses import replace

from activities.archive import read_manifest
from adapters.store import Store
from domain.case import CaseId
from domain.errors import ArchiveConflict
from domain.ports import Archive
from domain.verify import Check, Finding, Verdict
from starter.roll_call import not_there


async def judge_register(store: Store, archive: Archive | None, case_id: CaseId) -> Verdict | None:
    """Judge the case's rows in `archived` and `archived_runs`; None where nothing says that anything is archived.

    Args:
        archive: without it the rows are told as not checked.
    """
    rows = await store.registered(case_id)
    if not rows:
        return None
    findings = [replace(each, check=Check.REGISTER) for row in rows for each in row.unreadable]
    if archive is None:
        findings.append(_not_compared("未设置归档(SHAODAO_ARCHIVE),登记为已归档的各行未核对。"))
        return _verdict(rows, findings)
    try:
        there = set(await archive.names(f"cases/{case_id}"))
        findings += (replace(each, check=Check.REGISTER) for each in not_there(rows, there))
        findings += await _damaged(store, archive, case_id, there)
    except OSError as error:
        findings.append(_not_compared(f"归档无法读取,登记为已归档的各行未核对:{str(error)[:100]}"))
    return _verdict(rows, findings)


async def _damaged(store: Store, archive: Archive, case_id: CaseId, there: set[str]) -> list[Finding]:
    """Name the manifests that are there and are not what the register says of them."""
    findings = []
    for kept in (await store.register(case_id)).manifests:
        if kept.name not in there:
            continue  # which has been said
        try:
            await read_manifest(archive, kept)
        except ArchiveConflict as conflict:
            findings.append(
                Finding(
                    check=Check.REGISTER,
                    code=conflict.code,
                    table="archived",
                    row=kept.name,
                    detail=conflict.detail,
                )
            )
    return findings


def _verdict(rows: Sequence[object], findings: Sequence[Finding]) -> Verdict:
    return Verdict(check=Check.REGISTER, findings=tuple(findings), note=f"{len(rows)} 行")


def _not_compared(detail: str) -> Finding:
    return Finding(check=Check.REGISTER, code="not_compared", table="archived", detail=detail, proven=False)

"""Judges a district's journals: calls taken, what operators did, who had payloads decrypted."""

from datetime import timedelta

from temporalio.client import Client
from temporalio.service import RPCError

from adapters.store import Store
from domain.anchor import read_anchors
from domain.case import CaseId
from domain.journal import CHECK_OF, Journal, compare_heads
from domain.verify import Check, Finding, Verdict
from workflows import names

_RPC = timedelta(seconds=10)


async def judge_journals(store: Store, client: Client | None, district: str) -> list[Verdict]:
    """Check every journal of the district: its chain, its rows, the anchors in the table, and what Temporal knows."""
    verdicts = [await _judge(store, district, journal) for journal in Journal]
    strangers = await never_taken(store, client, district)
    intake = verdicts[0]
    return [
        Verdict(check=intake.check, findings=(*intake.findings, *strangers), note=intake.note),
        *verdicts[1:],
    ]


async def _judge(store: Store, district: str, journal: Journal) -> Verdict:
    check = CHECK_OF[journal]
    read = await store.check_journal(journal, district)
    anchors = read_anchors(await store.anchors(district)).anchors
    heads = [(each.label, head) for each in anchors for head in each.journals if head.journal is journal]
    covered = max((head.sequence for _, head in heads), default=0)
    against = compare_heads(heads, {journal: read.hashes}, check=check)
    note = f"{len(read.hashes)} 条" + (f",已锚定至第{covered}条" if covered else "")
    return Verdict(check=check, findings=(*read.findings, *against), note=note)


async def never_taken(store: Store, client: Client | None, district: str) -> list[Finding]:
    """Name the cases that Temporal knows and the intake does not: taken out of the database, numbers and all."""
    if client is None:
        return [_unknown("未连接 Temporal,未核对受理之外的案件流程。")]
    query = f"WorkflowType = '{names.CASE}' AND District = '{district}'"
    prefix = names.case_workflow_id(CaseId(""))
    try:
        listed = {each.id async for each in client.list_workflows(query, rpc_timeout=_RPC)}
    except (RPCError, RuntimeError) as error:
        return [_unknown(f"无法连接 Temporal,未核对受理之外的案件流程:{str(error)[:100]}")]
    case_ids = sorted(CaseId(each.removeprefix(prefix)) for each in listed if each.startswith(prefix))
    return [
        Finding(
            check=Check.INTAKE,
            code="never_taken",
            table="intake",
            row=f"案件 {case_id}",
            detail="Temporal 中有此案件的流程,受理链上没有此案件:被删除,或绕过系统启动。",
        )
        for case_id in await store.never_taken(case_ids)
    ]


def _unknown(detail: str) -> Finding:
    return Finding(check=Check.INTAKE, code="not_compared", table="intake", detail=detail, proven=False)

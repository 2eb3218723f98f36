"""Judges a district's journals: calls taken, what operators did, who had payloads decrypted; and who may do what."""

from adapters.store import Store
from domain.anchor import read_anchors
from domain.journal import CHECK_OF, Journal, compare_heads
from domain.verify import Check, Finding, Verdict
from domain.words import local


async def judge_journals(store: Store, district: str) -> list[Verdict]:
    """Check every journal of the district: its chain, its rows, and the anchors in the table; and the district's own rows."""
    anchors = read_anchors(await store.anchors(district)).anchors
    verdicts = []
    for journal in Journal:
        read = await store.check_journal(journal, district)
        heads = [(each.label, head) for each in anchors for head in each.journals if head.journal is journal]
        against = compare_heads(heads, {journal: read.hashes}, check=CHECK_OF[journal])
        covered = max((head.sequence for _, head in heads), default=0)
        note = f"{len(read.hashes)} 条" + (f",已锚定至第{covered}条" if covered else "")
        verdicts.append(Verdict(check=CHECK_OF[journal], findings=(*read.findings, *against), note=note))
    load = await store.check_load(district)
    if load is not None:
        note = f"最近装载 {local(load.loaded_at)}" if load.loaded_at else ""
        others = [_stranger(code) for code in await store.never_loaded() if code != district]
        verdicts.append(Verdict(check=Check.DIRECTORY, findings=(*load.findings, *others), note=note))
    return verdicts


def _stranger(district: str) -> Finding:
    return Finding(
        check=Check.DIRECTORY,
        code="load_unknown",
        table="districts",
        row=district,
        detail="没有可核对的装载记录,接口不据此给予任何权限:请核实此区(市)的来历。",
        proven=False,
    )

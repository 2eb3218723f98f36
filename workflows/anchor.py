"""Anchoring a district's chains again and again; started by a schedule."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from domain.ports import Anchored
    from workflows import names

_TRY = timedelta(minutes=10)
_PAUSE = timedelta(minutes=5)


@workflow.defn(name=names.ANCHOR)
class Anchor:
    """One anchor of a district; it waits for the database, however long that is away."""

    @workflow.run
    async def run(self, district: str) -> Anchored:
        """Anchor, and show operators what came of it."""
        workflow.set_current_details(f"## 锚定\n\n正在锚定 **{district}** 的全部台账与日志。")
        anchored: Anchored = await workflow.execute_activity(
            names.ANCHOR_ACTIVITY,
            district,
            result_type=Anchored,
            start_to_close_timeout=_TRY,
            retry_policy=RetryPolicy(maximum_interval=_PAUSE),
            summary="对全部台账与日志计算根哈希、签名并发布",
        )
        wrong = "".join(f"\n- ✗ {each}" for each in anchored.contradicted)
        workflow.set_current_details(
            f"## 锚定 {anchored.day}\n\n- 第 {anchored.number} 号,{anchored.chains} 件\n- 根哈希 {anchored.root}"
            + (f"\n\n**与此前锚定不符,请立即报告审计人员**{wrong}" if wrong else "")
        )
        return anchored

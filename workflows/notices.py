"""Sending a district's notices: one shift after another, for ever."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from activities.notices import Shift
    from workflows import names

_SHIFT = timedelta(minutes=5)
_GRACE = timedelta(minutes=1)
_HEARTBEAT = timedelta(seconds=15)


@workflow.defn(name=names.NOTICES)
class Notices:
    """One a district. Notices stay out of the cases' histories: there each would cost six events."""

    @workflow.run
    async def run(self, district: str) -> None:
        """Work in shifts until the history is long, then go on in a fresh run."""
        workflow.set_current_details(f"## 通知发送\n\n持续发送 **{district}** 的待发通知;失败的自动重试。")
        while not workflow.info().is_continue_as_new_suggested():
            await workflow.execute_activity(
                names.DELIVER_NOTICES,
                Shift(district=district, length=_SHIFT),
                result_type=int,
                start_to_close_timeout=_SHIFT + _GRACE,
                heartbeat_timeout=_HEARTBEAT,
                retry_policy=RetryPolicy(maximum_interval=_GRACE),
                summary="发送待发通知",
            )
        workflow.continue_as_new(district)

"""Anchoring the ledger."""

from collections.abc import Callable
from datetime import datetime

from temporalio import activity

from domain.errors import DomainError
from domain.ports import Anchored, Anchors


class NoKey:
    """Stands for the port where no audit key is set."""

    async def anchor(self, district: str, at: datetime) -> Anchored:
        """Refuse.

        Raises:
            DomainError: `audit_key_missing`.
        """
        del district, at
        raise DomainError("audit_key_missing", "未设置 SHAODAO_AUDIT_KEY,不能锚定;设置后自动补做。")


class AnchorActivities:
    """Anchors a district's chains.

    Args:
        now: the clock, aware; a port like the others.
    """

    def __init__(self, anchors: Anchors, now: Callable[[], datetime]) -> None:
        self._anchors = anchors
        self._now = now

    @activity.defn(name="anchor")
    async def anchor(self, district: str) -> Anchored:
        """Make an anchor, unless nothing has moved, and publish it; what contradicts older ones is logged as an error."""
        anchored = await self._anchors.anchor(district, self._now())
        if anchored.contradicted:
            activity.logger.error("anchor_contradicted %s", list(anchored.contradicted))
        return anchored

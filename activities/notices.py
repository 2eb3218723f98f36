"""Letting notices out."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from temporalio import activity

from domain.case import Value
from domain.ports import NoticeSender, Outbox, OutboxNotice

_BATCH = 50
_PAUSE = timedelta(seconds=1)
_RETRY_STEP = timedelta(seconds=30)
_RETRY_MOST = timedelta(hours=1)


class Shift(Value):
    """How long one run of the activity works, for one district."""

    district: str
    length: timedelta


class NoticeActivities:
    """Sends what waits in the outbox, at least once, each with its own retries.

    Args:
        now: the clock, aware; a port like the others.
    """

    def __init__(self, outbox: Outbox, senders: Sequence[NoticeSender], now: Callable[[], datetime]) -> None:
        self._outbox = outbox
        self._senders = senders
        self._now = now

    @activity.defn(name="deliver_notices")
    async def deliver_notices(self, shift: Shift) -> int:
        """Send notices as they come until the shift is over; return how many left.

        One long activity, not one a notice: a district's notices cost a handful of events in five minutes, however
        many they are. A worker that dies is noticed by the missing heartbeat and another takes the shift over.
        """
        ends_at, sent = self._now() + shift.length, 0
        while self._now() < ends_at:
            sent += await self.deliver_waiting(shift.district)
            activity.heartbeat(sent)
            await asyncio.sleep(_PAUSE.total_seconds())
        return sent

    async def deliver_waiting(self, district: str) -> int:
        """Send what is due now; return how many left."""
        sent = 0
        while waiting := await self._outbox.unsent(district, _BATCH, self._now()):
            left = [notice.id for notice in waiting if await self._left(notice)]
            await self._outbox.sent(left, self._now())
            sent += len(left)
        return sent

    async def _left(self, notice: OutboxNotice) -> bool:
        try:
            for sender in self._senders:
                await sender.send(notice)
        except Exception as error:
            pause = min(_RETRY_STEP * 2**notice.attempts, _RETRY_MOST)
            await self._outbox.failed(notice, repr(error), self._now() + pause)
            return False
        return True

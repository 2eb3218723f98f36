"""Ways out for notices. The inbox needs none: it is read from the store."""

import structlog

from domain.ports import NoticeSender, OutboxNotice

_log = structlog.get_logger()


class LogSender(NoticeSender):
    """Writes that a notice left; never what it says, for texts may name people."""

    async def send(self, notice: OutboxNotice) -> None:
        """Log the notice's id, its case and its receiver."""
        _log.info(
            "notice_sent",
            notice=notice.id,
            case_id=notice.case_id,
            sequence=notice.sequence,
            receiver=notice.receiver,
        )

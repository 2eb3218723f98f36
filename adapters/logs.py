"""Logs as JSON lines: event names are stable codes, fields carry ids; never residents' names, numbers or texts."""

import logging
import sys
import traceback
from collections.abc import Iterator

import structlog
from temporalio.service import RPCError

_TELLING = (OSError, RPCError)
"""Errors whose own words are about connections. What others say may quote rows and bodies, and so people."""


def configure_logging(*, level: int = logging.INFO) -> None:
    """Send our own events and those of the libraries to standard output, one JSON object a line."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                without_words,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("uvicorn.access", "httpx2", "temporalio.activity"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def without_words(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Put the kinds of the error and its causes and the places that it went through, not what it says."""
    found = event.pop("exc_info", None)
    if isinstance(found, tuple):
        found = found[1]
    error = sys.exc_info()[1] if found is True else found
    if isinstance(error, BaseException):
        event["exception"] = "\n".join(_told(error))
    return event


def _told(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield f"{type(error).__module__}.{type(error).__qualname__}" + (
            f": {error}" if isinstance(error, _TELLING) else ""
        )
        yield "".join(traceback.format_tb(error.__traceback__)).rstrip()
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)

"""Structured logs on standard error: one line per happening, named by its `action`.

    log = structlog.get_logger()
    log.info("job_claimed", job_id=job_id, epoch=3)   # {"action": "job_claimed", "job_id": …, "process": "worker-1", …}

The first argument is the action: snake_case, past participle, fixed and thus greppable; whatever varies goes into
fields. `structlog.contextvars.bound_contextvars(correlation_id=…)` puts fields on every line inside a block, across
awaits. Lines of libraries (standard library logging) come out alike: their logger's name is the action, their text the
`message`. Fields whose name speaks of a secret are blanked.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

from infra.runtime.settings import Settings

SECRET_FIELDS = frozenset({"authorization", "cookie", "password", "secret", "secret_key", "token", "api_key", "presigned_url"})

QUIETER = {
    "aiokafka": logging.WARNING,
    "asyncio": logging.WARNING,
    "faust": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx": logging.WARNING,
    "mode": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "watchfiles": logging.WARNING,
}
"""Libraries whose everyday lines are not ours to keep; at `debug` they speak."""

Line = MutableMapping[str, Any]


def configure(settings: Settings, process: str, stream: TextIO | None = None) -> None:
    """Route structlog and standard library logging to `stream` (standard error), as `settings` say.

    Call it once, in a composition root. `process` names it on every line, as `admin` or `worker-1`.
    """
    level = getattr(logging, settings.log_level.upper())
    stream = sys.stderr if stream is None else stream
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _naming(process),
        _blank_secrets,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    if settings.log_format == "json":
        rendering: list[Processor] = [
            structlog.processors.format_exc_info,
            _lead,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ]
    else:
        plain = structlog.dev.plain_traceback  # the pretty one prints local variables, secrets among them
        rendering = [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(True)
    for name, quiet in QUIETER.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(logging.NOTSET if level == logging.DEBUG else quiet)
    for name in ("uvicorn", "uvicorn.error"):  # give up the handlers and levels of their own
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger(name).propagate = True


def _naming(process: str) -> Processor:
    """Return a step that puts the process on a line, unless it has one."""

    def name(_logger: Any, _method: str, line: Line) -> Line:
        line.setdefault("process", process)
        return line

    return name


def _foreign(logger: Any, _method: str, line: Line) -> Line:
    """Give a line of a library an action, its logger's name; its text becomes the message."""
    record = line.get("_record")
    line["message"] = line["event"]
    line["event"] = record.name if record is not None else getattr(logger, "name", "library")
    return line


def _lead(_logger: Any, _method: str, line: Line) -> Line:
    """Put what a reader looks for first at the beginning of the line."""
    first = {"timestamp": line.pop("timestamp"), "level": line.pop("level"), "action": line.pop("event")}
    return first | dict(line)


def _blank_secrets(_logger: Any, _method: str, line: Line) -> Line:
    """Blank the fields whose names speak of secrets."""
    for field in SECRET_FIELDS & line.keys():
        line[field] = "***"
    return line

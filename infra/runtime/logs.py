"""Structured logs on standard error: one line per occurrence, named by its `action`.

    log = structlog.get_logger()
    log.info("job_claimed", job_id=job_id, epoch=3)   # {"action": "job_claimed", "job_id": …, "process": "worker-1", …}

The first argument is the action: snake_case, past participle, fixed and thus greppable; fields hold
all that varies. `structlog.contextvars.bound_contextvars(correlation_id=…)` puts fields on every line inside a block, across
awaits. Lines of libraries (standard library logging) have the same form: their logger's name is the action, their text the
`message`. Fields named like secrets are redacted.

Warnings and errors that repeat are counted instead of written: while a broker is away its clients log that hundreds of times a
second. Of equal lines the first is written at once, then the last of every 30 s with the number of those it stands for
(`repeated`).
"""

import logging
import re
import sys
from collections.abc import Callable, Iterator, MutableMapping
from time import monotonic
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

REPEATS_S = 30.0
KINDS_MAX = 1000
"""Kinds of lines that are counted at once; one more and the oldest count is written and forgotten."""
_NUMBERS = re.compile(r"\d+")
_SPOKEN = ("error", "message", "reason")
"""Fields in which only words count: their numbers are times, ports and counts."""

Line = MutableMapping[str, Any]


class _Kind:
    """Lines that are alike: until when they are counted, how many were not written, and the last of these."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.count = 0
        self.last: logging.LogRecord | None = None


class CountingHandler(logging.StreamHandler[TextIO]):
    """Writes records; repeated warnings and errors at most once per 30 s. `seconds` is a monotonic clock."""

    def __init__(self, stream: TextIO, seconds: Callable[[], float] = monotonic) -> None:
        super().__init__(stream)
        self._seconds = seconds
        self._kinds: dict[tuple[object, ...], _Kind] = {}  # in the order of their ends

    def emit(self, record: logging.LogRecord) -> None:
        """Write counted records that are due, then write or count this one. `handle` holds the lock."""
        now = self._seconds()
        for late in self._due(now):
            super().emit(late)
        if record.levelno < logging.WARNING:
            super().emit(record)
            return
        kind = self._kinds.get(name := kind_of(record))
        if kind is None:
            self._kinds[name] = _Kind(now + REPEATS_S)
            super().emit(record)
        else:
            kind.count, kind.last = kind.count + 1, record

    def close(self) -> None:
        """Write the last counted records."""
        self.acquire()
        try:
            for late in self._due(float("inf")):
                super().emit(late)
        finally:
            self.release()
        super().close()

    def _due(self, now: float) -> Iterator[logging.LogRecord]:
        """Yield the last record of each kind whose period is over, and start a new one; forget kinds silent for a period."""
        while self._kinds:
            name, kind = next(iter(self._kinds.items()))
            if kind.until > now and len(self._kinds) < KINDS_MAX:
                return
            del self._kinds[name]
            if kind.last is None:
                continue
            if kind.until <= now < float("inf"):
                self._kinds[name] = _Kind(now + REPEATS_S)
            kind.last.repeated = kind.count
            yield kind.last


def kind_of(record: logging.LogRecord) -> tuple[object, ...]:
    """Return the key of equal lines: logger, level and text; of our own lines the action and each field that names something."""
    if not isinstance(record.msg, dict):
        return record.name, record.levelno, _NUMBERS.sub("#", record.getMessage())
    named = {name: value for name, value in record.msg.items() if isinstance(value, str) or name in ("partition", "offset")}
    named.pop("timestamp", None)
    return (
        record.name,
        record.levelno,
        *((name, _NUMBERS.sub("#", value) if name in _SPOKEN else value) for name, value in sorted(named.items())),
    )


def configure(settings: Settings, process: str, stream: TextIO | None = None) -> None:
    """Route structlog and standard library logging to `stream` (standard error), as `settings` say.

    Call it once, in a composition root. `process` names it on every line, as `admin` or `worker-1`.
    """
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
    handler = CountingHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_foreign, *shared],
            processors=[_repeated, structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    logging.captureWarnings(True)
    for name in QUIETER:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    for name in ("uvicorn", "uvicorn.error"):  # give up the handlers and levels of their own
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.NOTSET)
        logging.getLogger(name).propagate = True
    set_level(settings.log_level)


def set_level(name: str) -> None:
    """Log from this level on, now: `debug`, `info`, `warning` or `error`."""
    level = getattr(logging, name.upper())
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    logging.getLogger().setLevel(level)
    for library, quiet in QUIETER.items():
        logging.getLogger(library).setLevel(logging.NOTSET if level == logging.DEBUG else quiet)


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


def _repeated(_logger: Any, _method: str, line: Line) -> Line:
    """Say how many lines a line stands for that were counted instead of written."""
    if count := getattr(line["_record"], "repeated", 0):
        line["repeated"] = count
    return line


def _lead(_logger: Any, _method: str, line: Line) -> Line:
    """Put time, level and action at the beginning of the line."""
    first = {"timestamp": line.pop("timestamp"), "level": line.pop("level"), "action": line.pop("event")}
    return first | dict(line)


def _blank_secrets(_logger: Any, _method: str, line: Line) -> Line:
    """Blank the fields whose names speak of secrets."""
    for field in SECRET_FIELDS & line.keys():
        line[field] = "***"
    return line

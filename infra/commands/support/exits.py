"""Exit codes of commands, and the sentence for each expected fault."""

from collections import Counter
from enum import IntEnum
from importlib import metadata

from events import errors


class ExitCode(IntEnum):
    """Exit codes of `kinolog`, the same for every command."""

    OK = 0, "Done."
    FAILED = 1, "The work was done and failed: a video was not published, a projection differs."
    USAGE = 2, "The command, an option, a file or a setting is wrong; the message names it."
    AWAY = 3, "A service does not answer: the admin app, Kafka, PostgreSQL or the object store."
    NOT_FOUND = 4, "No such video, job, event, projection …"
    REFUSED = 5, "Not allowed: the token is missing or wrong, or the state of the thing forbids it."
    INTERRUPTED = 130, "Ctrl-C."

    def __new__(cls, value: int, meaning: str) -> "ExitCode":
        """Store the meaning with the code."""
        code = int.__new__(cls, value)
        code._value_ = value
        code.meaning = meaning
        return code

    meaning: str


class UsageFault(errors.KinologError):
    """The command cannot be executed as given."""


class Refused(errors.KinologError):
    """The platform did not allow this."""


class Away(errors.Retryable):
    """A service does not answer."""


_SERVICES = {
    "aiokafka": "Kafka does not answer",
    "cimpl": "Kafka does not answer",  # confluent-kafka
    "psycopg": "PostgreSQL does not answer",
    "psycopg_pool": "PostgreSQL does not answer",
    "urllib3": "the object store does not answer",
    "httpx": "the admin app does not answer",
}


_CONNECTION = (
    *("connect", "timeout", "timed_out", "brokers_down", "transport"),
    *("operational", "network", "notavailable", "protocol"),
)
"""Parts of the names of faults of a connection."""


def explain(error: BaseException) -> tuple[ExitCode, str] | None:
    """Return exit code and sentence of an expected fault; None for a bug, which needs its traceback."""
    for kinds, code in (
        ((UsageFault, errors.InvalidRequest), ExitCode.USAGE),
        ((errors.NotFound,), ExitCode.NOT_FOUND),
        ((Refused, errors.Conflict), ExitCode.REFUSED),
        ((errors.Retryable,), ExitCode.AWAY),
        ((errors.KinologError,), ExitCode.FAILED),
    ):
        if isinstance(error, kinds):
            return code, str(error)
    if type(error).__name__ == "InvalidSettings":
        return ExitCode.USAGE, f"settings are wrong:\n{error}"
    if isinstance(error, ModuleNotFoundError) and error.name and (extra := _extra_with(error.name)):
        return ExitCode.USAGE, f"{error.name} is not installed; it comes with: pip install 'kinolog[{extra}]'"
    package = type(error).__module__.partition(".")[0]
    if package in _SERVICES and _is_connection_fault(error):
        words = str(error).strip().splitlines()[:1]
        reason = f" ({words[0]})" if words and words[0] else ""
        return ExitCode.AWAY, f"{_SERVICES[package]}{reason}; is it running? try: kinolog status"
    if isinstance(error, OSError) and error.filename is not None:
        return ExitCode.USAGE, f"{error.filename}: {error.strerror}"
    return None


def _extra_with(module: str) -> str | None:
    """Return the smallest extra of this program that a module comes with, if any."""
    requirements = [requirement.partition("; extra == ")[::2] for requirement in metadata.requires("kinolog") or ()]
    sizes = Counter(extra for _, extra in requirements)
    name = module.partition(".")[0]
    extras = [extra for required, extra in requirements if extra and required.split(">=")[0].replace("-", "_") == name]
    return min(extras, key=lambda extra: sizes[extra]).strip("'\"") if extras else None


def _is_connection_fault(error: BaseException) -> bool:
    """Distinguish a service's faults from our own: bad SQL is a bug, no answer is not."""
    name = type(error).__name__
    if name == "KafkaException":
        name = str(error.args[0].name())
    return any(word in name.lower() for word in _CONNECTION)

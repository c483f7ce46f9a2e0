"""Environment variables of this platform and of its predecessor, VLog, as settings to store. Pure.

VLog's variables are `VLOG_` and the last part of a key. Some have other units: its upload limit is in bytes although its setting
counts megabytes, and its claims last minutes.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

VLOG, KINOLOG = "VLOG_", "KINOLOG_"


class Import(NamedTuple):
    """A variable, the setting that it becomes, and its value; `why_not` says why it becomes none."""

    variable: str
    name: str = ""
    value: str = ""
    why_not: str = ""


def _as_is(text: str) -> str:
    return text


def _times(factor: int) -> Callable[[str], str]:
    def multiplied(text: str) -> str:
        number = float(text) * factor
        return str(int(number)) if number.is_integer() else str(number)

    return multiplied


def _attempts(text: str) -> str:
    return str(max(int(text), 1))


PREDECESSOR: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "HLS_SEGMENT_DURATION": ("segment_s", _as_is),
    "SEGMENT_DURATION": ("segment_s", _as_is),
    "MAX_RETRY_ATTEMPTS": ("attempts_max", _attempts),
    "RETRY_BACKOFF_BASE": ("backoff_base_s", _as_is),
    "WORKER_CLAIM_DURATION": ("lease_s", _times(60)),
    "MAX_UPLOAD_SIZE": ("upload_max_bytes", _as_is),
    "MAX_UPLOAD_SIZE_MB": ("upload_max_bytes", _times(2**20)),
    "DEFAULT_FORMAT": ("streaming_format", str.lower),
    "DEFAULT_CODEC": ("video_codec", str.lower),
    "LOG_LEVEL": ("log_level", str.lower),
}
"""Last part of a VLog variable -> our setting, and how its text becomes ours."""


def imports(environ: Mapping[str, str], storable: Mapping[str, object]) -> Iterator[Import]:
    """Yield what becomes of each variable of either prefix, `storable` has the settings that may be stored."""
    for variable, text in environ.items():
        text = text.strip().strip("\"'")
        if variable.startswith(KINOLOG):
            name = variable.removeprefix(KINOLOG).lower()
            if name in storable:
                yield Import(variable, name, text)
            else:
                yield Import(variable, why_not="stays in the environment: it is needed before stored settings can be read")
        elif variable.startswith(VLOG):
            yield _predecessors(variable, text)


def _predecessors(variable: str, text: str) -> Import:
    if (found := PREDECESSOR.get(variable.removeprefix(VLOG))) is None:
        return Import(variable, why_not="has no counterpart here")
    name, convert = found
    try:
        return Import(variable, name, convert(text))
    except ValueError:
        return Import(variable, why_not=f"{text!r} is no number")


def variables(text: str) -> dict[str, str]:
    """Return the variables of an environment file: NAME=VALUE by line, `#` begins a comment."""
    lines = (line.strip().removeprefix("export ") for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value for name, _, value in pairs}

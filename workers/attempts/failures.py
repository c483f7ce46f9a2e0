"""Classifies failed attempts: stage, category, code and a sentence, from how the attempt ended. Pure.

Categories and codes are Reencodarr's (contracts §1.5): exit codes 137, 143 and 28 mean exhausted resources; 13, 5 and
110 the system; 2 the configuration; 22, 69 and 234 the codec; everything else the process. ffmpeg 7 and newer exit with
the low byte of a negative error number: 228 (= 256 - 28) means 28. A signal or a limit of ours decides first, then
ffmpeg's messages, which are more exact than its exit code. ab-av1 runs another tool, exits with 1 and prints the inner
exit code; the inner one counts.

    classify(stage, result)   a tool failed
    refused(stage, code, …)   a tool succeeded, and its output failed a check of ours; `after(…)` adds the tool's run
    of_error(stage, error)    our own code failed: the store, the disk, a bug
"""

import errno
import json
import re
import signal
from dataclasses import dataclass

from pydantic import ValidationError

from events.errors import EventTooLarge, InvalidEvent, ObjectMissing, StoreUnavailable
from events.jobs import ResultReported
from events.kinds import KINDS, JobKind
from events.media import Failure, FailureCategory, FailureStage, SystemContext
from workers.attempts.process import ProcessResult
from workers.attempts.redaction import command_line, redacted

DETAIL_MAX = 4000
MESSAGE_MAX = 2000

_CHATTER = re.compile(r"\[(?:info|verbose|debug|trace)\] ")
_REPEATED = re.compile(r" *Last message repeated \d+ times?$")
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_DECODED = re.compile(r"Input stream #0:(\d+) .*?(\d+) frames decoded; (\d+) decode errors")
_CORRUPT_PICTURE = re.compile(r"\[vist#0:(\d+)/.*corrupt decoded frame")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A category and code with its sentence; `retryable` when another attempt or worker may fare better."""

    category: FailureCategory
    code: str
    sentence: str
    retryable: bool = True


_DISK = _Kind("resource_exhaustion", "RESOURCE_DISK", "The worker's disk is full.")
_MEMORY = _Kind("resource_exhaustion", "RESOURCE_MEMORY", "ffmpeg ran out of memory.")
_OUTPUT = _Kind("resource_exhaustion", "RESOURCE_OUTPUT", "The output outgrew its limit.", False)
_STORE = _Kind("file_operations", "FILE_OP_STORE", "The object store did not take or return a file that the job needs.")
_OBJECT = _Kind("file_operations", "FILE_OP_STORE", "An object that the job needs is not in the store.")
_ACCESS = _Kind("file_access", "FILE_ACCESS", "A file could not be opened.")
_CODEC = _Kind("codec_issues", "CODEC_UNSUPPORTED", "This ffmpeg cannot handle the codec.", False)
_CORRUPT = _Kind("validation", "FILE_CORRUPT", "The file is damaged where it must be read.", False)
_DISK_FAULT = _Kind("system_environment", "ENV", "The worker's disk could not be read or written.")

_OUT_OF_MEMORY = r"Cannot allocate memory|malloc of size \d+ failed|malloc failed|bad_alloc|pthread_\w+ failed|Resource temporarily"
_SAYINGS: tuple[tuple[str, _Kind], ...] = (
    (r"No space left on device|Disk quota exceeded", _DISK),
    (r"File too large", _OUTPUT),
    (_OUT_OF_MEMORY, _MEMORY),
    (r"Permission denied|Read-only file system|Too many open files|No such file or directory", _ACCESS),
    (r"Connection (?:refused|reset|timed out)|Server returned [45]\w\w|Failed to resolve hostname", _ACCESS),
    (r"Input/output error", _DISK_FAULT),
    (r"Unknown encoder|Encoder not found|Unknown decoder|Decoder .* not found|Decoding requested, but no decoder", _CODEC),
    (
        r"not on whitelist|not in allowed",
        _Kind("validation", "PROTOCOL_REFUSED", "The file refers to another file or address; that is refused.", False),
    ),
    (r"moov atom not found", _Kind("validation", "FILE_TRUNCATED", "The file is not whole: its index is missing.", False)),
    (
        r"Decode error rate \S+ exceeds maximum",
        _Kind("validation", "FILE_CORRUPT", "The file is damaged: too many pictures or sounds cannot be decoded.", False),
    ),
    (r"Error opening input.*Invalid data found|Error while opening input", _CORRUPT),
    (
        r"No such filter|Error parsing (?:a )?filter|Option .* not found",
        _Kind("configuration", "CONFIG", "ffmpeg lacks an option."),
    ),
)
_SEARCH_SAYINGS: tuple[tuple[str, _Kind], ...] = (
    (
        r"Failed to find a suitable crf",
        _Kind("crf_optimization", "CRF_NOT_FOUND", "No quality setting reaches the wanted score.", False),
    ),
    (
        r"(?i)predicted \S*\s*(?:\S+ )?size .*(?:exceeds|above|over) ",
        _Kind("size_limits", "SIZE_LIMIT", "The output would be larger than is allowed.", False),
    ),
    (r"(?i)\bpreset\b.*(?:failed|invalid)", _Kind("preset_retry", "PRESET_RETRY", "The encoder does not work with this preset.")),
    (r"(?i)vmaf", _Kind("vmaf_calculation", "VMAF_CALC", "The quality of a sample could not be measured.")),
)
"""Messages of ab-av1 during its search for a quality setting."""
_INNER_EXIT_CODE = re.compile(r"exit code (\d{1,3})\b")
_ERRNO_KINDS = {28: _DISK, 12: _MEMORY, 27: _OUTPUT}
_INVALID_DATA = 256 - ord("I")
"""Exit code of ffmpeg for AVERROR_INVALIDDATA, whose tag begins with an I."""
_OF_FFMPEG: dict[int, str] = {
    22: "ffmpeg cannot follow the plan for this file: it refused a format or a value in it.",
    33: "ffmpeg cannot follow the plan for this file: a value in it is impossible.",
    34: "ffmpeg cannot follow the plan for this file: a value in it is out of bounds.",
    38: "ffmpeg has no function for something that this file contains.",
    ord("B"): "This file reveals a bug in ffmpeg.",
    ord("P"): "This file uses something that ffmpeg does not know yet.",
    ord("E"): "A library inside ffmpeg failed at this file.",
    0x08: "ffmpeg lacks a decoder, encoder or filter that this file needs.",
}
"""Sentences for the error numbers with which ffmpeg gives up a file. The same command fails alike on every worker, so none
is retried, except after an error in a hardware library (`E`: AVERROR_EXTERNAL)."""
_HARDWARE_WORDS = re.compile(r"(?i)nvenc|cuda|vaapi|qsv|videotoolbox|mfx")
_OTHERWISE = "ffmpeg stopped at this file without a known reason; its own words are among the details."
_CATEGORIES: dict[int, FailureCategory] = {
    137: "resource_exhaustion",
    143: "resource_exhaustion",
    28: "resource_exhaustion",
    13: "system_environment",
    5: "system_environment",
    110: "system_environment",
    2: "configuration",
    22: "codec_issues",
    69: "codec_issues",
    234: "codec_issues",
}


def classify(stage: FailureStage, result: ProcessResult) -> Failure:
    """Return the failure of a tool's run."""
    words = complaints(result.stderr_tail)
    kind, exit_code = _kind(stage, result, words)
    return Failure(
        stage=stage,
        category=kind.category,
        code=kind.code,
        message=kind.sentence,
        detail=_detail(words),
        exit_code=exit_code,
        retryable=kind.retryable,
        context=_context(result),
    )


def after(failure: Failure, result: ProcessResult) -> Failure:
    """Return the failure of a check with the command line and exit code of the tool that it checked."""
    return failure.model_copy(update={"exit_code": result.exit_code, "context": _context(result)})


def refused(
    stage: FailureStage,
    code: str,
    message: str,
    detail: str = "",
    *,
    category: FailureCategory = "validation",
    retryable: bool = True,
) -> Failure:
    """Return the failure of a check of ours on the output of a tool that succeeded."""
    return Failure(
        stage=stage,
        category=category,
        code=code,
        message=message[:MESSAGE_MAX],
        detail=_detail(complaints(detail)),
        retryable=retryable,
    )


def of_error(stage: FailureStage, error: Exception) -> Failure:
    """Return the failure of an attempt that ended with an exception."""
    kind = _of_error(stage, error)
    words = redacted(f"{type(error).__name__}: {error}")
    return Failure(
        stage=stage,
        category=kind.category,
        code=kind.code,
        message=kind.sentence,
        detail=words[:DETAIL_MAX],
        retryable=kind.retryable,
    )


def is_of_machine(words: str) -> bool:
    """Return whether a tool complains about this machine's memory, disk or rights, not about the file's content."""
    return any(kind in (_DISK, _MEMORY, _ACCESS) and re.search(pattern, words) for pattern, kind in _SAYINGS)


def in_context(failure: Failure, around: SystemContext) -> Failure:
    """Return the failure in the context of its machine; its own command and signal stay."""
    own = failure.context or SystemContext()
    return failure.model_copy(update={"context": around.model_copy(update={"command": own.command, "signal": own.signal})})


def _of_error(stage: FailureStage, error: Exception) -> _Kind:
    match error:
        case StoreUnavailable():
            return _STORE
        case ObjectMissing():
            return _OBJECT
        case MemoryError():
            return _MEMORY
        case TimeoutError():
            return _Kind("timeout", "TIMEOUT", "A step of the job took too long.")
        case FileNotFoundError(errno=None):  # `run_process` found no such program
            return _Kind("configuration", "CONFIG", "A tool is not installed on the worker.")
        case OSError(errno=(errno.ENOSPC | errno.EDQUOT)):
            return _DISK
        case OSError(errno=errno.ENOMEM):
            return _MEMORY
        case OSError(errno=errno.EFBIG):
            return _OUTPUT
        case OSError(errno=(errno.EACCES | errno.EPERM | errno.ENOENT | errno.EROFS | errno.EMFILE | errno.ENFILE)):
            return _ACCESS
        case OSError(errno=(errno.EXDEV | errno.EEXIST | errno.ENOTEMPTY | errno.EISDIR | errno.ENOTDIR) as number):
            name = errno.errorcode[number]
            return _Kind("file_operations", f"FILE_OP_{name}", "A file could not be moved, made or removed.")
        case OSError():
            return _DISK_FAULT
        case json.JSONDecodeError() | ValidationError() if stage == "analysis":
            return _Kind("mediainfo_parsing", "MEDIAINFO_PARSE", "The tools' description of the file could not be read.")
        case _:
            return _Kind("unknown", "EXCEPTION", "The worker met something unexpected; its log says more.")


def outgrown(stage: FailureStage, size_bytes: int, limit_bytes: int) -> Failure:
    """Return the failure of a run whose output became larger than its limit."""
    sentence = f"{_OUTPUT.sentence[:-1]}: {size_bytes} bytes, {limit_bytes} are allowed."
    return Failure(stage=stage, category=_OUTPUT.category, code=_OUTPUT.code, message=sentence, retryable=False)


def disk_full(stage: FailureStage) -> Failure:
    """Return the failure of a run that filled the disk."""
    return Failure(stage=stage, category=_DISK.category, code=_DISK.code, message=_DISK.sentence)


def unwritable(kind: JobKind, report: ResultReported, error: InvalidEvent) -> Failure:
    """Return the failure to report instead of a report that the log refuses.

    It is not retryable unless the attempt's own failure was: another attempt would make the same report.
    """
    stage = report.failure.stage if report.failure is not None else KINDS[kind].stage
    too_large = isinstance(error, EventTooLarge)
    code = "REPORT_TOO_LARGE" if too_large else "REPORT_UNWRITABLE"
    sentence = (
        "The worker found or made more of this file than one report can say: it has too many tracks, or too long names."
        if too_large
        else "The worker's report has something in it that cannot be written down."
    )
    if report.failure is not None:
        sentence = f"The attempt failed ({report.failure.code[:100]}), and its report cannot be written down in full."
    detail = redacted(str(error).encode(errors="replace").decode())[:DETAIL_MAX]
    retryable = report.failure is not None and report.failure.retryable
    category: FailureCategory = "size_limits" if too_large else "unknown"
    return Failure(stage=stage, category=category, code=code, message=sentence, detail=detail, retryable=retryable)


def complaints(stderr: str) -> str:
    """Return the warnings and errors, without memory addresses, so that equal failures read alike.

    Every line without a level counts: not all tools print levels.
    """
    kept: list[str] = []
    for line in stderr.splitlines():
        repeats_chatter = _REPEATED.match(line) and not kept
        if line.strip() and not _CHATTER.search(line) and not repeats_chatter:
            kept.append(_ADDRESS.sub("", line.rstrip()))
    return "\n".join(kept)


def damage(stderr: str, track: int) -> int:
    """Return the number of packets of a track that failed to decode, or decoded with errors, from ffmpeg's verbose messages."""
    undecoded = sum(int(errors) for index, _, errors in _DECODED.findall(stderr) if int(index) == track)
    return undecoded + sum(int(index) == track for index in _CORRUPT_PICTURE.findall(stderr))


def _context(result: ProcessResult) -> SystemContext:
    return SystemContext(command=command_line(result.argv, result.directory), signal=result.signal)


def _detail(words: str) -> str | None:
    return redacted(words)[-DETAIL_MAX:] or None


def _kind(stage: FailureStage, result: ProcessResult, words: str) -> tuple[_Kind, int | None]:
    """Return the kind of failure, and the exit code as a shell shows it."""
    if result.cut is not None:
        why = "made no progress" if result.cut == "stalled" else "took too long"
        return _Kind("timeout", "TIMEOUT", f"Reading or encoding {why} and was ended."), None
    if result.signal is not None:
        exhausted = result.signal == signal.SIGABRT and re.search(_OUT_OF_MEMORY, words)
        return (_MEMORY, 128 + result.signal) if exhausted else _by_signal(result.signal)
    code = 1 if result.exit_code is None else result.exit_code
    for pattern, kind in _SAYINGS if stage != "crf_search" else (*_SAYINGS, *_SEARCH_SAYINGS):
        if re.search(pattern, words):
            return kind, code
    if code == 1 and (inner := _INNER_EXIT_CODE.search(words)) is not None:
        code = int(inner[1])
    number = 256 - code if code > 128 else code
    if code > 128 and number in _ERRNO_KINDS:
        return _ERRNO_KINDS[number], code
    if code == _INVALID_DATA:
        return _CORRUPT, code
    category = _CATEGORIES.get(code) or _CATEGORIES.get(number, "process_failure")
    sentence = _OF_FFMPEG.get(number)
    again = sentence is None or (number == ord("E") and _HARDWARE_WORDS.search(words) is not None)
    return _Kind(category, f"EXIT_{code}", sentence or _OTHERWISE, again), code


def _by_signal(number: int) -> tuple[_Kind, int]:
    code = 128 + number
    if number == signal.SIGXFSZ:
        return _OUTPUT, code
    name = next((known.name for known in signal.Signals if known == number), f"signal {number}")
    exhausted = number in (signal.SIGKILL, signal.SIGTERM)
    category = _CATEGORIES.get(code, "process_failure")
    sentence = (
        f"The worker's system ended ffmpeg ({name}); its memory may be used up." if exhausted else f"ffmpeg crashed ({name})."
    )
    return _Kind(category, f"EXIT_{code}", sentence), code

"""Why an attempt failed: from how the tool ended to stage, category, code and a sentence. Pure.

Categories and codes are Reencodarr's (contracts §1.5): exit codes 137, 143 and 28 mean exhausted resources; 13, 5 and
110 the system; 2 the configuration; 22, 69 and 234 the codec; everything else the process. ffmpeg 7 and newer end with
the low byte of a negative error number, so 228 (= 256 - 28) means what 28 means. What ffmpeg says is looked at first,
because it is more exact; but a signal or a limit of ours comes before what it said on the way.
"""

import errno
import re
import signal
from dataclasses import dataclass

from events.errors import ObjectMissing, StoreUnavailable
from events.media import Failure, FailureStage
from workers.transcode.process import ProcessResult

DETAIL_MAX = 4000

_CHATTER = re.compile(r"\[(?:info|verbose|debug|trace)\] ")
_REPEATED = re.compile(r" *Last message repeated \d+ times?$")
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_DECODED = re.compile(r"Input stream #0:(\d+) .*?(\d+) frames decoded; (\d+) decode errors")
_CORRUPT_PICTURE = re.compile(r"\[vist#0:(\d+)/.*corrupt decoded frame")


@dataclass(frozen=True, slots=True)
class _Kind:
    """A category and code with its sentence; `retryable` when another attempt or worker may fare better."""

    category: str
    code: str
    sentence: str
    retryable: bool = True


_DISK = _Kind("resource_exhaustion", "RESOURCE_DISK", "The worker's disk is full.")
_MEMORY = _Kind("resource_exhaustion", "RESOURCE_MEMORY", "ffmpeg ran out of memory.")
_OUTPUT = _Kind("resource_exhaustion", "RESOURCE_OUTPUT", "The output outgrew its limit.", False)
_ENVIRONMENT = _Kind("system_environment", "ENV", "The worker's disk could not be read or written.")
_STORE = _Kind("file_operations", "FILE_OP_STORE", "The object store did not take or give what the job needs.")
_OBJECT = _Kind("file_operations", "FILE_OP_STORE", "An object that the job needs is not in the store.")
_ACCESS = _Kind("file_access", "FILE_ACCESS", "A file could not be opened.")
_CODEC = _Kind("codec_issues", "CODEC_UNSUPPORTED", "This ffmpeg cannot handle the codec.", False)
_CORRUPT = _Kind("validation", "FILE_CORRUPT", "The file is damaged where it must be read.", False)

_OUT_OF_MEMORY = r"Cannot allocate memory|malloc of size \d+ failed|malloc failed|bad_alloc|pthread_\w+ failed|Resource temporarily"
_SAYINGS: tuple[tuple[str, _Kind], ...] = (
    (r"No space left on device|Disk quota exceeded", _DISK),
    (r"File too large", _OUTPUT),
    (_OUT_OF_MEMORY, _MEMORY),
    (r"Permission denied|Read-only file system|Too many open files", _ACCESS),
    (r"Input/output error", _ENVIRONMENT),
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
_ERRNO_KINDS = {28: _DISK, 12: _MEMORY, 27: _OUTPUT}
_INVALID_DATA = 256 - ord("I")
"""Exit code of ffmpeg for AVERROR_INVALIDDATA, whose tag begins with an I."""
_CATEGORIES = {
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
    kind, exit_code = _kind(result, words)
    return Failure(
        stage=stage,
        category=kind.category,
        code=kind.code,
        message=kind.sentence,
        detail=words[-DETAIL_MAX:] or None,
        exit_code=exit_code,
        retryable=kind.retryable,
    )


def refused(stage: FailureStage, code: str, message: str, detail: str = "", *, retryable: bool = True) -> Failure:
    """Return the failure of a check of ours: the tool ended well, what it made is not right."""
    detail = complaints(detail)[-DETAIL_MAX:]
    return Failure(stage=stage, category="validation", code=code, message=message, detail=detail or None, retryable=retryable)


def outgrown(stage: FailureStage, size_bytes: int, limit_bytes: int) -> Failure:
    """Return the failure of a run whose output became larger than its limit."""
    sentence = f"{_OUTPUT.sentence[:-1]}: {size_bytes} bytes, {limit_bytes} are allowed."
    return Failure(stage=stage, category=_OUTPUT.category, code=_OUTPUT.code, message=sentence, retryable=False)


def disk_full(stage: FailureStage) -> Failure:
    """Return the failure of a run that has no more room to write."""
    return Failure(stage=stage, category=_DISK.category, code=_DISK.code, message=_DISK.sentence)


def surroundings_failed(stage: FailureStage, error: StoreUnavailable | ObjectMissing | OSError) -> Failure:
    """Return the failure of an attempt whose store or disk did not do what it must; another attempt may fare better."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, ObjectMissing):
        kind = _OBJECT
    elif isinstance(error, StoreUnavailable):
        kind = _STORE
    else:
        kind = _DISK if error.errno in (errno.ENOSPC, errno.EDQUOT) else _ENVIRONMENT
    return Failure(stage=stage, category=kind.category, code=kind.code, message=kind.sentence, detail=detail[:DETAIL_MAX])


def crashed(stage: FailureStage, error: Exception) -> Failure:
    """Return the failure of an attempt that ended in a bug of ours."""
    detail = f"{type(error).__name__}: {error}"[:DETAIL_MAX]
    return Failure(
        stage=stage, category="unknown", code="EXCEPTION", message="The worker has a fault; its log says which.", detail=detail
    )


def complaints(stderr: str) -> str:
    """Return what is a warning or worse: no statistics, and no addresses, so that equal failures read alike.

    Lines without a level (from a tool that was not asked for levels) all count.
    """
    kept: list[str] = []
    for line in stderr.splitlines():
        repeats_chatter = _REPEATED.match(line) and not kept
        if line.strip() and not _CHATTER.search(line) and not repeats_chatter:
            kept.append(_ADDRESS.sub("", line.rstrip()))
    return "\n".join(kept)


def damage(stderr: str, track: int) -> int:
    """Return how many packets of a track could not be decoded, or only with errors, from ffmpeg's verbose messages."""
    undecoded = sum(int(errors) for index, _, errors in _DECODED.findall(stderr) if int(index) == track)
    return undecoded + sum(int(index) == track for index in _CORRUPT_PICTURE.findall(stderr))


def _kind(result: ProcessResult, words: str) -> tuple[_Kind, int | None]:
    """Return what kind of failure it is and the exit code that a shell would show."""
    if result.cut is not None:
        why = "made no progress" if result.cut == "stalled" else "took too long"
        return _Kind("timeout", "TIMEOUT", f"ffmpeg {why} and was ended."), None
    if result.signal is not None:
        exhausted = result.signal == signal.SIGABRT and re.search(_OUT_OF_MEMORY, words)
        return (_MEMORY, 128 + result.signal) if exhausted else _by_signal(result.signal)
    code = 1 if result.exit_code is None else result.exit_code
    for pattern, kind in _SAYINGS:
        if re.search(pattern, words):
            return kind, code
    number = 256 - code if code > 128 else code
    if code > 128 and number in _ERRNO_KINDS:
        return _ERRNO_KINDS[number], code
    if code == _INVALID_DATA:
        return _CORRUPT, code
    category = _CATEGORIES.get(code) or _CATEGORIES.get(number, "process_failure")
    return _Kind(category, f"EXIT_{code}", f"ffmpeg ended with exit code {code}."), code


def _by_signal(number: int) -> tuple[_Kind, int]:
    code = 128 + number
    if number == signal.SIGXFSZ:
        return _OUTPUT, code
    name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
    exhausted = number in (signal.SIGKILL, signal.SIGTERM)
    category = _CATEGORIES.get(code, "process_failure")
    sentence = f"ffmpeg was ended by {name}" + ("; the machine may be out of memory." if exhausted else ".")
    return _Kind(category, f"EXIT_{code}", sentence), code

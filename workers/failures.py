"""Why an attempt failed: from how the tool ended to stage, category, code and a sentence. Pure.

Categories and codes are Reencodarr's (contracts §1.5): exit codes 137, 143 and 28 mean exhausted resources; 13, 5 and
110 the system; 2 the configuration; 22, 69 and 234 the codec; everything else the process. What ffmpeg said on standard
error is looked at first, because it is more exact.
"""

import re
import signal

from events.media import Failure, FailureStage
from workers.transcode.process import ProcessResult

DETAIL_MAX = 4000

_SAYINGS: tuple[tuple[str, str, str, str, bool], ...] = (
    (r"No space left on device", "resource_exhaustion", "RESOURCE_DISK", "The worker's disk is full.", True),
    (r"File too large", "resource_exhaustion", "RESOURCE_OUTPUT", "The output outgrew its limit.", False),
    (
        r"Cannot allocate memory|malloc of size \d+ failed",
        "resource_exhaustion",
        "RESOURCE_MEMORY",
        "ffmpeg ran out of memory.",
        True,
    ),
    (r"Permission denied", "file_access", "FILE_ACCESS", "A file could not be opened: permission denied.", True),
    (
        r"Unknown encoder|Encoder not found|Unknown decoder|Decoder .* not found|not currently supported",
        "codec_issues",
        "CODEC_UNSUPPORTED",
        "This ffmpeg cannot handle the codec.",
        False,
    ),
    (
        r"Protocol .* not on whitelist|not on whitelist",
        "validation",
        "PROTOCOL_REFUSED",
        "The file refers to another file or address; that is refused.",
        False,
    ),
    (r"moov atom not found", "validation", "FILE_TRUNCATED", "The file is not whole: its index is missing.", False),
    (
        r"Invalid data found when processing input",
        "validation",
        "FILE_CORRUPT",
        "The file is damaged where it must be read.",
        False,
    ),
)
_EXIT_CATEGORIES = {
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


def classify(stage: FailureStage, result: ProcessResult | None, *, code: str | None = None, message: str | None = None) -> Failure:
    """Return the failure of a tool's run. `code` and `message` name a check of ours that failed after it."""
    tail = result.stderr_tail if result is not None else ""
    detail = tail[-DETAIL_MAX:] or None
    exit_code = result.exit_code if result is not None else None
    if result is not None and result.cut is not None:
        sentence = "ffmpeg made no progress and was ended." if result.cut == "stalled" else "ffmpeg took too long and was ended."
        return Failure(stage=stage, category="timeout", code="TIMEOUT", message=sentence, detail=detail)
    if code is not None and message is not None:
        return Failure(stage=stage, category="validation", code=code, message=message, detail=detail, exit_code=exit_code)
    for pattern, category, known, sentence, retryable in _SAYINGS:
        if re.search(pattern, tail):
            return Failure(
                stage=stage,
                category=category,
                code=known,
                message=sentence,
                detail=detail,
                exit_code=exit_code,
                retryable=retryable,
            )
    if result is not None and result.signal is not None:
        return _by_signal(stage, result.signal, detail)
    number = exit_code if exit_code is not None else 1
    return Failure(
        stage=stage,
        category=_EXIT_CATEGORIES.get(number, "process_failure"),
        code=f"EXIT_{number}",
        message=f"ffmpeg ended with exit code {number}.",
        detail=detail,
        exit_code=number,
    )


def _by_signal(stage: FailureStage, number: int, detail: str | None) -> Failure:
    name = signal.Signals(number).name
    if number == signal.SIGXFSZ:
        sentence = "The output outgrew its limit."
        return Failure(
            stage=stage, category="resource_exhaustion", code="RESOURCE_OUTPUT", message=sentence, detail=detail, retryable=False
        )
    exhausted = number in (signal.SIGKILL, signal.SIGTERM)
    sentence = f"ffmpeg was ended by {name}" + ("; the machine may be out of memory." if exhausted else ".")
    return Failure(
        stage=stage,
        category="resource_exhaustion" if exhausted else "process_failure",
        code=f"EXIT_{128 + number}",
        message=sentence,
        detail=detail,
        exit_code=128 + number,
    )

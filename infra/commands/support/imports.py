"""Environment variables of this platform and of its predecessor, VLog, as settings to store.

Some of VLog's variables have other units: its upload limit is in bytes although its setting counts megabytes, and its claims last
minutes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from events.errors import KinologError

VLOG, KINOLOG = "VLOG_", "KINOLOG_"
STORED = "stored"


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
    "STREAMING_SEGMENT_DURATION": ("segment_s", _as_is),
    "MAX_RETRY_ATTEMPTS": ("attempts_max", _attempts),
    "RETRY_BACKOFF_BASE": ("backoff_base_s", _as_is),
    "WORKER_CLAIM_DURATION": ("lease_s", _times(60)),
    "MAX_UPLOAD_SIZE": ("upload_max_bytes", _as_is),
    "MAX_UPLOAD_SIZE_MB": ("upload_max_bytes", _times(2**20)),
    "STREAMING_FORMAT": ("streaming_format", str.lower),
    "STREAMING_CODEC": ("video_codec", str.lower),
    "LOG_LEVEL": ("log_level", str.lower),
}
"""A VLog variable without its prefix -> our setting, and how its text becomes ours."""
NOT_NEEDED: Mapping[str, str] = {
    "CHECKPOINT_INTERVAL": "each chunk is a job, and what is made of it is kept",
    "JOB_STALE_TIMEOUT": "a job is free again when its lease ends: lease_s",
    "CLEANUP_PARTIAL_ON_FAILURE": "abandoned objects are always swept: orphan_ttl_s",
    "KEEP_COMPLETED_QUALITIES": "a retry always keeps what is made",
    "FFMPEG_TIMEOUT_": "the time limit of ffmpeg follows from a chunk's length and rungs",
    "HEARTBEAT_INTERVAL": "a worker that renews its leases is alive: lease_renew_s",
    "WORKER_OFFLINE_THRESHOLD": "a worker that renews its leases is alive: lease_renew_s",
    "POLL_INTERVAL": "nothing is polled: jobs are pushed to waiting workers",
    "WORKER_FALLBACK_POLL_INTERVAL": "nothing is polled: jobs are pushed to waiting workers",
    "WORKER_DEBOUNCE_DELAY": "no folder is watched for files",
    "STALE_JOB_CHECK_INTERVAL": "the dispatcher ends a lease at its moment",
    "PROGRESS_UPDATE_INTERVAL": "progress is reported as it is made",
    "WORKER_STREAMING_UPLOAD": "workers always send each segment by itself",
    "STREAMING_ENABLE_DASH": "CMAF always has a DASH manifest",
    "STREAMING_H264_FALLBACK": "a video is made in one codec: video_codec",
    "ARCHIVE_RETENTION_DAYS": "an archived video is kept until a person purges it",
    "MAX_THUMBNAIL_SIZE": "thumbnails come from the video",
    "THUMBNAIL_WIDTH": "thumbnails come from the video",
    "METRICS_ENABLED": "there are always metrics",
    "METRICS_AUTH_REQUIRED": "metrics require a token when there is one: metrics_token",
    "ALERT_": "Prometheus raises alarms (infra/monitoring)",
    "CDN_": "a CDN fetches from the public app, whose playlists name no host",
    "ANALYTICS_": "figures of viewing are kept as sums: there is no cache",
    "DISPLAY_": "the public pages show neither views nor a tagline",
    "DOWNLOADS_": "there are no downloads here",
    "REENCODE_": "no video is made again by itself",
    "TRANSCRIPTION_": "there is no transcription here",
    "WATERMARK_": "there are no watermarks here",
    "WEBHOOKS_": "there are no webhooks here",
    "WHISPER_": "there is no transcription here",
}
"""Beginning of a VLog variable without its prefix -> why no setting comes of it."""


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
    part = variable.removeprefix(VLOG)
    if (found := PREDECESSOR.get(part)) is None:
        why_not = next((f"not needed: {why}" for start, why in NOT_NEEDED.items() if part.startswith(start)), "is unknown here")
        return Import(variable, why_not=why_not)
    name, convert = found
    try:
        return Import(variable, name, convert(text))
    except ValueError:
        return Import(variable, why_not=f"{text!r} is no number")


def store_all(wanted: Sequence[Import], store: Callable[[Import], object]) -> dict[Import, str]:
    """Store values; return the outcome of each. One that contradicts another is tried again after the others.

    `store` raises KinologError for a value that is refused.
    """
    outcomes: dict[Import, str] = {}
    while True:
        waiting = [each for each in wanted if outcomes.get(each) != STORED]
        for each in waiting:
            try:
                store(each)
                outcomes[each] = STORED
            except KinologError as error:
                outcomes[each] = f"refused: {error}"
        if STORED not in map(outcomes.get, waiting):
            return outcomes


def variables(text: str) -> dict[str, str]:
    """Return the variables of an environment file: NAME=VALUE by line, `#` begins a comment."""
    lines = (line.strip().removeprefix("export ") for line in text.splitlines())
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name.strip(): value for name, _, value in pairs}

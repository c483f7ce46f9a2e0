"""Variables of this platform and its predecessor as settings to store: names, units, and what has no counterpart."""

import re

import pytest

from events.errors import InvalidRequest
from infra.commands.support.imports import PREDECESSOR, Import, imports, store_all, variables
from infra.settings.live import KINDS, parsed

KNOWN = re.findall(
    r"\w+",
    """
    HLS_SEGMENT_DURATION CHECKPOINT_INTERVAL MAX_RETRY_ATTEMPTS RETRY_BACKOFF_BASE JOB_STALE_TIMEOUT CLEANUP_PARTIAL_ON_FAILURE
    KEEP_COMPLETED_QUALITIES FFMPEG_TIMEOUT_MULTIPLIER FFMPEG_TIMEOUT_MINIMUM FFMPEG_TIMEOUT_MAXIMUM WATERMARK_ENABLED
    WATERMARK_TYPE WATERMARK_IMAGE WATERMARK_TEXT WATERMARK_TEXT_SIZE WATERMARK_TEXT_COLOR WATERMARK_POSITION WATERMARK_OPACITY
    WATERMARK_PADDING WATERMARK_MAX_WIDTH_PERCENT HEARTBEAT_INTERVAL WORKER_CLAIM_DURATION POLL_INTERVAL
    WORKER_OFFLINE_THRESHOLD STALE_JOB_CHECK_INTERVAL PROGRESS_UPDATE_INTERVAL WORKER_FALLBACK_POLL_INTERVAL
    WORKER_DEBOUNCE_DELAY WORKER_STREAMING_UPLOAD ANALYTICS_CACHE_ENABLED ANALYTICS_CACHE_TTL ANALYTICS_CLIENT_CACHE_MAX_AGE
    ALERT_WEBHOOK_URL ALERT_WEBHOOK_TIMEOUT ALERT_RATE_LIMIT_SECONDS TRANSCRIPTION_ENABLED WHISPER_MODEL TRANSCRIPTION_LANGUAGE
    TRANSCRIPTION_ON_UPLOAD TRANSCRIPTION_COMPUTE_TYPE TRANSCRIPTION_TIMEOUT ARCHIVE_RETENTION_DAYS MAX_UPLOAD_SIZE
    MAX_THUMBNAIL_SIZE THUMBNAIL_WIDTH STREAMING_FORMAT STREAMING_CODEC STREAMING_ENABLE_DASH STREAMING_SEGMENT_DURATION
    STREAMING_H264_FALLBACK CDN_ENABLED CDN_BASE_URL REENCODE_BATCH_SIZE REENCODE_ENABLED REENCODE_PRIORITY_THRESHOLD
    DISPLAY_SHOW_VIEW_COUNTS DISPLAY_SHOW_TAGLINE DISPLAY_TAGLINE METRICS_ENABLED METRICS_AUTH_REQUIRED DOWNLOADS_ENABLED
    DOWNLOADS_ALLOW_ORIGINAL DOWNLOADS_ALLOW_TRANSCODED DOWNLOADS_RATE_LIMIT_PER_HOUR DOWNLOADS_MAX_CONCURRENT WEBHOOKS_ENABLED
    WEBHOOKS_MAX_RETRIES WEBHOOKS_RETRY_BASE_DELAY WEBHOOKS_RETRY_BACKOFF_MULTIPLIER WEBHOOKS_REQUEST_TIMEOUT
    WEBHOOKS_MAX_CONCURRENT_DELIVERIES WEBHOOKS_DELIVERY_BATCH_SIZE
    """,
)
"""VLog's variables, one for each setting that it knows, without their prefix (contracts-more 2)."""


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("VLOG_MAX_UPLOAD_SIZE", "1073741824", "upload_max_bytes", 2**30),
        ("VLOG_MAX_UPLOAD_SIZE_MB", "1024", "upload_max_bytes", 2**30),
        ("VLOG_WORKER_CLAIM_DURATION", "30", "lease_s", 1800.0),
        ("VLOG_MAX_RETRY_ATTEMPTS", "0", "attempts_max", 1),
        ("VLOG_HLS_SEGMENT_DURATION", '"6"', "segment_s", 6.0),
        ("VLOG_STREAMING_CODEC", "HEVC", "video_codec", "hevc"),
        ("VLOG_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("KINOLOG_LEASE_S", "90", "lease_s", 90.0),
    ],
)
def test_names_and_units_are_translated(variable: str, text: str, name: str, value: object) -> None:
    (found,) = imports({variable: text, "PATH": "/bin"}, KINDS)
    assert (found.name, found.why_not) == (name, "")
    assert parsed(found.name, found.value) == value


def test_what_cannot_be_stored_is_named_with_the_reason() -> None:
    found = list(imports({"VLOG_DOWNLOADS_ENABLED": "false", "VLOG_WORKER_CLAIM_DURATION": "x", "KINOLOG_KAFKA_PORT": "1"}, KINDS))
    assert [each.name for each in found] == ["", "", ""]
    assert found[0] == Import("VLOG_DOWNLOADS_ENABLED", why_not="not needed: there are no downloads here")
    assert "no number" in found[1].why_not and "environment" in found[2].why_not


@pytest.mark.parametrize("variable", KNOWN)
def test_each_variable_of_the_predecessor_has_a_counterpart_or_a_reason(variable: str) -> None:
    (found,) = imports({f"VLOG_{variable}": "1"}, KINDS)
    assert found.name or found.why_not.startswith("not needed: ")
    assert next(imports({"VLOG_X": "1"}, KINDS)).why_not == "is unknown here"


def test_what_contradicts_a_later_variable_is_stored_after_it() -> None:
    desk = {"segment_s": 6.0, "chunk_s": 60.0}

    def store(each: Import) -> None:
        changed = desk | {each.name: float(each.value)}
        if changed["segment_s"] > changed["chunk_s"]:
            raise InvalidRequest("segment_s must be at most chunk_s")
        desk.update(changed)

    short, long = Import("A", "chunk_s", "3"), Import("B", "segment_s", "2")
    assert store_all([short, long], store) == {short: "stored", long: "stored"}
    outcomes = store_all([Import("C", "segment_s", "4"), Import("D", "segment_s", "1")], store)
    assert list(outcomes.values()) == ["refused: segment_s must be at most chunk_s", "stored"]


def test_every_counterpart_may_be_stored() -> None:
    assert {name for name, _ in PREDECESSOR.values()} <= KINDS.keys()


def test_a_file_of_variables_is_read_line_by_line() -> None:
    text = "# a comment\n\nexport VLOG_A=1\nVLOG_B = two=three\nnonsense\n"
    assert variables(text) == {"VLOG_A": "1", "VLOG_B": " two=three", "nonsense": ""}

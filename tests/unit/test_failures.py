"""How a tool ended becomes a stage, a category, a code and a sentence: contracts §1.5."""

import signal

import pytest

from workers.failures import classify, complaints, damage, refused
from workers.transcode.process import ProcessResult

CATEGORIES = {
    *("file_access", "mediainfo_parsing", "validation", "vmaf_calculation", "crf_optimization", "size_limits", "preset_retry"),
    *("process_failure", "resource_exhaustion", "codec_issues", "timeout", "file_operations", "sync_integration", "cleanup"),
    *("configuration", "system_environment", "unknown"),
}


def ended(exit_code: int | None = 1, stderr: str = "", number: int | None = None, **more: object) -> ProcessResult:
    """Return how a child ended."""
    return ProcessResult(exit_code, number, stderr, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("exit_code", "category", "code"),
    [
        (137, "resource_exhaustion", "EXIT_137"),
        (143, "resource_exhaustion", "EXIT_143"),
        (28, "resource_exhaustion", "EXIT_28"),
        (13, "system_environment", "EXIT_13"),
        (5, "system_environment", "EXIT_5"),
        (110, "system_environment", "EXIT_110"),
        (2, "configuration", "EXIT_2"),
        (22, "codec_issues", "EXIT_22"),
        (69, "codec_issues", "EXIT_69"),
        (234, "codec_issues", "EXIT_234"),
        (1, "process_failure", "EXIT_1"),
        (255, "process_failure", "EXIT_255"),
        # the low byte of a negative error number, as ffmpeg 7 and newer end
        (256 - 28, "resource_exhaustion", "RESOURCE_DISK"),
        (256 - 12, "resource_exhaustion", "RESOURCE_MEMORY"),
        (256 - 13, "system_environment", "EXIT_243"),
        (256 - 5, "system_environment", "EXIT_251"),
        (183, "validation", "FILE_CORRUPT"),
    ],
)
def test_an_exit_code_has_a_category(exit_code: int, category: str, code: str) -> None:
    failure = classify("encoding", ended(exit_code))

    assert (failure.stage, failure.category, failure.code, failure.exit_code) == ("encoding", category, code, exit_code)
    assert failure.message.endswith(".")


@pytest.mark.parametrize(
    ("stderr", "category", "code", "retryable"),
    [
        ("[out#0/hls @ 0x55] [error] Error writing trailer: No space left on device", "resource_exhaustion", "RESOURCE_DISK", True),
        ("[error] av_interleaved_write_frame(): File too large", "resource_exhaustion", "RESOURCE_OUTPUT", False),
        ("[libx264 @ 0x1] [error] malloc of size 4177920 failed", "resource_exhaustion", "RESOURCE_MEMORY", True),
        ("[error] /x/init.mp4: Permission denied", "file_access", "FILE_ACCESS", True),
        ("[error] file:/x: Input/output error", "system_environment", "ENV", True),
        ("[error] Unknown encoder 'libx265'", "codec_issues", "CODEC_UNSUPPORTED", False),
        ("[in#0 @ 0x1] [error] Protocol 'http' not on whitelist 'file'!", "validation", "PROTOCOL_REFUSED", False),
        ("[mov @ 0x1] [error] moov atom not found", "validation", "FILE_TRUNCATED", False),
        ("[dec:h264 @ 0x1] [fatal] Decode error rate 0.75 exceeds maximum 0.5", "validation", "FILE_CORRUPT", False),
        ("[in#0 @ 0x1] [error] Error opening input: Invalid data found when processing input", "validation", "FILE_CORRUPT", False),
        ("[error] Option 'dec' not found", "configuration", "CONFIG", True),
    ],
)
def test_what_ffmpeg_says_is_more_exact_than_its_exit_code(stderr: str, category: str, code: str, retryable: bool) -> None:
    failure = classify("encoding", ended(1, stderr))

    assert (failure.category, failure.code, failure.retryable) == (category, code, retryable)
    assert failure.category in CATEGORIES


def test_damage_on_the_way_does_not_hide_how_it_ended() -> None:
    tail = "[dec:h264 @ 0x2] [error] Error submitting packet to decoder: Invalid data found when processing input"

    assert classify("encoding", ended(None, tail, signal.SIGKILL)).code == "EXIT_137"
    assert classify("encoding", ended(1, tail)).code == "EXIT_1"


def test_statistics_are_no_reason() -> None:
    assert classify("encoding", ended(1, "[info] title : No space left on device")).code == "EXIT_1"


@pytest.mark.parametrize(
    ("number", "category", "code", "retryable"),
    [
        (signal.SIGKILL, "resource_exhaustion", "EXIT_137", True),
        (signal.SIGTERM, "resource_exhaustion", "EXIT_143", True),
        (signal.SIGSEGV, "process_failure", "EXIT_139", True),
        (signal.SIGXFSZ, "resource_exhaustion", "RESOURCE_OUTPUT", False),
    ],
)
def test_a_signal_has_a_category(number: int, category: str, code: str, retryable: bool) -> None:
    failure = classify("encoding", ended(None, "", number))

    assert (failure.category, failure.code, failure.retryable, failure.exit_code) == (category, code, retryable, 128 + number)


def test_an_abort_without_memory_is_told_from_a_bug() -> None:
    assert classify("encoding", ended(None, "what():  std::bad_alloc", signal.SIGABRT)).code == "RESOURCE_MEMORY"
    assert classify("encoding", ended(None, "Assertion x failed", signal.SIGABRT)).code == "EXIT_134"


@pytest.mark.parametrize("cut", ["stalled", "timed_out"])
def test_a_run_that_we_ended_timed_out_whatever_it_said(cut: str) -> None:
    failure = classify("encoding", ended(None, "No space left on device", signal.SIGKILL, cut=cut))

    assert (failure.category, failure.code, failure.retryable) == ("timeout", "TIMEOUT", True)


def test_details_are_bounded_and_read_alike_on_every_machine() -> None:
    tail = "[verbose] Exiting\n" + "".join(f"[h264 @ 0x{n:x}] [error] broken\n" for n in range(1000))

    detail = classify("encoding", ended(1, tail)).detail

    assert detail is not None and len(detail) <= 4000
    assert "0x" not in detail and "verbose" not in detail


def test_lines_without_a_level_are_complaints() -> None:
    assert complaints("plain words\n\n[info] statistics\n") == "plain words"


def test_a_check_of_ours_is_a_validation() -> None:
    failure = refused("post_processing", "INIT_MISMATCH", "It differs.", retryable=False)

    assert (failure.category, failure.code, failure.retryable, failure.detail) == ("validation", "INIT_MISMATCH", False, None)


STATISTICS = """\
[vist#0:0/h264 @ 0x7] [dec:h264 @ 0x5] [warning] corrupt decoded frame
[in#0/mov @ 0x5] [verbose] Input file #0 (/x/y.mp4):
[in#0/mov @ 0x5] [verbose]   Input stream #0:0 (video): 25 packets read (83 bytes); 23 frames decoded; 2 decode errors;
[in#0/mov @ 0x5] [verbose]   Input stream #0:1 (audio): 48 packets read (7 bytes); 43 frames decoded; 4 decode errors (9 samples);
"""


def test_damage_is_counted_for_each_track() -> None:
    assert [damage(STATISTICS, track) for track in (0, 1, 2)] == [3, 4, 0]

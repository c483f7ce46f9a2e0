"""How a tool ended becomes a stage, a category, a code and a sentence: contracts §1.5."""

import errno
import json
import signal
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from events.codec import decode, encode
from events.envelope import Envelope
from events.errors import ObjectMissing, StoreUnavailable
from events.jobs import ResultReported
from events.kinds import Source
from events.media import FailureCategory, FailureStage, SystemContext, ToolVersion
from tests.support.footage import START, id_of
from workers.attempts.failures import after, classify, complaints, damage, in_context, of_error, refused
from workers.attempts.process import ProcessResult, run_process
from workers.attempts.redaction import redacted
from workers.attempts.work import Limits

CATEGORIES = set(get_args(FailureCategory))


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


@pytest.mark.parametrize("exit_code", [256 - 22, 256 - 34, 256 - 38, 256 - ord("P"), 256 - ord("E"), 256 - 8, 22])
def test_what_ffmpeg_gives_up_is_not_tried_again(exit_code: int) -> None:
    failure = classify("encoding", ended(exit_code, "[error] Conversion failed!"))

    assert not failure.retryable
    assert failure.message.startswith(("ffmpeg ", "This file ", "A library "))


def test_a_failure_of_hardware_is_tried_again() -> None:
    assert classify("encoding", ended(256 - ord("E"), "[h264_nvenc] [error] OpenEncodeSessionEx failed")).retryable


@given(
    st.integers(1, 255), st.sampled_from([None, signal.SIGSEGV, signal.SIGKILL]), st.sampled_from([None, "stalled", "timed_out"])
)
def test_no_sentence_names_an_exit_code(exit_code: int, number: int | None, cut: str | None) -> None:
    failure = classify("encoding", ended(None if number else exit_code, "", number, cut=cut))

    assert "exit code" not in failure.message and "tool" not in failure.message.lower()
    assert failure.message.endswith(".") and len(failure.message.split()) >= 3


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


def test_an_abort_without_memory_is_distinguished_from_a_bug() -> None:
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


# --- the exit code reaches the class, whoever passes it on ----------------------------------------------------------


@pytest.mark.parametrize(("code", "category"), [(137, "resource_exhaustion"), (69, "codec_issues"), (2, "configuration")])
async def test_the_exit_code_of_a_real_child_decides(tmp_path: Path, code: int, category: str) -> None:
    """The seed's trap: its exit code was looked up under another key than it was stored under, and never found."""
    argv = [sys.executable, "-c", f"import sys; sys.stderr.write('encoding stopped'); sys.exit({code})"]
    result = await run_process(argv, cwd=tmp_path, limits=Limits(memory_max_bytes=2**30), timeout_s=30)

    failure = classify("encoding", result)
    report = ResultReported(job_id=id_of("j"), pool="main", worker_id="w", epoch=1, failure=failure)
    read = decode(encode(Envelope(id_of("e"), "worker", "main", START, report, id_of("e")))).data

    assert (failure.category, failure.code, failure.exit_code) == (category, f"EXIT_{code}", code)
    assert isinstance(read, ResultReported) and read.failure == failure


def test_the_exit_code_of_an_inner_tool_counts() -> None:
    failure = classify("crf_search", ended(1, "Error: ffmpeg encode exit code 137"))

    assert (failure.category, failure.code, failure.exit_code) == ("resource_exhaustion", "EXIT_137", 137)


@pytest.mark.parametrize(
    ("stderr", "category", "code"),
    [
        ("Error: Failed to find a suitable crf", "crf_optimization", "CRF_NOT_FOUND"),
        ("Error: predicted video stream size 12.1 GiB exceeds 10 GiB", "size_limits", "SIZE_LIMIT"),
        ("Error: libvmaf: could not read the sample", "vmaf_calculation", "VMAF_CALC"),
        ("Error: preset 13 is invalid", "preset_retry", "PRESET_RETRY"),
    ],
)
def test_a_search_for_quality_fails_in_its_own_ways(stderr: str, category: str, code: str) -> None:
    failure = classify("crf_search", ended(1, stderr))

    assert (failure.stage, failure.category, failure.code) == ("crf_search", category, code)
    assert classify("encoding", ended(1, stderr)).code == "EXIT_1"


def invalid() -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        Source.model_validate({})
    return caught.value


@pytest.mark.parametrize(
    ("stage", "error", "category", "code"),
    [
        ("encoding", StoreUnavailable(), "file_operations", "FILE_OP_STORE"),
        ("encoding", ObjectMissing("x"), "file_operations", "FILE_OP_STORE"),
        ("encoding", OSError(errno.EXDEV, "cross-device"), "file_operations", "FILE_OP_EXDEV"),
        ("encoding", OSError(errno.ENOSPC, "full"), "resource_exhaustion", "RESOURCE_DISK"),
        ("encoding", OSError(errno.ENOMEM, "memory"), "resource_exhaustion", "RESOURCE_MEMORY"),
        ("encoding", MemoryError(), "resource_exhaustion", "RESOURCE_MEMORY"),
        ("encoding", OSError(errno.EFBIG, "big"), "resource_exhaustion", "RESOURCE_OUTPUT"),
        ("encoding", PermissionError(errno.EACCES, "no"), "file_access", "FILE_ACCESS"),
        ("encoding", FileNotFoundError(errno.ENOENT, "gone"), "file_access", "FILE_ACCESS"),
        ("encoding", FileNotFoundError("not an executable program: ffmpeg"), "configuration", "CONFIG"),
        ("encoding", OSError(errno.EIO, "broken"), "system_environment", "ENV"),
        ("encoding", TimeoutError(), "timeout", "TIMEOUT"),
        ("analysis", json.JSONDecodeError("what", "{", 0), "mediainfo_parsing", "MEDIAINFO_PARSE"),
        ("analysis", invalid(), "mediainfo_parsing", "MEDIAINFO_PARSE"),
        ("encoding", invalid(), "unknown", "EXCEPTION"),
        ("post_processing", KeyError("bug"), "unknown", "EXCEPTION"),
    ],
)
def test_an_error_of_ours_has_a_category(stage: FailureStage, error: Exception, category: str, code: str) -> None:
    failure = of_error(stage, error)

    assert (failure.stage, failure.category, failure.code) == (stage, category, code)
    assert failure.message.endswith(".") and failure.detail is not None and type(error).__name__ in failure.detail


@given(
    st.sampled_from(get_args(FailureStage)),
    st.none() | st.integers(0, 255),
    st.none() | st.integers(1, 64),
    st.text(max_size=200),
    st.sampled_from([None, "stalled", "timed_out"]),
)
def test_whatever_ends_a_tool_is_classified(
    stage: FailureStage, code: int | None, number: int | None, stderr: str, cut: str | None
) -> None:
    failure = classify(stage, ended(code, stderr, number, cut=cut))

    assert failure.stage == stage and failure.category in CATEGORIES and failure.code and failure.message.endswith(".")


# --- what was around it, and nothing that is secret -----------------------------------------------------------------

SIGNED = "https://store.example/kinolog/sources/v/original?X-Amz-Signature=5ecret&X-Amz-Credential=5ecret"


def test_what_was_around_a_failure_is_kept_without_secrets() -> None:
    argv = (
        "/opt/bin/ffmpeg",
        "-headers",
        "Authorization: Bearer 5ecret",
        "-i",
        SIGNED,
        "/work/7/jobs/j-1/out/%05d.m4s",
        "-password=5ecret",
    )
    words = f"[error] {SIGNED}: token=5ecret Server returned 403 Forbidden; tried https://me:5ecret@store.example/x"
    failure = classify("encoding", ended(None, words, signal.SIGKILL, argv=argv, directory="/work/7/jobs/j-1"))
    around = SystemContext(worker="gpu-1", memory_available_bytes=1, tools=(ToolVersion(name="ffmpeg", version="9"),))
    failure = in_context(failure, around)

    assert failure.context is not None and failure.detail is not None
    assert failure.context.command == (
        *("ffmpeg", "-headers", "…", "-i", "https://store.example/kinolog/sources/v/original?…"),
        *("./out/%05d.m4s", "-password=…"),
    )
    assert (failure.context.signal, failure.context.worker, failure.context.tools[0].version) == (9, "gpu-1", "9")
    assert "5ecret" not in failure.model_dump_json()
    assert "Server returned 403" in failure.detail


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("file:/srv/var/work/1/sources/0-v_original: Invalid data", "file:…/0-v_original: Invalid data"),
        ("'/a/b c.mp4' /d", "'…/b c.mp4' /d"),
        ("https://store.example/kinolog/v/original", "https://store.example/kinolog/v/original"),
        ("fps=30000/1001,setpts=(PTS-1)/TB ./out/1.m4s 16/9/4", "fps=30000/1001,setpts=(PTS-1)/TB ./out/1.m4s 16/9/4"),
        ("http://h/x?secret_token=5ecret AWS_SECRET_KEY=5ecret&b=1", "http://h/x?… AWS_SECRET_KEY=…&b=1"),
    ],
)
def test_equal_failures_read_alike_on_every_machine(text: str, kept: str) -> None:
    assert redacted(text) == kept


def test_a_check_behind_a_run_names_which_run_it_was() -> None:
    failure = after(refused("encoding", "DECODE_FAILED", "It does not decode."), ended(1, argv=("/x/ffmpeg", "-i", "/a/b/c.m3u8")))

    assert failure.context is not None and failure.context.command == ("ffmpeg", "-i", "…/c.m3u8")
    assert failure.exit_code == 1

"""What encodes here is found out by encoding; where hardware fails, software stands in and the result says so."""

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest

from events.kinds import EncodeSpec, MediaResult
from events.media import PlanSettings
from events.workers import GraphicsCard
from infra.runtime.settings import Settings
from tests.support.platform import Platform
from tests.support.transcoding import encode_specs, finish, job_work, planned
from tests.support.work import ffmpeg_path
from workers.attempts.work import Limits, WorkFailed
from workers.transcode.detect import detect
from workers.transcode.encoders import drm_cards, nvidia_cards

SOFTWARE = ("libx264", "libx265", "libsvtav1")
QUICK = Limits(stall_s=10.0)
"""What hangs is given up soon; software that a busy machine lets wait is not."""
TRIAL_S = 15.0


def script(path: Path, text: str) -> str:
    """Write a program; return its path."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def fake_ffmpeg(folder: Path, cases: str) -> str:
    """An ffmpeg that does as the cases say for some encoders and is the real one for others."""
    return script(folder / "ffmpeg", f'case "$*" in\n{cases}\nesac\nexec {ffmpeg_path()} "$@"')


async def test_a_machine_without_a_card_encodes_in_software_and_says_why(tmp_path: Path) -> None:
    """The real ffmpeg; on a machine with a card, what works there is reported as well."""
    found = await detect(ffmpeg_path(), tmp_path, Limits(), trial_s=TRIAL_S, drm=tmp_path / "no-cards")
    assert found.encoders[-3:] == SOFTWARE
    assert len(found.trials) == 15
    assert all(trial.works or trial.reason for trial in found.trials)
    assert found.gpu == (found.encoders != SOFTWARE)


async def test_each_encoder_is_tried_and_one_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg = fake_ffmpeg(
        tmp_path,
        """*_nvenc*) exit 0;;
        *_vaapi*) echo "[VAAPI @ 0x5647e8] No VA display found." >&2; echo "Conversion failed!" >&2; exit 251;;
        *h264_qsv*) exec sleep 60;;
        *_qsv*) exit 1;;""",
    )
    script(tmp_path / "nvidia-smi", 'echo "NVIDIA RTX 3090, 24576, 570.86"')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    found = await detect(ffmpeg, tmp_path, Limits(), trial_s=TRIAL_S)
    reasons = {trial.encoder: trial.reason for trial in found.trials if not trial.works}
    assert found.encoders == ("h264_nvenc", "hevc_nvenc", "av1_nvenc", *SOFTWARE)
    assert reasons["h264_vaapi"] == "No VA display found."
    assert reasons["h264_qsv"] == "no result within 15 s"
    assert reasons["hevc_qsv"] == "it said nothing"
    assert (found.gpu, found.vram_bytes) == (True, 24576 * 2**20)
    assert found.cards == (GraphicsCard(model="NVIDIA RTX 3090", vram_bytes=24576 * 2**20, driver="nvidia 570.86"),)


async def test_an_nvidia_tool_that_fails_leaves_what_the_kernel_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ffmpeg = fake_ffmpeg(tmp_path, "*_nvenc*|*_vaapi*|*_qsv*|*toolbox*|*lib*) exit 1;;")
    script(tmp_path / "nvidia-smi", 'echo "NVIDIA-SMI has failed"; exit 9')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    device = tmp_path / "drm" / "card0" / "device"
    device.mkdir(parents=True)
    (device / "vendor").write_text("0x1002\n")
    (device / "device").write_text("0x744c\n")
    (device / "mem_info_vram_total").write_text("25753026560\n")
    found = await detect(ffmpeg, tmp_path, Limits(), drm=tmp_path / "drm")
    assert (found.encoders, found.gpu) == ((), False)
    assert found.cards == (GraphicsCard(model="AMD 0x744c", vram_bytes=25753026560),)


def test_odd_answers_about_cards_are_no_cards(tmp_path: Path) -> None:
    assert nvidia_cards(["", "No devices were found"]) == ()
    assert nvidia_cards(["Orin, [N/A], 540"]) == (GraphicsCard(model="Orin", driver="nvidia 540"),)
    assert drm_cards(tmp_path) == ()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of pictures."""
    path = tmp_path_factory.mktemp("clips") / "three.mp4"
    recipe = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=3", "-c:v", "libx264", "-preset", "ultrafast"]
    subprocess.run([ffmpeg_path(), "-v", "error", *recipe, "-pix_fmt", "yuv420p", str(path)], check=True)
    return path


async def chunks_for(encoder: str, clip: Path, folder: Path, chunk_s: float) -> list[EncodeSpec]:
    settings = PlanSettings(segment_s=1, chunk_s=chunk_s, encoder=encoder, preset="p4")
    return encode_specs((await planned(clip, folder, settings))[2])


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ('*h264_nvenc*) echo "[h264_nvenc @ 0x1] [error] OpenEncodeSessionEx failed: out of memory" >&2; exit 187;;', ""),
        ("*h264_nvenc*) exec sleep 60;;", "TIMEOUT"),
    ],
)
async def test_hardware_that_fails_at_a_whole_video_is_replaced_by_software(
    clip: Path, tmp_path: Path, case: str, code: str
) -> None:
    (spec,) = await chunks_for("h264_nvenc", clip, tmp_path, 60)
    work = dataclasses.replace(job_work(tmp_path, clip, "encode-0", QUICK), ffmpeg=fake_ffmpeg(tmp_path, case))
    result, _ = await finish(spec, work)
    assert isinstance(result, MediaResult)
    assert result.encoder == "libx264"
    assert result.fallback is not None and result.fallback.startswith("h264_nvenc: ") and code in result.fallback
    assert sum(len(rendition.segments) for rendition in result.renditions) == 3


async def test_a_chunk_among_others_is_not_made_by_another_encoder(clip: Path, tmp_path: Path) -> None:
    """Chunks of two encoders do not join: the attempt fails, and a worker with that hardware gets it."""
    specs = await chunks_for("h264_nvenc", clip, tmp_path, 1)
    assert len(specs) == 3
    work = dataclasses.replace(job_work(tmp_path, clip, "encode-0", QUICK), ffmpeg=fake_ffmpeg(tmp_path, "*h264_nvenc*) exit 1;;"))
    with pytest.raises(WorkFailed) as failed:
        await finish(specs[0], work)
    assert failed.value.failure.retryable


async def test_software_says_that_it_was_used_and_replaces_nothing(clip: Path, tmp_path: Path) -> None:
    (spec,) = await chunks_for("libx264", clip, tmp_path, 60)
    spec = spec.model_copy(update={"plan": spec.plan.model_copy(update={"preset": "ultrafast"})})
    result, _ = await finish(spec, job_work(tmp_path, clip, "encode-0"))
    assert isinstance(result, MediaResult)
    assert (result.encoder, result.fallback) == ("libx264", None)


async def test_hardware_that_fails_at_a_chunk_makes_way_for_software_for_the_whole_video(
    settings: Settings, clip: Path, tmp_path: Path
) -> None:
    """A card that passes its trial and fails at work: after the last attempt the planner does without it."""
    ffmpeg = fake_ffmpeg(
        tmp_path,
        """*testsrc2*h264_nvenc*) exit 0;;
        *nvenc*) echo "[h264_nvenc @ 0x5647e8] OpenEncodeSessionEx failed: out of memory (10)" >&2; exit 187;;""",
    )
    quick: dict[str, Any] = {"segment_s": 1, "chunk_s": 2, "attempts_max": 2, "backoff_base_s": 0, "quarantine_after": 100}
    async with Platform(settings, ffmpeg=ffmpeg, video_hardware="nvenc", **quick) as platform:
        video = await platform.ended(await platform.upload(clip), 180)
        jobs = (await platform.admin.get("/api/jobs", params={"video_id": video["video_id"]})).json()["items"]
    assert video["status"] == "ready", video
    made_by = {job["what"]: job["made"]["encoder"] for job in jobs if job["kind"] == "encode" and job["status"] == "completed"}
    assert made_by == {"chunk 0": "libx264", "chunk 1": "libx264"}
    assert video["plan"]["video"]["fallback"].startswith("h264_nvenc: ")

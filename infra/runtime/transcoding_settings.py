"""Settings of plans: how videos are cut and encoded. A video keeps those of the moment at which its analysis begins."""

import re
from itertools import pairwise
from typing import Literal

from pydantic import Field, field_validator

from events.media import LadderStep
from infra.runtime.login_settings import LoginSettings
from infra.runtime.service_settings import live

HEIGHTS, VIDEO_KBPS, AUDIO_KBPS = range(90, 4321), range(50, 200_001), range(16, 513)
STEPS_MAX = 12
_STEP = "[0-9]{2,4}=[0-9]{2,6}/[0-9]{2,3}"
LADDER_PATTERN = f"^{_STEP}(,{_STEP}){{0,{STEPS_MAX - 1}}}$"


def ladder_of(text: str) -> tuple[LadderStep, ...]:
    """Return the steps of a ladder, as `2160=15000/192,1080=5000/128`. Raises ValueError."""
    found = (map(int, re.split("[=/]", step)) for step in text.split(","))
    steps = tuple(LadderStep(height=height, video_kbps=video, audio_kbps=audio) for height, video, audio in found)
    for step in steps:
        for words, value, allowed in (
            ("a height", step.height, HEIGHTS),
            ("a bit rate of video", step.video_kbps, VIDEO_KBPS),
            ("a bit rate of sound", step.audio_kbps, AUDIO_KBPS),
        ):
            if value not in allowed:
                raise ValueError(f"has {words} of {value}: it must be at least {allowed.start} and at most {allowed.stop - 1}")
        if step.height % 2:
            raise ValueError(f"has a height of {step.height}: it must be even")
    for higher, lower in pairwise(steps):
        if lower.height >= higher.height or lower.video_kbps > higher.video_kbps:
            raise ValueError(f"must have a lower height, and no higher bit rate, at {lower.height} than at {higher.height}")
    return steps


class TranscodingSettings(LoginSettings, frozen=True, extra="forbid"):
    """The third part of the settings."""

    segment_s: float = Field(
        6.0, ge=1, le=20, description="Target length of a segment, seconds.", json_schema_extra=live("transcoding")
    )
    chunk_s: float = Field(
        60.0,
        ge=2,
        le=3600,
        description="Target length of a chunk, seconds (a whole number of segments).",
        json_schema_extra=live("transcoding"),
    )
    chunks_max: int = Field(
        1000,
        ge=10,
        le=2000,
        description="At most this many chunks of a video; longer videos have longer chunks.",
        json_schema_extra=live("transcoding"),
    )
    video_length_max_s: float = Field(
        72 * 3600.0,
        ge=60,
        le=14 * 24 * 3600,
        description="Longest video that is accepted, seconds.",
        json_schema_extra=live("transcoding"),
    )
    video_gap_max_s: float = Field(
        6 * 3600.0,
        ge=1,
        le=14 * 24 * 3600,
        description="Longest time that one picture may stand, seconds; beyond, the file's clock has jumped.",
        json_schema_extra=live("transcoding"),
    )
    tracks_max: int = Field(
        32,
        ge=1,
        le=100,
        description="At most this many sound tracks of a video are made, and as many subtitles; the rest stays in the source.",
        json_schema_extra=live("transcoding"),
    )
    track_name_max: int = Field(
        200,
        ge=10,
        le=200,
        description="At most this many characters of a track's name; longer names are cut.",
        json_schema_extra=live("transcoding"),
    )
    streaming_format: Literal["cmaf", "hls_ts"] = Field(
        "cmaf", description="CMAF (HLS and DASH) or legacy HLS with MPEG-TS.", json_schema_extra=live("transcoding")
    )
    video_codec: Literal["h264", "hevc", "av1"] = Field(
        "h264", description="Codec of the ladder.", json_schema_extra=live("transcoding")
    )
    ladder: str = Field(
        "2160=15000/192,1440=8000/192,1080=5000/128,720=2500/128,480=1000/96,360=600/96",
        pattern=LADDER_PATTERN,
        description="Steps of the ladder, the highest first: height=video/sound. Heights, of a picture's shorter side, are even, "
        f"{HEIGHTS.start} to {HEIGHTS.stop - 1}; bit rates are in kbit/s. A video gets each step that it reaches.",
        json_schema_extra=live("transcoding"),
    )
    video_hardware: Literal["none", "nvenc", "vaapi", "qsv", "videotoolbox"] = Field(
        "none",
        description="Hardware that encodes the ladder; only workers that have tried it with success get these jobs.",
        json_schema_extra=live("transcoding"),
    )
    encoder_preset: str = Field(
        "veryfast",
        pattern=r"^[a-z0-9_-]{1,30}$",
        description="Preset of the encoder; NVENC has p1 to p7.",
        json_schema_extra=live("transcoding"),
    )
    hdr: Literal["tonemap", "keep"] = Field(
        "tonemap",
        description="HDR sources: tone-mapped to SDR, or kept (10-bit HEVC or AV1 only).",
        json_schema_extra=live("transcoding"),
    )

    @field_validator("ladder")
    @classmethod
    def _steps_go_down(cls, text: str) -> str:
        ladder_of(text)
        return text

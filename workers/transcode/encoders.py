"""The known encoders, the trial of each, and the descriptions of graphics cards. Pure.

A name in `ffmpeg -encoders` proves only that the encoder was compiled in. Only an encode shows whether a card, a driver and
a free session are present. So each encoder is tried with one second of a test picture.
"""

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from events.media import SOFTWARE_ENCODERS, VideoCodec
from events.workers import GraphicsCard

Family = Literal["nvenc", "vaapi", "qsv", "videotoolbox"]
FAMILIES: tuple[Family, ...] = get_args(Family)
CODECS: tuple[VideoCodec, ...] = get_args(VideoCodec)
ENCODERS = (*(f"{codec}_{family}" for family in FAMILIES for codec in CODECS), *SOFTWARE_ENCODERS.values())
"""Encoders that a worker tries at its start, hardware first."""

VAAPI_DEVICE = "/dev/dri/renderD128"
SMI_ARGV = ("nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits")
MEBIBYTE = 2**20
_SPEAKER = re.compile(r"^\[[^]]* @ 0x[0-9a-f]+\]")
VENDORS = {"0x10de": "NVIDIA", "0x8086": "Intel", "0x1002": "AMD"}


def family_of(encoder: str) -> Family | None:
    """Return the hardware family of an encoder, None for software."""
    name = encoder.rpartition("_")[2]
    return next((family for family in FAMILIES if family == name), None)


def device_argv(encoder: str) -> list[str]:
    """Return the options before the inputs: the device into which pictures are loaded."""
    if family_of(encoder) == "vaapi":
        return ["-init_hw_device", f"vaapi=hw:{VAAPI_DEVICE}", "-filter_hw_device", "hw"]
    return []


def upload(encoder: str, pixel_format: str) -> str:
    """Return the end of a filter chain that hands pictures to the encoder."""
    match family_of(encoder):
        case "vaapi":
            return f"format={_hardware_format(pixel_format)},hwupload"
        case "qsv":
            return f"format={_hardware_format(pixel_format)}"
        case _:
            return f"format={pixel_format}"


def _hardware_format(pixel_format: str) -> str:
    return "p010le" if "10" in pixel_format else "nv12"


def trial_argv(ffmpeg: str, encoder: str) -> list[str]:
    """Return the command that encodes one second and discards the output."""
    return [
        *(ffmpeg, "-nostdin", "-hide_banner", "-v", "error", *device_argv(encoder)),
        *("-f", "lavfi", "-i", "testsrc2=size=640x360:rate=10:duration=1", "-vf", upload(encoder, "yuv420p")),
        *("-c:v", encoder, "-f", "null", "-"),
    ]


def complaint(stderr: str) -> str:
    """Return the first line with an error: ffmpeg's later lines report only that it stops."""
    lines = [_SPEAKER.sub("", line).strip() for line in stderr.splitlines()]
    return next((line[:300] for line in lines if line), "it said nothing")


def nvidia_cards(lines: Iterable[str]) -> tuple[GraphicsCard, ...]:
    """Return the cards in the output of `SMI_ARGV`: name, memory in MiB, driver; any other line is skipped."""
    rows = [[field.strip() for field in row] for row in csv.reader(lines)]
    return tuple(
        GraphicsCard(model=row[0], vram_bytes=int(row[1]) * MEBIBYTE if row[1].isdigit() else None, driver=f"nvidia {row[2]}")
        for row in rows
        if len(row) == 3
    )


def drm_cards(root: Path) -> tuple[GraphicsCard, ...]:
    """Return the cards that Linux lists under `/sys/class/drm`; only amdgpu reports its memory there."""
    found = []
    for device in sorted(root.glob("card[0-9]/device")):
        vendor, product = _word(device / "vendor"), _word(device / "device")
        if vendor is None:
            continue
        memory = _word(device / "mem_info_vram_total")
        driver = device / "driver"
        found.append(
            GraphicsCard(
                model=f"{VENDORS.get(vendor, vendor)} {product or ''}".strip(),
                vram_bytes=int(memory) if memory is not None and memory.isdigit() else None,
                driver=driver.resolve().name if driver.exists() else None,
            )
        )
    return tuple(found)


def _word(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None

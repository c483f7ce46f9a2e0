"""Detects the encoders and graphics cards of this machine, and tries every encoder. The effects of `encoders`."""

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from events.workers import EncoderTrial, GraphicsCard
from workers.attempts.process import run_process
from workers.attempts.work import Limits
from workers.transcode.encoders import ENCODERS, SMI_ARGV, complaint, drm_cards, family_of, nvidia_cards, trial_argv

TRIAL_S = 10.0
AT_ONCE = 4
DRM = Path("/sys/class/drm")
ADDRESS_SPACE_BYTES = 2**46
"""Drivers reserve far more address space than they use: under the limit for software, no card would be found."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """Encoders and cards of a machine. `trials` has every encoder, and the reason for each that does not work."""

    trials: tuple[EncoderTrial, ...]
    cards: tuple[GraphicsCard, ...]

    @property
    def encoders(self) -> tuple[str, ...]:
        """The working encoders, hardware first."""
        return tuple(trial.encoder for trial in self.trials if trial.works)

    @property
    def gpu(self) -> bool:
        """Whether a hardware encoder works here."""
        return any(family_of(encoder) is not None for encoder in self.encoders)

    @property
    def vram_bytes(self) -> int:
        """Memory of the largest card."""
        return max((card.vram_bytes or 0 for card in self.cards), default=0)


async def detect(ffmpeg: str, directory: Path, limits: Limits, *, trial_s: float = TRIAL_S, drm: Path = DRM) -> Hardware:
    """Try every encoder, several at once; each trial has `trial_s` seconds."""
    slots = asyncio.Semaphore(AT_ONCE)

    async def attempt(encoder: str) -> EncoderTrial:
        async with slots:
            return await _try(ffmpeg, encoder, directory, limits, trial_s)

    trials = await asyncio.gather(*map(attempt, ENCODERS))
    return Hardware(tuple(trials), await _cards(directory, limits, trial_s, drm))


def limits_for(encoder: str, limits: Limits) -> Limits:
    """Return the limits under which an encoder can work."""
    return limits if family_of(encoder) is None else replace(limits, memory_max_bytes=ADDRESS_SPACE_BYTES)


async def _try(ffmpeg: str, encoder: str, directory: Path, limits: Limits, trial_s: float) -> EncoderTrial:
    argv = trial_argv(ffmpeg, encoder)
    result = await run_process(argv, cwd=directory, limits=limits_for(encoder, limits), stall_s=trial_s, timeout_s=trial_s)
    if result.ok:
        return EncoderTrial(encoder=encoder, works=True)
    reason = f"no result within {trial_s:g} s" if result.cut is not None else complaint(result.stderr_tail)
    return EncoderTrial(encoder=encoder, works=False, reason=reason)


async def _cards(directory: Path, limits: Limits, trial_s: float, drm: Path) -> tuple[GraphicsCard, ...]:
    """Return the cards that NVIDIA's tool reports, else those that Linux lists."""
    lines: list[str] = []
    lifted = replace(limits, memory_max_bytes=ADDRESS_SPACE_BYTES)
    try:
        asked = await run_process(SMI_ARGV, cwd=directory, limits=lifted, on_stdout_line=lines.append, timeout_s=trial_s)
    except FileNotFoundError:
        return drm_cards(drm)
    return (nvidia_cards(lines) if asked.ok else ()) or drm_cards(drm)

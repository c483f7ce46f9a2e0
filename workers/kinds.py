"""The kinds of work, one line each."""

from functools import partial
from typing import cast

from workers import rerun
from workers.attempts.work import Runner
from workers.transcode import analyse, audio, encode, extras, verify

MAKING: dict[str, Runner] = {
    "analyse": cast(Runner, analyse.run),
    "encode": cast(Runner, encode.run),
    "audio": cast(Runner, audio.run),
    "extras": cast(Runner, extras.run),
    "verify": cast(Runner, verify.run),
}
RUNNERS: dict[str, Runner] = MAKING | {"rerun": cast(Runner, partial(rerun.run, MAKING))}

"""The kinds of work, one line each."""

from typing import cast

from workers.transcode import analyse, audio, encode, extras, verify
from workers.work import Runner

RUNNERS: dict[str, Runner] = {
    "analyse": cast(Runner, analyse.run),
    "encode": cast(Runner, encode.run),
    "audio": cast(Runner, audio.run),
    "extras": cast(Runner, extras.run),
    "verify": cast(Runner, verify.run),
}

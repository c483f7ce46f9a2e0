"""Awkward input: small clips of every kind that people upload, and the decided answer to each.

`AWKWARD` is the catalogue: name -> `Recipe`; `tests.support.inputs` has them by subject. `docs/reference/inputs.md` tells the same
answers to people; a test compares the two.
"""

from typing import assert_never

from tests.support.inputs.broadcasts import STREAMS
from tests.support.inputs.captions import CAPTIONS
from tests.support.inputs.files import CONTAINERS, DAMAGE, TIMES
from tests.support.inputs.formats import FORMATS
from tests.support.inputs.pictures import PICTURES
from tests.support.inputs.sound import SOUND
from tests.support.inputs.strangers import NASTY, STRANGERS
from tests.support.recipes import Failed, Published, Recipe

AWKWARD: dict[str, Recipe] = PICTURES | SOUND | CAPTIONS | TIMES | CONTAINERS | DAMAGE | STRANGERS | STREAMS | FORMATS | NASTY


def answer_of(expected: Published | Failed) -> str:
    """Return the decided answer in words, for `docs/reference/inputs.md`."""
    match expected:
        case Failed(code=code):
            return f"refused: `{code}`"
        case Published():
            rate = f" at {expected.frame_rate}" if expected.frame_rate != "25/1" else ""
            parts = [f"{', '.join(expected.rungs)}{rate}"] if expected.rungs else ["sound only"]
            if expected.audio_tracks > 1:
                parts.append(f"{expected.audio_tracks} sound tracks")
            if expected.subtitles:
                parts.append(f"{expected.subtitles} WebVTT")
            if expected.warnings:
                parts.append(f"warning: “{'”, “'.join(expected.warnings)}”")
            return "published: " + "; ".join(parts)
        case _:
            assert_never(expected)


def table() -> str:
    """Return the table of `docs/reference/inputs.md`: `python -m tests.support.awkward` prints it."""
    rows = [
        f"| {recipe.about} | `{name}` | {answer_of(recipe.expected)} |"
        for name, recipe in AWKWARD.items()
        if not name.startswith("nasty_name_")
    ]
    return "\n".join(["| Input | Clip | Answer |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(table())

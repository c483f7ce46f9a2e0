"""The ladder as a setting: its steps, and the sentences about what is no ladder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.media import LADDER
from infra.runtime.settings import InvalidSettings, Settings
from infra.runtime.transcoding_settings import HEIGHTS, STEPS_MAX, VIDEO_KBPS, ladder_of
from processors.planning.ladder import ladder

STEPS = st.lists(
    st.tuples(st.integers(HEIGHTS.start // 2, HEIGHTS.stop // 2 - 1), st.integers(VIDEO_KBPS.start, VIDEO_KBPS.stop - 1)),
    min_size=1,
    max_size=STEPS_MAX,
    unique_by=lambda step: step[0],
)


def test_the_default_is_the_ladder_of_the_plans_without_settings() -> None:
    assert ladder_of(Settings().ladder) == LADDER


@given(STEPS, st.integers(2, 8192), st.integers(2, 8192))
def test_falling_steps_are_a_ladder_whose_rungs_have_names_of_their_own(
    found: list[tuple[int, int]], width: int, height: int
) -> None:
    heights, rates = sorted((2 * half for half, _ in found), reverse=True), sorted((rate for _, rate in found), reverse=True)
    text = ",".join(f"{step}={rate}/96" for step, rate in zip(heights, rates, strict=True))
    steps = ladder_of(Settings.of({"ladder": text}).ladder)
    assert [(step.height, step.video_kbps) for step in steps] == list(zip(heights, rates, strict=True))
    rungs = ladder(width, height, steps)
    assert len({rung.name for rung in rungs}) == len(rungs) >= 1
    assert all(rung.video_kbps <= rates[0] for rung in rungs)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must have the form"),
        ("720=2500", "must have the form"),
        ("720=2500/128,", "must have the form"),
        ("4400=9000/128", "a height of 4400: it must be at least 90 and at most 4320"),
        ("720=20/128", "a bit rate of video of 20: it must be at least 50"),
        ("720=2500/600", "a bit rate of sound of 600: it must be at least 16 and at most 512"),
        ("481=1000/96", "a height of 481: it must be even"),
        ("480=1000/96,720=2500/128", "must have a lower height, and no higher bit rate, at 720 than at 480"),
        ("720=1000/128,480=2500/96", "no higher bit rate, at 480 than at 720"),
    ],
)
def test_what_is_no_ladder_is_refused_with_the_limit(text: str, words: str) -> None:
    with pytest.raises(InvalidSettings, match=words):
        Settings.of({"ladder": text})

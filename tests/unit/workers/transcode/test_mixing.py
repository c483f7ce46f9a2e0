"""Every layout of channels has a way to two."""

from hypothesis import given
from hypothesis import strategies as st

from workers.transcode.mixing import NAMED_COUNTS, mix


@given(st.integers(1, 64))
def test_channels_without_names_all_go_somewhere(channels: int) -> None:
    made = mix("unknown", channels)

    if made is None:
        assert channels in NAMED_COUNTS
    else:
        assert all(f"*c{number}" in made.replace("|", "+") for number in range(channels))


def test_what_ffmpeg_knows_is_left_to_it() -> None:
    assert mix("5.1(side)", 6) is None
    assert mix("22.2", 24) is None
    assert mix("ambisonic 3", 16) is not None

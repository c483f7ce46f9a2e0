"""Short ids: what is shown can be written, and nothing else is meant by it."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import InvalidRequest
from projections.short_ids import CHARACTERS, fits, only, short_id

IDS = st.uuids(version=5).map(str) | st.builds(
    lambda bits: str(UUID(int=(bits & ~(0xF << 76) & ~(0x3 << 62)) | (7 << 76) | (2 << 62))), st.integers(0, 2**128 - 1)
)


@given(IDS)
def test_the_short_form_means_the_id(id_: str) -> None:
    assert len(short_id(id_)) == CHARACTERS
    assert fits(short_id(id_), id_)
    assert fits(id_, id_)


@given(IDS, st.text(max_size=7))
def test_less_than_eight_characters_mean_nothing(id_: str, part: str) -> None:
    assert not fits(part, id_)
    assert not fits(id_[:7], id_)


def test_videos_of_one_minute_differ_in_their_short_forms() -> None:
    assert short_id("01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04") != short_id("01926f9c-5b7a-7c11-8e55-3f2a9b6c1d05")


def test_an_id_of_another_kind_stays_as_it_is() -> None:
    assert short_id("gpu-2") == "gpu-2"


def test_a_part_of_two_ids_is_refused_with_both() -> None:
    assert only("f6c1070f", []) == "f6c1070f"
    assert only("f6c1070f", ["f6c1070f-1"]) == "f6c1070f-1"
    with pytest.raises(InvalidRequest, match="f6c1070f-1 and f6c1070f-2"):
        only("f6c1070f", {"f6c1070f-2", "f6c1070f-1"})

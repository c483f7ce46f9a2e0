"""How a partition's records get their old offsets again: by transactions whose markers and aborted records make the gaps."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.history import backup
from projections.history.backup import Step, Steps

RUN_MAX, FILLERS_MAX = 4, 6


def steps_of(offsets: Sequence[int], end: int) -> list[Step]:
    """Return the steps for records at these offsets."""
    steps = Steps()
    return [*steps.add([(offset, b"%d" % offset) for offset in offsets]), *steps.finish(end)]


@pytest.mark.parametrize(
    ("offsets", "end", "expected"),
    [
        ([], 0, []),
        ([], 3, [("skipped", 0)]),
        ([0, 1], 2, [("plain", 2)]),
        ([0, 1], 3, [("committed", 2)]),
        ([0, 2], 4, [("committed", 1), ("committed", 1)]),
        ([0, 3], 4, [("plain", 1), ("aborted", 0), ("plain", 1)]),
        ([1, 2], 3, [("skipped", 0), ("plain", 2)]),
        ([7], 8, [("skipped", 0), ("plain", 1)]),
    ],
)
def test_a_gap_is_made_by_what_makes_gaps(offsets: list[int], end: int, expected: list[tuple[str, int]]) -> None:
    assert [(step.kind, len(step.records)) for step in steps_of(offsets, end)] == expected


@given(st.lists(st.integers(0, 60), unique=True).map(sorted), st.integers(0, 30))
def test_every_record_gets_its_own_offset(offsets: list[int], more: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "RUN_MAX", RUN_MAX)
        patch.setattr(backup, "FILLERS_MAX", FILLERS_MAX)
        end = (offsets[-1] + 1 if offsets else 0) + more
        steps = steps_of(offsets, end)
    at, placed = 0, []
    for step in steps:
        assert step.first == at
        placed += list(range(at, at + len(step.records)))
        assert step.kind != "aborted" or step.gap >= 2, "an aborted transaction takes one record and its marker at least"
        assert step.kind != "skipped" or at == 0
        at = step.next
    assert at == end
    assert placed == offsets == [offset for step in steps for offset, _ in step.records]

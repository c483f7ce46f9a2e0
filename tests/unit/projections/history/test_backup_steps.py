"""How a partition's records get their old offsets again: by transactions whose markers and aborted records make the gaps."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.history import backup
from projections.history.backup import Step, Steps

RUN_MAX, FILLERS_MAX = 4, 6


def steps_of(offsets: Sequence[int], end: int, start: int | None) -> list[Step]:
    """Return the steps for records at these offsets of a log that starts at `start`."""
    steps = Steps(start)
    return [*steps.add([(offset, b"%d" % offset) for offset in offsets]), *steps.finish(end)]


@pytest.mark.parametrize(
    ("start", "offsets", "end", "expected"),
    [
        (0, [], 0, []),
        (0, [], 3, [("aborted", 0)]),
        (0, [0, 1], 2, [("plain", 2)]),
        (0, [0, 1], 3, [("committed", 2)]),
        (0, [0, 2], 4, [("committed", 1), ("committed", 1)]),
        (0, [0, 3], 4, [("plain", 1), ("aborted", 0), ("plain", 1)]),
        (0, [7], 8, [("aborted", 0), ("plain", 1)]),
        (0, [1, 2], 3, [("skipped", 0), ("plain", 2)]),
        (3, [], 3, [("skipped", 0)]),
        (3, [7], 8, [("skipped", 0), ("aborted", 0), ("plain", 1)]),
        (7, [7], 8, [("skipped", 0), ("plain", 1)]),
        (None, [7], 8, [("skipped", 0), ("plain", 1)]),
    ],
)
def test_a_gap_is_made_by_what_makes_gaps(start: int | None, offsets: list[int], end: int, expected: list[tuple[str, int]]) -> None:
    assert [(step.kind, len(step.records)) for step in steps_of(offsets, end, start)] == expected


@given(st.lists(st.integers(0, 60), unique=True).map(sorted), st.integers(0, 30), st.data())
def test_every_record_gets_its_own_offset(offsets: list[int], more: int, data: st.DataObject) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup, "RUN_MAX", RUN_MAX)
        patch.setattr(backup, "FILLERS_MAX", FILLERS_MAX)
        end = (offsets[-1] + 1 if offsets else 0) + more
        first = offsets[0] if offsets else end
        start = data.draw(st.none() | st.integers(0, first), "start")
        steps = steps_of(offsets, end, start)
    at, appended, starts = 0, [], 0
    for step in steps:
        assert step.first == at
        appended += list(range(at, at + len(step.records)))
        assert step.kind != "aborted" or step.gap >= 2, "an aborted transaction takes one record and its marker at least"
        at = step.next
        if step.kind == "skipped":
            assert starts == step.first, "the log starts later than its records"
            starts = at
    assert at == end
    assert appended == offsets == [offset for step in steps for offset, _ in step.records]
    assert starts == (first if start is None or first - start == 1 else start)

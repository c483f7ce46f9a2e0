"""What holds for every projection, whatever the log: repetitions, order between topics and batches change nothing."""

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from events.envelope import Recorded
from events.topics import TOPIC_OF
from processors.registry import FOLDS
from projections.folding.store import _plain
from tests.support.folding import Tables, folded, history, in_batches
from tests.support.histories import logs, reordered, repeated
from tests.support.strategies import envelopes

NAMES = sorted(FOLDS)
SOME = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("timeline", "audit")])
@SOME
@given(st.data())
def test_an_event_that_stands_on_the_log_twice_counts_once(name: str, data: st.DataObject) -> None:
    log = data.draw(logs())
    assert folded(FOLDS[name], data.draw(repeated(log))) == folded(FOLDS[name], log)


@pytest.mark.parametrize("name", NAMES)
@SOME
@given(st.data())
def test_the_order_between_partitions_does_not_matter(name: str, data: st.DataObject) -> None:
    log = data.draw(logs())
    assert folded(FOLDS[name], data.draw(reordered(log))) == folded(FOLDS[name], log)


@pytest.mark.parametrize("name", NAMES)
@SOME
@given(st.data())
def test_batches_of_the_runner_do_not_matter(name: str, data: st.DataObject) -> None:
    log = data.draw(logs())
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=5)))
    assert in_batches(FOLDS[name], log, [0, *cuts, len(log)]) == folded(FOLDS[name], log)


@pytest.mark.parametrize("name", NAMES)
@SOME
@given(st.lists(envelopes(), max_size=12))
def test_no_event_breaks_a_fold_and_every_row_can_be_stored(name: str, events: list) -> None:  # type: ignore[type-arg]
    """Any valid event, in any order, about anything: rows that come back from JSON as they were."""
    log = history(Recorded(TOPIC_OF[event.data.TYPE].name, 0, 0, event) for event in events)
    for table, rows in folded(FOLDS[name], log).items():
        row_type = next(t.row for t in FOLDS[name].tables if t.name == table)
        document = orjson.dumps(list(rows.values()), default=_plain, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
        assert TypeAdapter(list[row_type]).validate_json(document) == list(rows.values())  # type: ignore[valid-type]


@pytest.mark.parametrize("name", [name for name in NAMES if FOLDS[name].partitioned])
@SOME
@given(st.data())
def test_shares_of_partitions_make_shares_of_rows(name: str, data: st.DataObject) -> None:
    """What `partitioned` promises: folded partition by partition, tables are disjoint and together the whole."""
    log = data.draw(logs())
    whole = folded(FOLDS[name], log)
    united: Tables = {table: {} for table in whole}
    for partition in {(record.topic, record.partition) for record in log}:
        for table, rows in folded(FOLDS[name], [r for r in log if (r.topic, r.partition) == partition]).items():
            assert not united[table].keys() & rows.keys()
            united[table] |= rows
    assert united == whole

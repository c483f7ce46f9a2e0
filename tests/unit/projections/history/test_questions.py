"""A question to history that is an aggregation of Arrow batches: what a wrong one is answered."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from events.errors import InvalidRequest
from events.jobs import JobClaimed
from events.topics import JOBS, VIDEOS
from projections.history.replay import Aggregation, AggregationFailed, View, Wanted, question_of
from projections.progress import PROJECTION


def module(**names: Any) -> ModuleType:
    """Return a module as a file with these names makes it."""
    made = ModuleType("mine")
    vars(made).update(names)
    return made


def batches(*values: int) -> pa.RecordBatchReader:
    """Return a reader of one batch per value."""
    schema = pa.schema([("value", pa.int64())])
    return pa.RecordBatchReader.from_batches(schema, [pa.record_batch([[value]], schema=schema) for value in values])


def asking(function: Callable[..., Any], **names: Any) -> Aggregation:
    """Return the question of a module with this function."""
    question = question_of(module(TOPICS=(JOBS,), aggregate=function, **names))
    assert isinstance(question, Aggregation)
    return question


@pytest.mark.parametrize(
    "total",
    [
        lambda batches: pa.table({"total": [sum(row["value"] for batch in batches for row in batch.to_pylist())]}),
        lambda batches: pl.DataFrame(batches.read_all()).select(pl.col("value").sum().alias("total")),
    ],
    ids=["pyarrow", "polars"],
)
def test_whatever_speaks_arrow_is_a_table(total: Callable[..., Any]) -> None:
    assert asking(total)([batches(1, 2, 3)]).to_pylist() == [{"total": 6}]


def test_there_is_a_reader_for_each_topic() -> None:
    question = question_of(module(aggregate=lambda one, other: other.read_all()), ["jobs", "videos"])
    assert isinstance(question, Aggregation) and question.topics == (JOBS, VIDEOS)
    assert question([batches(1), batches(2)]).to_pylist() == [{"value": 2}]


def test_the_line_that_failed_is_named() -> None:
    with pytest.raises(AggregationFailed, match=r"aggregate failed at test_questions\.py:\d+: ZeroDivisionError"):
        asking(lambda batches: 1 / 0)([batches()])


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not int"):
        asking(lambda batches: 7)([batches()])


def test_a_column_that_is_not_there_is_named() -> None:
    assert asking(lambda batches: batches, COLUMNS=("time", "data", "job_claimed")).columns == ("time", "data", "job_claimed")
    for name in ("nonsense", "record", "video_uploaded"):
        with pytest.raises(InvalidRequest, match=f"there is no column {name}"):
            asking(lambda batches: batches, COLUMNS=("time", name))


def test_a_type_that_no_event_has_is_refused() -> None:
    assert Wanted(types=("JobClaimed", "job.completed")).has_type(JobClaimed)
    with pytest.raises(InvalidRequest, match="no event is called 'JobClaim ed'"):
        Wanted(types=("JobClaimed", "JobClaim ed"))


def test_it_is_either_a_fold_or_an_aggregation() -> None:
    (table,) = PROJECTION.tables
    assert isinstance(question_of(module(TOPICS=(JOBS,), TABLE=table)), View)
    for names in ({}, {"TABLE": table, "aggregate": lambda batches: batches}):
        with pytest.raises(InvalidRequest, match="wants either TABLE"):
            question_of(module(TOPICS=(JOBS,), **names))
    with pytest.raises(InvalidRequest, match="wants TOPICS"):
        question_of(module(TABLE=table))

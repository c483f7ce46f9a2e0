"""What happened, in the order in which one thing led to another."""

from dataclasses import replace
from datetime import timedelta
from typing import cast

from hypothesis import given
from hypothesis import strategies as st

from events.jobs import JobFact, ResultRefused
from events.topics import TOPICS
from events.videos import VideoEvent
from projections import timeline
from projections.timeline import Entry, causal, summary
from tests.support.folding import folded
from tests.support.footage import START, VIDEO_ID, completions, life, plan, recorded
from tests.support.histories import examples


def entry(name: str, *, at_s: float = 0, topic: str = "jobs", offset: int = 0, cause: str | None = None) -> Entry:
    time = START + timedelta(seconds=at_s)
    return Entry(topic, 0, offset, VIDEO_ID, None, name, "type", time, "source", "correlation", cause, "")


def names(*entries: Entry) -> list[str]:
    return [found.id for found in causal(entries)]


def test_every_event_of_a_video_has_its_position() -> None:
    made = plan()
    log = [*life(made), *completions(made)]
    rows = folded(timeline.PROJECTION, log)["entries"]
    assert set(rows) == {(record.topic, record.partition, record.offset) for record in log}
    assert {row.video_id for row in rows.values()} == {VIDEO_ID}
    assert rows[("videos", 0, 0)].summary == "bbb.mp4, 12,345,678 bytes"
    assert rows[("videos", 0, 2)].summary == "4 jobs: 1080p, 720p, 360p"


def test_a_refused_result_belongs_to_its_job() -> None:
    refused = ResultRefused(job_id="j", pool="main", worker_id="w", epoch=1, reason="stale_epoch")
    (row,) = folded(timeline.PROJECTION, [recorded(refused, 0, topic="jobs")])["entries"].values()
    assert (row.video_id, row.job_id, row.summary) == (None, "j", "stale_epoch")


def test_events_come_by_time() -> None:
    assert names(entry("b", at_s=2, offset=1), entry("a", at_s=1)) == ["a", "b"]


def test_an_effect_comes_after_its_cause_whatever_the_clocks_say() -> None:
    completed = entry("completed", at_s=10.004)
    published = entry("published", at_s=10.001, topic="videos", cause="completed")
    assert names(published, completed) == ["completed", "published"]


def test_a_partition_keeps_its_order_whatever_the_clocks_say() -> None:
    assert names(entry("first", at_s=5, offset=0), entry("second", at_s=4, offset=1)) == ["first", "second"]


def test_an_event_that_stands_twice_is_listed_once() -> None:
    assert names(entry("a", offset=0), entry("b", at_s=1, offset=1), entry("a", at_s=2, offset=2)) == ["a", "b"]


def test_events_that_claim_to_cause_each_other_are_listed_all_the_same() -> None:
    assert sorted(names(entry("a", cause="b"), entry("b", topic="videos", cause="a"))) == ["a", "b"]


@given(st.data())
def test_the_order_is_complete_and_causal_for_any_events(data: st.DataObject) -> None:
    count = data.draw(st.integers(0, 12))
    entries: list[Entry] = []
    offsets = {"jobs": 0, "videos": 0}
    for n in range(count):  # in causal order; clocks say anything
        topic = data.draw(st.sampled_from(("jobs", "videos")))
        cause = data.draw(st.none() | st.sampled_from([other.id for other in entries])) if entries else None
        entries.append(entry(str(n), at_s=data.draw(st.integers(-5, 5)), topic=topic, offset=offsets[topic], cause=cause))
        offsets[topic] += 1
    shuffled = data.draw(st.permutations(entries))
    ordered = causal(shuffled)
    assert sorted(ordered, key=lambda e: int(e.id)) == entries
    index = {found.id: n for n, found in enumerate(ordered)}
    assert all(index[found.causationid] < index[found.id] for found in ordered if found.causationid)
    for topic in offsets:
        lane = [found.offset for found in ordered if found.topic == topic]
        assert lane == sorted(lane)
    assert ordered == causal(entries)


def test_a_long_chain_is_listed() -> None:
    chain = [entry(str(n), at_s=-n, topic=("jobs", "videos")[n % 2], offset=n, cause=str(n - 1)) for n in range(5000)]
    assert [found.id for found in causal([replace(e) for e in reversed(chain)])] == [str(n) for n in range(5000)]


def test_every_example_has_a_summary_of_one_line() -> None:
    for topic in (TOPICS["videos"], TOPICS["jobs"]):
        for kind in topic.events:
            for event in examples(kind):
                assert "\n" not in summary(cast("VideoEvent | JobFact", event))

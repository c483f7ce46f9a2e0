"""A long history, made fast: ticks of many jobs as they stand on the log, without a platform that makes them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from confluent_kafka import Producer

from events.codec import HEADERS, encode
from events.envelope import Envelope, Event
from events.topics import PROGRESS, partition_for
from infra.runtime import kafka
from infra.runtime.clock import new_id
from infra.runtime.settings import Settings
from tests.support.counting import ticks

JOBS = 500
SLICE = 100_000
"""After so many events there are other jobs."""
AGE = timedelta(days=2)
"""Kafka deletes ticks that are older than a week."""


def history(count: int) -> Iterator[tuple[bytes, int, int, bytes]]:
    """Yield key, partition, milliseconds since 1970 and value of so many ticks; in each slice a second apart."""
    start = datetime.now(UTC) - AGE
    times = [start + timedelta(seconds=n) for n in range(SLICE)]
    moments = [(int(time.timestamp() * 1000), time.isoformat().replace("+00:00", "Z").encode()) for time in times]
    for at in range(0, count, SLICE):
        jobs = [_pieces(tick) for tick in ticks(JOBS, JOBS)]
        for n, (ms, time) in enumerate(moments[: count - at]):
            key, partition, (head, middle, tail, end) = jobs[n % JOBS]
            yield key, partition, ms, b"%b%b%b%b%b%d.0%b" % (head, new_id().encode(), middle, time, tail, n % 100, end)


def _pieces(tick: Envelope[Event]) -> tuple[bytes, int, tuple[bytes, ...]]:
    """Return a job's key, its partition, and what stands around id, time and percent in its ticks."""
    model = tick._replace(data=tick.data.model_copy(update={"percent": 77.0}))
    head, rest = encode(model).split(tick.id.encode(), 1)
    middle, rest = rest.split(b"2100-", 1)
    tail, end = rest.split(b"Z", 1)[1].split(b"77.0", 1)
    return tick.subject.encode(), partition_for(tick.subject, PROGRESS.partitions), (head, middle, tail, end)


async def put_on_the_log(settings: Settings, count: int) -> None:
    """Append that many ticks to a fresh topic."""
    await kafka.ensure_topics(settings)
    topic = kafka.topic_name(settings, PROGRESS)
    producer = Producer({**kafka.librdkafka(settings), "linger.ms": 20, "batch.size": 1 << 20, "enable.idempotence": True})
    for n, (key, partition, ms, value) in enumerate(history(count)):
        while True:
            try:
                producer.produce(topic, value, key, partition, timestamp=ms, headers=list(HEADERS))
                break
            except BufferError:
                producer.poll(0.1)
        if not n % 1000:
            producer.poll(0)
    assert producer.flush(60) == 0

"""The usual way, as a baseline: a Faust agent on a Kafka topic, in batches, that does the same fold into PostgreSQL.

`python -m tests.bench.faust_agent EVENTS` reads the topic progress of the platform in the environment from its start and
prints events a second, from the first batch to the last.
"""

import os
import sys
from time import perf_counter
from typing import Any

import faust
from faust.types.auth import SASLMechanism

from events.codec import decode
from events.envelope import Recorded
from events.topics import PROGRESS
from infra.runtime import kafka, postgres
from infra.runtime.clock import new_id
from infra.runtime.settings import Settings
from projections import progress
from projections.folding.runner import fold, touches
from projections.folding.store import TableStore, schema_of

TAKE = 1000
WITHIN_S = 0.05


def main() -> None:
    """Run the worker until all events were folded."""
    settings, wanted = Settings.from_env(os.environ), int(sys.argv[1])
    settings.var_dir.mkdir(parents=True, exist_ok=True)
    app = faust.App(
        f"{settings.topic_prefix}bench-{new_id()}",  # a group that this user may join
        broker=f"kafka://{settings.kafka_bootstrap}",
        broker_credentials=faust.SASLCredentials(
            username=settings.kafka_user,
            password=settings.kafka_password.get_secret_value(),
            mechanism=SASLMechanism.SCRAM_SHA_512,
        ),
        datadir=settings.var_dir / "faust",
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        stream_wait_empty=False,
    )
    (table,) = progress.PROJECTION.tables
    store = TableStore(table, schema_of("progress", 1))
    topic: Any = app.topic(kafka.topic_name(settings, PROGRESS), value_type=bytes, value_serializer="raw")

    async def ticks(stream: Any) -> None:
        pool = await postgres.open_pool(settings)
        done, begun = 0, 0.0
        async with pool.connection() as connection:
            async for values in stream.take(TAKE, within=WITHIN_S):
                begun = begun or perf_counter()
                records = [Recorded(PROGRESS.name, 0, 0, decode(value)) for value in values]
                touching = touches(table, records)
                async with connection.transaction():
                    rows = await store.fetch(connection, list({key for keys, _ in touching for key in keys}))
                    await store.save(connection, fold(table, rows, touching))
                done += len(values)
                if done >= wanted:
                    print(done / (perf_counter() - begun), flush=True)
                    os._exit(0)  # Faust waits for its monitors otherwise; nothing is kept

    app.agent(topic, name="ticks")(ticks)
    faust.Worker(app, loglevel="ERROR", redirect_stdouts=False).execute_from_commandline()


if __name__ == "__main__":
    main()

"""Samples of hosts: the latest of each, and means that neither repetitions nor the cutting of the log change."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Envelope, Event, Recorded
from events.hosts import Disk, Gpu, HostSampled, HostState
from projections.hosts.projection import PROJECTION, RINGS, Spread, figures_of
from tests.support.folding import Tables, folded, history, in_batches
from tests.support.footage import START, id_of

NOON = START.replace(hour=12, minute=0, second=0, microsecond=0)


def sample(time: datetime, cpu: float, host: str = "one", **more: Any) -> Recorded[Event]:
    disk = Disk(path="/", total_bytes=100, used_bytes=60, free_bytes=40)
    state = HostState(cpu_percent=cpu, cpu_count=2, load_1m=1, memory_total_bytes=200, memory_used_bytes=50, disks=(disk,))
    event = HostSampled(host=host, name=host, state=state, **more)
    return Recorded("hosts", 0, 0, Envelope(id_of(f"{host} {time} {cpu}"), "kinolog/test", host, time, event, id_of("all")))


def spans(found: Tables, table: str) -> dict[datetime, Spread]:
    return {row.starts_at: row.figures["cpu_percent"] for row in found[table].values()}


def test_two_hours_of_samples_become_means() -> None:
    log = [sample(NOON + timedelta(minutes=n), 10 if n < 60 else 30 + n % 2) for n in range(120)]
    found = folded(PROJECTION, history(log))
    assert spans(found, "hours") == {
        NOON: Spread(60, 600.0, 10.0, 10.0),
        NOON + timedelta(hours=1): Spread(60, 1830.0, 30.0, 31.0),
    }
    (day,) = spans(found, "days").values()
    assert (day.count, day.total, day.least, day.most) == (120, 2430.0, 10.0, 31.0)
    assert len(found["minutes"]) == 120
    assert found["hosts"][("one",)].sampled_at == NOON + timedelta(minutes=119)


def test_a_row_is_used_again_after_its_ring_and_an_old_sample_does_not_come_back() -> None:
    week = RINGS["minutes"].length * RINGS["minutes"].slots
    log = [sample(NOON, 10), sample(NOON + week, 20), sample(NOON, 10)]
    found = folded(PROJECTION, history(log))
    assert spans(found, "minutes") == {NOON + week: Spread(1, 20.0, 20.0, 20.0)}
    assert len(found["hours"]) == 2


def test_counts_of_the_platform_stay_when_another_program_samples_its_host() -> None:
    log = [sample(NOON, 10, active_streams=3, active_transcodes=1), sample(NOON + timedelta(seconds=9), 20)]
    host = folded(PROJECTION, history(log))["hosts"][("one",)]
    assert (host.state.cpu_percent, host.active_streams, host.active_transcodes) == (20, 3, 1)


def test_the_highest_card_counts_and_unknown_figures_are_left_out() -> None:
    gpus = (
        Gpu(model="a", vendor="nvidia", encoder_percent=10, temperature_celsius=80),
        Gpu(model="b", vendor="nvidia", encoder_percent=70, memory_total_bytes=10, memory_used_bytes=5),
    )
    state = HostState(cpu_percent=1, cpu_count=1, load_1m=0, memory_total_bytes=0, memory_used_bytes=0, gpus=gpus)
    found = figures_of(HostSampled(host="h", name="h", state=state))
    assert found == {
        "cpu_percent": 1.0,
        "memory_used_bytes": 0.0,
        "gpu_encoder_percent": 70.0,
        "gpu_memory_percent": 50.0,
        "gpu_temp_celsius": 80.0,
    }


@given(st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 100), st.sampled_from(["one", "two"])), max_size=40), st.data())
def test_repetitions_and_batches_change_no_span(found: list[tuple[int, int, str]], data: st.DataObject) -> None:
    log = [sample(NOON + timedelta(seconds=second), cpu, host) for second, cpu, host in sorted(found)]
    once = folded(PROJECTION, history(log))
    again = data.draw(st.lists(st.sampled_from(log), max_size=10)) if log else []
    assert folded(PROJECTION, history([*log, *again])) == once
    cuts = sorted(data.draw(st.sets(st.integers(0, len(log)))))
    assert in_batches(PROJECTION, history(log), [0, *cuts, len(log)]) == once
    distinct = {(host, second) for second, _, host in found}
    assert sum(row.figures["cpu_percent"].count for row in once["hours"].values()) == len(distinct)

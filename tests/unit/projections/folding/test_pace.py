"""Work in the background rests where others wait for a processor, and nowhere else."""

import pytest

from projections.folding import pace as pacing
from projections.folding.pace import RESTS, WORKED_MAX_S, Pace

TURN_S = 0.001


class Machine:
    """Clocks of a thread on a machine, and what was slept."""

    def __init__(self) -> None:
        self.wall_s = self.computed_s = 0.0
        self.slept: list[float] = []

    def pace(self, rests: float) -> Pace:
        """Return a pace with these clocks."""
        return Pace(rests, wall=lambda: self.wall_s, processor=lambda: self.computed_s)

    async def sleep(self, delay_s: float) -> None:
        """Let the time go by."""
        self.slept.append(delay_s)
        self.wall_s += delay_s

    async def turn(self, pace: Pace, *, waited_s: float = 0.0) -> float:
        """Work for a turn in which the thread waits so long; return how long it rests then."""
        with pace.turn():
            self.computed_s += TURN_S
            self.wall_s += TURN_S + waited_s
        await pace.rest()
        return self.slept[-1]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(pacing, "sleep", machine.sleep)
    return machine


async def test_who_has_a_processor_to_itself_never_rests(machine: Machine) -> None:
    pace = machine.pace(RESTS)
    assert [await machine.turn(pace, waited_s=0.02 * TURN_S) for _ in range(500)] == [0] * 500


async def test_who_has_to_wait_rests_in_proportion_to_its_work(machine: Machine) -> None:
    pace = machine.pace(RESTS)
    rested = [await machine.turn(pace, waited_s=TURN_S / 4) for _ in range(500)]
    assert rested == pytest.approx([RESTS * 1.25 * TURN_S] * 500)


async def test_a_single_wait_is_not_a_crowd_and_a_crowd_is_soon_forgotten(machine: Machine) -> None:
    pace = machine.pace(RESTS)
    for _ in range(500):
        await machine.turn(pace)
    assert await machine.turn(pace, waited_s=2 * TURN_S) == 0
    for _ in range(500):
        await machine.turn(pace, waited_s=TURN_S / 4)
    assert pace.crowded
    turns = 0
    while await machine.turn(pace):
        turns += 1
    assert 100 < turns < 500


async def test_what_others_do_for_it_counts_as_its_work_and_what_it_waits_for_does_not(machine: Machine) -> None:
    pace = machine.pace(RESTS)
    await machine.turn(pace, waited_s=TURN_S)
    machine.wall_s += 0.01  # PostgreSQL writes
    await pace.rest()
    assert machine.slept[-1] == pytest.approx(RESTS * 0.01)
    machine.wall_s += 60  # the log has nothing
    await pace.rest()
    assert machine.slept[-1] == pytest.approx(RESTS * WORKED_MAX_S)


async def test_what_somebody_waits_for_lets_the_event_loop_go_on_and_never_rests(machine: Machine) -> None:
    pace = machine.pace(0.0)
    assert [await machine.turn(pace, waited_s=9 * TURN_S) for _ in range(9)] == [0] * 9

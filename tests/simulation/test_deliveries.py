"""Seeded worlds of deliveries: nothing is lost, and the checkers bite."""

import re
from collections.abc import Callable

import pytest

from events.deliveries import DeliveryEvent
from processors.delivering import decide, messages
from producers.outside import Answer
from producers.webhooks import Secret
from tests.simulation.deliveries import World


@pytest.mark.parametrize("seed", range(24))
def test_nothing_is_lost_unsigned_or_out_of_order(seed: int) -> None:
    assert World(seed).run().findings == []


def test_there_are_kills_outages_and_everything_else() -> None:
    worlds = [World(seed).run() for seed in range(8)]
    seen = {type(event).__name__ for world in worlds for event in world.log}
    assert seen >= {
        *("WebhookSaved", "RedeliveryRequested", "CursorMoved", "Delivered", "DeliveryFailed", "DeliveryGivenUp"),
        *("BreakerOpened", "BreakerHalfOpened", "BreakerClosed"),
    }
    assert sum(world.kills for world in worlds) > 30


def away_is_given_up(patch: pytest.MonkeyPatch) -> None:
    """An endpoint that is away loses what it cannot take."""
    patch.setattr(Answer, "is_away", property(lambda self: False))


def ids_are_new(patch: pytest.MonkeyPatch) -> None:
    """Each attempt has an id of its own."""
    numbers = iter(range(10**9))
    patch.setattr(decide, "delivery_id_of", lambda endpoint_id, event_id: f"{event_id}-{next(numbers)}")


def failures_pass(patch: pytest.MonkeyPatch) -> None:
    """A failed notice does not hold up the next one."""
    follow = decide.follow

    def impatient(*arguments: object) -> tuple[DeliveryEvent, ...]:
        facts = follow(*arguments)  # type: ignore[arg-type]
        return tuple(
            fact.model_copy(update={"position": fact.position + 1}) if type(fact).__name__ == "DeliveryFailed" else fact  # type: ignore[union-attr]
            for fact in facts
        )

    patch.setattr(decide, "follow", impatient)


def signatures_are_old(patch: pytest.MonkeyPatch) -> None:
    """A message is signed with a secret of long ago."""
    compose = messages.compose
    patch.setattr(
        messages,
        "compose",
        lambda kept, *more: compose(kept.model_copy(update={"secrets": (Secret(text="whsec_" + "A" * 44),)}), *more),
    )


@pytest.mark.parametrize(
    ("breaks", "says"),
    [
        (away_is_given_up, "gave up|lost"),
        (ids_are_new, "two ids"),
        (failures_pass, "lost|out of order"),
        (signatures_are_old, "not signed"),
    ],
)
def test_the_checkers_bite(breaks: Callable[[pytest.MonkeyPatch], None], says: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch)
        findings = [finding for seed in range(8) for finding in World(seed).run().findings]
    assert any(re.search(says, finding) for finding in findings), findings[:5]

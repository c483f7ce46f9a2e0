"""A week of viewing with everything that makes figures wrong.

It has the end of summer time in Berlin (Sunday 2026-10-25 has 25 hours), a play over midnight, a resumed film, a ghost session, a
play of one second, seeking, double speed, a paused hour and a late event.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from events.envelope import Envelope, Event, Recorded
from events.streams import StreamEnded, StreamServed, StreamStarted, StreamTicked
from tests.support.footage import id_of

BERLIN = ZoneInfo("Europe/Berlin")
FILM, CLIP = "film", "clip"
LENGTHS = {FILM: 7200_000, CLIP: 60_000}


def at(text: str) -> datetime:
    """Read a local time in Berlin: `25 02:30:00`, a day of October and a time; a `+` after it means winter time of that hour."""
    day, _, time = text.rstrip("+").partition(" ")
    local = datetime.fromisoformat(f"2026-10-{day}T{time}").replace(tzinfo=BERLIN, fold=int(text.endswith("+")))
    return local.astimezone(UTC)


class Log:
    """Events in the order in which they are made."""

    def __init__(self) -> None:
        self.events: list[Recorded[Event]] = []

    def add(self, time: datetime, event: Any) -> None:
        known = Envelope(id_of(str(len(self.events))), "kinolog/test", event.viewer_id, time, event, id_of("all"))
        self.events.append(Recorded("streams", 0, 0, known))

    def watched(
        self, viewer: str, session: str, video: str, start: datetime, *legs: tuple[float, str, int], first_ms: int = 0
    ) -> None:
        """Add a session: each leg is (seconds until the next sign of life, the state from now on, position there in ms)."""
        known = {"viewer_id": viewer, "session_id": session}
        self.add(start, StreamStarted(**known, video_id=video, media_ms=LENGTHS[video], position_ms=first_ms))
        time = start
        for seconds, state, position_ms in legs:
            time += timedelta(seconds=seconds)
            self.add(time, StreamTicked(**known, position_ms=position_ms, state=state))


def beats(seconds: int, first_ms: int = 0, rate: float = 1.0) -> Iterator[tuple[float, str, int]]:
    """Yield heartbeats of a player that plays on."""
    for beat in range(30, seconds + 1, 30):
        yield 30, "playing", first_ms + round(beat * 1000 * rate)


def the_week() -> Log:
    log = Log()
    # Monday: a clip watched to its end, then ended by the player
    log.watched("anna", "a1", CLIP, at("19 20:00:00"), (30, "playing", 30_000), (30, "playing", 60_000))
    log.add(at("19 20:01:00"), StreamEnded(viewer_id="anna", session_id="a1", position_ms=60_000))
    log.add(at("19 20:01:05"), StreamServed(viewer_id="anna", session_id="a1", server="one", bytes_served=5_000_000))
    # Tuesday: a play of one second
    log.watched("bert", "b1", CLIP, at("20 09:00:00"), (1, "paused", 1000))
    log.add(at("20 09:00:01"), StreamEnded(viewer_id="bert", session_id="b1", position_ms=1000))
    # Wednesday: ten minutes of a film over midnight to Thursday, four of them on Wednesday
    log.watched("bert", "b2", FILM, at("21 23:56:00"), *beats(600))
    # Thursday evening: the film is resumed ten seconds before, at double speed for a minute
    log.add(
        at("22 20:00:00"), StreamStarted(viewer_id="bert", session_id="b3", video_id=FILM, media_ms=7200_000, position_ms=590_000)
    )
    log.add(at("22 20:00:01"), StreamTicked(viewer_id="bert", session_id="b3", position_ms=592_000, rate=2.0))
    log.add(at("22 20:00:31"), StreamTicked(viewer_id="bert", session_id="b3", position_ms=652_000, rate=2.0))
    log.add(at("22 20:01:01"), StreamTicked(viewer_id="bert", session_id="b3", position_ms=712_000, rate=2.0))
    # Friday: a ghost, which sends one heartbeat and nothing more; and one that comes two hours late
    log.watched("carl", "c1", FILM, at("23 10:00:00"), (30, "playing", 30_000), (7200, "playing", 7_200_000))
    # Saturday: a paused hour, and a seek while playing
    paused = [(60, "paused", 60_000)] * 60
    log.watched(
        "anna", "a2", FILM, at("24 18:00:00"), (60, "paused", 60_000), *paused, (10, "playing", 60_000), (30, "playing", 3_000_000)
    )
    # Sunday, an hour twice: 02:30 in summer time to 02:30 in winter time is an hour
    log.watched("anna", "a3", FILM, at("25 02:30:00"), *beats(3600, 3_000_000), first_ms=3_000_000)
    return log

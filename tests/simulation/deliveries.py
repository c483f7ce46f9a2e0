"""A seeded world of deliveries: endpoints that fail, are slow, lie or go away for days, people who change them, and a deliverer
that is killed between attempt and fact. Time is virtual; the decisions, the folds and the messages are the real ones.

The checkers: no notice is lost, first arrivals are in order, a repetition has the same id, and every message is signed.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

from standardwebhooks import Webhook, WebhookVerificationError

from events.deliveries import DeliveryEvent, DeliveryGivenUp
from events.envelope import Event
from events.webhooks import RedeliveryRequested
from processors.delivering import decide, messages
from processors.delivering.decide import Meet, Next, Policy, Wait
from producers.outside import Answer
from producers.webhooks import Kept, Secret, new_secret
from projections.deliveries.endpoints import Endpoint, Place, evolve_endpoint, evolve_progress
from projections.deliveries.projection import PROJECTION
from tests.support.delivering import NOW, notice, recorded, saved
from tests.support.folding import folded

HOUR = timedelta(hours=1)
STEPS_MAX = 6_000
"""A world that takes longer has a fault; what has not arrived by then counts as lost."""
BROKEN = (Answer(500, "x"), Answer(404, "x"), Answer(302, "x"))
AWAY = (Answer(None, "timeout"), Answer(503, "x", retry_after_s=7200.0), Answer(429, "x", retry_after_s=30.0), Answer(502, "x"))


@dataclass(frozen=True)
class Arrival:
    """A message at a receiver."""

    event_id: str
    delivery_id: str
    taken: bool


@dataclass
class Receiver:
    """An endpoint outside with a character: parts of attempts that fail, and outages."""

    refuses: float
    falters: float
    lies: float
    away: list[tuple[datetime, datetime]] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    unsigned: int = 0
    poison: frozenset[str] = frozenset()
    """Events that it refuses at every attempt."""

    def answer(self, event_id: str, now: datetime, rng: Random) -> Answer:
        """Return the answer, and whether the message was taken all the same (a lie)."""
        if any(start <= now < end for start, end in self.away):
            return rng.choice(AWAY)
        if event_id in self.poison:
            return Answer(400, "refused")
        chance = rng.random()
        if chance < self.falters:
            return rng.choice(AWAY)
        return rng.choice(BROKEN) if chance < self.falters + self.refuses else Answer(200, text="ok")


@dataclass
class World:
    """Everything at a virtual time. `log` and its fold `stored` survive a kill; `rows` and `unwritten` do not."""

    seed: int
    hours: int = 24 * 8
    count: int = 30
    findings: list[str] = field(default_factory=list)
    kills: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        self.rng = Random(self.seed)
        self.now = NOW
        self.log: list[Event] = []
        self.times: list[datetime] = []
        self.rows: dict[str, Endpoint] = {}
        self.stored: dict[str, Endpoint] = {}
        self.unwritten: list[tuple[Event, datetime]] = []
        self.kept: dict[tuple[str, str], Kept] = {}
        self.receivers: dict[str, Receiver] = {}
        self.policy = Policy(self.rng.choice(("standard", "vlog")))
        apart = self.hours * HOUR / (2 * self.count)
        self.notices = [Place(number, notice(number, occurred_at=NOW + number * apart)) for number in range(self.count)]
        for number in range(3):
            self._open(f"endpoint-{number}")

    def _open(self, endpoint_id: str) -> None:
        rng = self.rng
        receiver = Receiver(rng.choice((0.0, 0.1)), rng.choice((0.0, 0.3)), rng.choice((0.0, 0.2)))
        for _ in range(rng.randint(0, 3)):
            start = NOW + rng.random() * self.hours * HOUR / 2
            receiver.away.append((start, start + rng.choice((1, 24, 100)) * HOUR))
        receiver.poison = frozenset(f"event-{number}" for number in range(self.count) if rng.random() < 0.02)
        self.receivers[endpoint_id] = receiver
        self._save(endpoint_id, 1)

    def _save(self, endpoint_id: str, version: int, *, active: bool = True) -> None:
        before = self.kept.get((endpoint_id, f"f{version - 1}"))
        old = tuple(Secret(text=secret.text, until=self.now + HOUR) for secret in before.secrets[:1]) if before else ()
        kept = Kept(url="https://example.org/", secrets=(Secret(text=new_secret("standard")), *old))
        self.kept[endpoint_id, f"f{version}"] = kept
        self._durable(saved(version, endpoint_id=endpoint_id, active=active, fingerprint=f"f{version}"), self.now)

    def _durable(self, event: Event, time: datetime) -> None:
        """Put an event of a person on the log; the deliverer reads it."""
        self._append(event, time)
        endpoint_id: str = event.endpoint_id  # type: ignore[attr-defined]
        row = self.rows.get(endpoint_id)
        self.rows[endpoint_id] = evolve_endpoint(row, recorded(event, len(self.log), time))  # type: ignore[arg-type]

    def _append(self, event: Event, time: datetime) -> None:
        self.log.append(event)
        self.times.append(time)
        endpoint_id: str = event.endpoint_id  # type: ignore[attr-defined]
        row = self.stored.get(endpoint_id)
        self.stored[endpoint_id] = evolve_endpoint(row, recorded(event, len(self.log), time))  # type: ignore[arg-type]

    # --- the deliverer ----------------------------------------------------------------------------------------------

    def _record(self, endpoint_id: str, facts: tuple[DeliveryEvent, ...]) -> None:
        for fact in facts:
            self.rows[endpoint_id] = evolve_progress(self.rows[endpoint_id], fact, self.now)
            self.unwritten.append((fact, self.now))

    def _flush(self) -> None:
        for event, time in self.unwritten:
            self._append(event, time)
        self.unwritten.clear()

    def _kill(self) -> None:
        """Lose what is in memory; some facts had reached the log."""
        self.kills += 1
        del self.unwritten[self.rng.randint(0, len(self.unwritten)) :]
        self._flush()
        self.rows = dict(self.stored)

    def _next(self, row: Endpoint) -> Place | None:
        places = (place for place in self.notices if place.position >= row.cursor and place.event.occurred_at <= self.now)
        return next((place for place in places if decide.wants(row, place.event)), None)

    def _send(self, row: Endpoint, place: Place) -> Answer:
        receiver, kept = self.receivers[row.endpoint_id], self.kept[row.endpoint_id, row.fingerprint]
        delivery_id = decide.delivery_id_of(row.endpoint_id, place.event.event_id)
        message = messages.compose(kept, row.format, messages.content_of(place.event), delivery_id, 1, self.now)
        assert message is not None
        answer = receiver.answer(place.event.event_id, self.now, self.rng)
        if any(start <= self.now < end for start, end in receiver.away):
            return answer
        if not _is_signed(kept, message):
            receiver.unsigned += 1
        lies = answer.is_taken and self.rng.random() < receiver.lies
        receiver.arrivals.append(Arrival(place.event.event_id, message.headers["webhook-id"], answer.is_taken))
        return Answer(None, "the connection broke") if lies else answer

    def _turn(self, endpoint_id: str) -> datetime | None:
        """Do one step of an endpoint; return when the next one is due, now for at once."""
        row = self.rows[endpoint_id]
        match decide.step(row, self.now):
            case Wait(until):
                return until
            case Meet(wish):
                position = wish.position if wish.position is not None else 0
                self._record(endpoint_id, (decide.moved(row, wish, position),))
            case Next(facts) if facts:
                self._record(endpoint_id, facts)
            case Next():
                place = self._next(row)
                if place is None:
                    later = [place.event.occurred_at for place in self.notices if place.event.occurred_at > self.now]
                    return min(later, default=None)
                answer = self._send(row, place)
                if self.rng.random() < 0.03:
                    self._kill()
                    return self.now
                facts = decide.follow(row, place, answer, self.now, self.rng.random(), self.policy)
                self._record(endpoint_id, facts)
        if self.rng.random() < 0.5:
            self._flush()
        return self.now

    def _people(self) -> None:
        """Let a person do something, at times."""
        endpoint_id = self.rng.choice(list(self.rows))
        version = self.rows[endpoint_id].version + 1
        if self.rng.random() < 0.7:
            self._save(endpoint_id, version, active=self.rng.random() < 0.6)
        else:
            wish = RedeliveryRequested(
                endpoint_id=endpoint_id, request_id=f"r{len(self.log)}", position=self.rng.randint(0, self.count)
            )
            self._durable(wish, self.now)

    def run(self) -> "World":
        """Run to the end: then everything is repaired, active, and has time."""
        end = NOW + self.hours * HOUR
        while self.now < end:
            self._step_all(end)
            if self.steps > STEPS_MAX:
                break
            if self.rng.random() < 0.02:
                self._people()
        for receiver in self.receivers.values():
            receiver.refuses = receiver.falters = receiver.lies = 0.0
            receiver.away.clear()
        for endpoint_id, row in list(self.rows.items()):
            self._save(endpoint_id, row.version + 1)
        end = self.now + timedelta(days=400)
        while self.now < end and self.steps <= STEPS_MAX and any(self._next(row) for row in self.rows.values()):
            self._step_all(end)
        self._flush()
        self._check()
        return self

    def _step_all(self, end: datetime) -> None:
        self.steps += 1
        due = [self._turn(endpoint_id) for endpoint_id in self.rows]
        self.now = max(self.now + timedelta(milliseconds=200), min(filter(None, due), default=min(end, self.now + HOUR)))

    # --- checkers ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        log = [recorded(event, number, time) for number, (event, time) in enumerate(zip(self.log, self.times, strict=True))]
        rebuilt = folded(PROJECTION, log)
        if {key: row for (key,), row in rebuilt["endpoints"].items()} != self.rows:
            self.findings.append("a rebuild differs from the deliverer's memory")
        given_up: defaultdict[str, set[int]] = defaultdict(set)
        for event in self.log:
            if isinstance(event, DeliveryGivenUp):
                given_up[event.endpoint_id].add(event.position)
        for endpoint_id, receiver in self.receivers.items():
            self._check_receiver(endpoint_id, receiver, given_up[endpoint_id])

    def _check_receiver(self, endpoint_id: str, receiver: Receiver, given_up: set[int]) -> None:
        if receiver.unsigned:
            self.findings.append(f"{endpoint_id}: {receiver.unsigned} messages were not signed")
        first: dict[str, str] = {}
        for arrival in receiver.arrivals:
            if first.setdefault(arrival.event_id, arrival.delivery_id) != arrival.delivery_id:
                self.findings.append(f"{endpoint_id}: {arrival.event_id} came under two ids")
        taken = list(dict.fromkeys(arrival.event_id for arrival in receiver.arrivals if arrival.taken))
        wanted = [place for place in self.notices if decide.wants(self.rows[endpoint_id], place.event)]
        jumps = [event for event in self.log if event.endpoint_id == endpoint_id and isinstance(event, RedeliveryRequested)]  # type: ignore[attr-defined]
        lost = {place.position for place in wanted if place.event.event_id not in taken} - given_up
        if lost and not jumps:
            self.findings.append(f"{endpoint_id}: lost {sorted(lost)}")
        positions = {place.event.event_id: place.position for place in self.notices}
        order = [positions[event_id] for event_id in taken]
        if order != sorted(order) and not jumps and not given_up:
            self.findings.append(f"{endpoint_id}: out of order: {order}")
        poisoned = {positions[event_id] for event_id in receiver.poison}
        if given_up - poisoned and not receiver_may_refuse(self):
            self.findings.append(f"{endpoint_id}: gave up {sorted(given_up - poisoned)}")


def receiver_may_refuse(world: World) -> bool:
    """Return whether refusals by chance may last for every attempt: with five, they do at times."""
    return world.policy.retries == "vlog"


def _is_signed(kept: Kept, message: messages.Message) -> bool:
    """Check the signature as the official verifier does, but for the age, which is virtual here."""
    signed = message.headers["webhook-signature"].split(" ")
    at = datetime.fromtimestamp(int(message.headers["webhook-timestamp"]), NOW.tzinfo)
    try:
        expected = Webhook(kept.secrets[0].text).sign(message.headers["webhook-id"], at, message.body.decode())
    except WebhookVerificationError:
        return False
    return expected in signed

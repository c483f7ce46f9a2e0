"""The settings in force in a process: environment over stored over default, and every change within milliseconds.

    async with live_settings(settings, pulse) as live:
        live.use(lambda settings: dispatcher.use(policy_of(settings)))

`live.settings` is a frozen value; a change replaces it and calls each user with the new one.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import structlog
from pydantic import SecretStr

from events.pulse import Pulse
from events.topics import SETTINGS, Partition
from infra.runtime import logs, metrics
from infra.runtime.clock import SystemClock
from infra.runtime.log_consumer import open_log
from infra.runtime.orders import contradiction
from infra.runtime.sealing import Sealed, find_seal
from infra.runtime.settings import InvalidSettings, Settings
from projections.folding.follower import Followed, Follower, following
from projections.settings import Stored, evolve

IDLE_MS = 2000
log = structlog.get_logger(__name__)


class Kind(NamedTuple):
    """Category of a setting, the programs at whose next start a change takes effect (empty: at once), and secrecy."""

    category: str
    starts: str
    secret: bool


def _kinds() -> Mapping[str, Kind]:
    found = {}
    for name, field in Settings.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and "category" in extra:
            found[name] = Kind(str(extra["category"]), str(extra["starts"]), field.annotation is SecretStr)
    return found


KINDS: Mapping[str, Kind] = _kinds()
"""The settings that may be stored, read off the model itself; all others are the environment's alone."""


def parsed(name: str, text: str) -> Any:
    """Return the value that a text means. Raises InvalidSettings, with the limit in the sentence."""
    return getattr(Settings.each_of({name: text}), name)


class InForce(NamedTuple):
    """The settings in force, and by name why a stored value is not among them."""

    settings: Settings
    faults: Mapping[str, str]


def in_force(base: Settings, stored: Stored, unseal: Callable[[str, str], str]) -> InForce:
    """Return the environment's settings, and the stored ones that it leaves open.

    A stored value that this version refuses, cannot read, or that contradicts another setting is passed over: it must not stop a
    process. Of two stored values that contradict each other, as two people can store at once, the earlier one is in force.
    """
    found: dict[str, Any] = {}
    faults: dict[str, str] = {}
    for name, changes in stored.changes.items():
        latest = changes[-1]
        if name not in KINDS or name in base.model_fields_set or latest.value is None:
            continue
        try:
            found[name] = parsed(name, unseal(name, latest.value) if latest.sealed else latest.value)
        except (InvalidSettings, Sealed) as error:
            faults[name] = str(error)
    while (contrary := contradiction(base.model_copy(update=found))) is not None and (pair := found.keys() & contrary.names):
        last = max(pair, key=lambda name: stored.changes[name][-1].offset)
        faults[last] = contrary.sentence
        del found[last]
    return InForce(base.model_copy(update=found), faults)


async def settings_now(base: Settings) -> Settings:
    """Read the stored settings once; return those in force, for a command that ends. Raises Retryable when the log is away."""
    followed = Followed((SETTINGS,), Stored(), evolve)
    async with following(follower_of(base, (followed,), Pulse("settings"))):
        return in_force(base, followed.state, Live(base).unseal).settings


class Live:
    """The settings of a process. `base` is the environment's part; `followed` belongs into the process's follower."""

    def __init__(self, base: Settings) -> None:
        self.base = base
        self.settings = base
        self.faults: Mapping[str, str] = {}
        self._users: list[Callable[[Settings], None]] = []
        self._news = asyncio.Event()
        self.followed = Followed((SETTINGS,), Stored(), evolve, self._changed)

    @property
    def stored(self) -> Stored:
        """The stored settings."""
        return self.followed.state

    def use(self, act: Callable[[Settings], None]) -> None:
        """Call `act` now and after each change. An error of it is logged: a stored value must not keep a process from starting."""
        self._users.append(act)
        act(self.settings)

    async def reached(self, name: str, version: int) -> None:
        """Wait until a setting has this version or a later one."""
        while self.stored.version(name) < version:
            await self._news.wait()

    def _changed(self, stored: Stored) -> None:
        self.settings, self.faults = in_force(self.base, stored, self.unseal)
        for name, error in self.faults.items():
            log.warning("stored_setting_passed_over", setting=name, error=error)
        for act in self._users:
            try:
                act(self.settings)
            except Exception as error:
                log.exception("setting_not_applied", error=str(error))
        log.info("settings_applied", versions={name: changes[-1].version for name, changes in stored.changes.items()})
        news, self._news = self._news, asyncio.Event()
        news.set()

    def unseal(self, name: str, sealed: str) -> str:
        """Return a secret value. Raises Sealed."""
        seal = find_seal(self.base)
        if seal is None:
            raise Sealed(f"{name}: this machine has no key for stored secrets")
        return seal.open(name, sealed)


def watch(positions: Mapping[Partition, int], lag: Mapping[Partition, int], passed_over: int) -> None:
    """Show a follower's position, lag and records passed over."""
    for (topic, _), offset in positions.items():
        metrics.FOLLOWER_POSITION.labels(topic).set(offset)
    for (topic, _), events in lag.items():
        metrics.FOLLOWER_LAG.labels(topic).set(events)
    metrics.FOLLOWER_PASSED_OVER.set(passed_over)


def follower_of(settings: Settings, followed: Sequence[Followed[Any]], pulse: Pulse) -> Follower:
    """Return a follower on the log of these settings, with metrics."""
    return Follower(followed, lambda: open_log(settings, idle_ms=IDLE_MS), SystemClock(), pulse=pulse, watch=watch)


class Followers(NamedTuple):
    """The live settings of a process and the follower that keeps them."""

    live: Live
    follower: Follower
    task: "asyncio.Task[None]"

    def notes(self) -> Mapping[str, str]:
        """Return why the settings may be old, and which stored ones are not applied, for `/ready`."""
        faults = {f"setting {name}": f"is not applied: {fault}" for name, fault in self.live.faults.items()}
        return faults | ({"settings": fault} if (fault := self.follower.fault()) else {})


@asynccontextmanager
async def live_settings(settings: Settings, pulse: Callable[[str], Pulse], *others: Followed[Any]) -> AsyncIterator[Followers]:
    """Follow the settings, and other small states of the process, while the block runs."""
    live = Live(settings)
    follower = follower_of(settings, (live.followed, *others), pulse("settings"))
    async with following(follower) as task:
        live.use(lambda changed: logs.set_level(changed.log_level))
        yield Followers(live, follower, task)

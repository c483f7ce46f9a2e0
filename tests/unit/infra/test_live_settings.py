"""The settings in force: environment over stored over default, and what a stored value may be."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version
from pydantic import SecretStr

from events.envelope import Envelope, Recorded
from events.errors import Conflict, InvalidRequest, NotFound
from events.settings import SettingChanged, SettingEvent
from infra.runtime.clock import system_context
from infra.runtime.orders import ORDERS, Order, contradiction
from infra.runtime.sealing import Seal, Sealed, ensure_seal, find_seal
from infra.runtime.settings import InvalidSettings, Settings
from infra.settings.desk import PROPERTIES, REDACTED, SettingsDesk
from infra.settings.live import KINDS, Live, in_force
from projections.settings import Stored, evolve
from tests.support.footage import START

NUMBERS = {name: Settings.model_fields[name].default for name in ("lease_s", "attempts_max", "chunk_s", "upload_ttl_s")}


def stored(**values: str) -> Stored:
    """Return a state with these values."""
    state = Stored()
    for number, (name, value) in enumerate(values.items()):
        state = evolve(state, stored_record(name, value, number))
    return state


def stored_record(name: str, value: str, offset: int = 0) -> Recorded[SettingEvent]:
    """Return the record of a setting's first change."""
    event = SettingChanged(name=name, version=1, value=value)
    return Recorded("settings", 0, offset, Envelope("x", "x", name, START, event, "x"))


def unseal(name: str, sealed: str) -> str:
    raise Sealed("no key")


class Desk(SettingsDesk):
    """A desk whose log is folded at once."""

    def __init__(self, base: Settings) -> None:
        self.log: list[Envelope[SettingEvent]] = []
        self.live = Live(base)
        super().__init__(self.live, self.put, lambda: system_context("kinolog/test"), lambda: ensure_seal(base))

    async def put(self, envelopes: Any) -> None:
        """Append."""
        for envelope in envelopes:
            self.log.append(envelope)
            self.live.followed.take([Recorded("settings", 0, len(self.log) - 1, envelope)])


@given(st.sets(st.sampled_from(sorted(NUMBERS))), st.sets(st.sampled_from(sorted(NUMBERS))), st.randoms())
def test_the_environment_is_before_the_stored_value_and_that_before_the_default(env: set[str], kept: set[str], chance: Any) -> None:
    order = sorted(kept)
    chance.shuffle(order)
    found = in_force(Settings.of(dict.fromkeys(env, "70")), stored(**dict.fromkeys(order, "90")), unseal).settings
    for name, default in NUMBERS.items():
        assert getattr(found, name) == (70 if name in env else 90 if name in kept else default)


@pytest.mark.parametrize("name", KINDS)
def test_every_default_is_a_value_that_may_be_stored_and_comes_back_alike(name: str) -> None:
    default = Settings.model_fields[name].default
    text = default.get_secret_value() if isinstance(default, SecretStr) else str(default)
    assert getattr(in_force(Settings(), stored(**{name: text}), unseal).settings, name) == default


@pytest.mark.parametrize("name", KINDS)
def test_a_stored_setting_has_a_category_a_description_and_limits_that_no_number_escapes(name: str) -> None:
    shown = SettingsDesk(Live(Settings()), nothing, lambda: system_context("x"), lambda: Seal(b"0" * 32)).shown(name)
    assert shown.category and shown.description and shown.source == "default"
    if shown.type in ("number", "integer"):
        assert {"at_least", "above"} & shown.limits.keys() and "at_most" in shown.limits
    elif not shown.secret:
        assert shown.allowed or name.startswith("worker_version") or "pattern" in shown.limits


async def nothing(_: Any) -> None:
    raise AssertionError("nothing is appended")


@given(st.text(max_size=10))
def test_a_value_that_this_version_refuses_is_passed_over(text: str) -> None:
    found = in_force(Settings(), stored(streaming_format=text, no_such_setting=text), unseal)
    assert found.settings.streaming_format in ("cmaf", "hls_ts")
    assert found.faults.keys() == (set() if text in ("cmaf", "hls_ts") else {"streaming_format"})


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Order, str, str]:
    """Return an order and a value for each of its settings, within their own limits."""
    order = draw(st.sampled_from(ORDERS))
    return order, draw(values_of(order.lower)), draw(values_of(order.upper))


def values_of(name: str) -> st.SearchStrategy[str]:
    """Return values of a setting within its own limits, the least and the largest often."""
    schema = PROPERTIES[name]
    if schema["type"] == "string":
        return st.sampled_from(("", "0.9", "0.10", "1.0"))
    low, high = math.ceil(schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)), math.floor(schema["maximum"])
    return st.integers(low, high).map(str) | st.integers(low, min(high, low + 200)).map(str)


def kept(order: Order, lower: str, upper: str) -> bool:
    """Return whether two values are in order."""
    if not lower or not upper:
        return True
    low, high = Version(lower), Version(upper)
    return low < high or (low == high and not order.strict)


@given(pairs())
def test_settings_that_contradict_each_other_are_refused_at_the_start(pair: tuple[Order, str, str]) -> None:
    order, lower, upper = pair
    values = {order.lower: lower, order.upper: upper}
    if kept(order, lower, upper):
        assert contradiction(Settings.from_env({f"KINOLOG_{name.upper()}": value for name, value in values.items()})) is None
    else:
        with pytest.raises(InvalidSettings) as refused:
            Settings.of(values)
        assert all(f"{name} (" in str(refused.value) for name in values) and "must be" in str(refused.value)


@given(pairs(), st.booleans())
async def test_a_change_that_contradicts_another_setting_is_refused(pair: tuple[Order, str, str], first: bool) -> None:
    order, lower, upper = pair
    (name, value), (other, its) = [(order.lower, lower), (order.upper, upper)][:: 1 if first else -1]
    desk = Desk(Settings())
    desk.live.followed.take([stored_record(other, its)])
    if name not in KINDS or other not in KINDS or desk.live.faults:
        return  # one is the environment's, or contradicts a default
    if kept(order, lower, upper):
        assert (await desk.change(name, value, expected=None, reason="")).fault is None
    else:
        with pytest.raises(InvalidRequest, match="must be"):
            await desk.change(name, value, expected=None, reason="")
        assert desk.log == []
    assert contradiction(desk.live.settings) is None


@given(pairs(), st.booleans())
def test_a_stored_value_that_contradicts_the_environment_stops_no_process_and_is_named(
    pair: tuple[Order, str, str], first: bool
) -> None:
    order, lower, upper = pair
    (name, value), (other, its) = [(order.lower, lower), (order.upper, upper)][:: 1 if first else -1]
    if name not in KINDS:
        return
    try:
        base = Settings.of({other: its})
    except InvalidSettings:
        return  # it contradicts a default, and does not start
    found = in_force(base, stored(**{name: value}), unseal)
    assert contradiction(found.settings) is None
    assert found.faults.keys() == (set() if kept(order, lower, upper) else {name})
    live = Live(base)
    live.followed.take([stored_record(name, value)])
    desk = SettingsDesk(live, nothing, lambda: system_context("x"), lambda: Seal(b"0" * 32))
    assert (desk.shown(name).fault is None) == kept(order, lower, upper)


def test_of_two_stored_values_that_contradict_each_other_the_earlier_is_in_force() -> None:
    found = in_force(Settings(), stored(chunk_s="3", segment_s="2"), unseal)
    assert (found.settings.chunk_s, found.settings.segment_s, found.faults) == (3.0, 2.0, {})
    found = in_force(Settings(), stored(segment_s="10", chunk_s="5"), unseal)
    assert (found.settings.segment_s, found.settings.chunk_s) == (10.0, 60.0)
    assert found.faults == {"chunk_s": "segment_s (10) must be at most chunk_s (5)"}


async def test_a_reset_that_would_contradict_another_setting_is_refused() -> None:
    desk = Desk(Settings())
    for name, value in (("segment_s", "2"), ("chunk_s", "3")):
        await desk.change(name, value, expected=None, reason="")
    for change in (desk.reset, desk.undo):
        with pytest.raises(InvalidRequest, match=r"segment_s \(6\) must be at most chunk_s \(3\)"):
            await change("segment_s", expected=None, reason="")
    await desk.reset("chunk_s", expected=None, reason="")
    assert (await desk.reset("segment_s", expected=None, reason="")).value == 6.0


async def test_limits_are_in_the_sentence_of_a_refusal() -> None:
    desk = Desk(Settings())
    for name, value, words in (
        ("lease_s", "5000", "lease_s must be at most 3600"),
        ("lease_s", "nan", "lease_s"),
        ("attempts_max", "many", "attempts_max"),
        ("video_codec", "vp8", "h264"),
        ("worker_version_min", "new", "must be a version"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            await desk.change(name, value, expected=None, reason="")
    with pytest.raises(InvalidRequest, match="KINOLOG_KAFKA_BOOTSTRAP"):
        await desk.change("kafka_bootstrap", "x:1", expected=None, reason="")
    with pytest.raises(NotFound, match="no setting leases"):
        desk.shown("leases")
    assert not desk.log


async def test_a_change_is_seen_by_its_users_and_can_be_undone() -> None:
    desk, leases = Desk(Settings()), list[float]()
    desk.live.use(lambda settings: leases.append(settings.lease_s))
    changed = await desk.change("lease_s", "90", expected=0, reason="slow line")
    assert (changed.value, changed.source, changed.version, changed.reason) == (90.0, "stored", 1, "slow line")
    with pytest.raises(Conflict):
        await desk.change("lease_s", "30", expected=0, reason="")
    undone = await desk.undo("lease_s", expected=None, reason="")
    assert (undone.value, undone.source, undone.stored, undone.version) == (60.0, "default", None, 2)
    assert [change.value for change in desk.history("lease_s")] == [None, "90"]
    assert leases == [60.0, 90.0, 60.0]


async def test_a_fault_of_one_user_keeps_no_other_from_the_change() -> None:
    desk, seen = Desk(Settings()), list[float]()

    def faulty(settings: Settings) -> None:
        if settings.lease_s == 90:
            raise OverflowError

    desk.live.use(faulty)
    desk.live.use(lambda settings: seen.append(settings.lease_s))
    await desk.change("lease_s", "90", expected=None, reason="")
    assert seen == [60.0, 90.0]


async def test_the_environments_value_stays_in_force_and_is_shown_as_such() -> None:
    desk = Desk(Settings.of({"lease_s": "45"}))
    shown = await desk.change("lease_s", "90", expected=None, reason="")
    assert (shown.value, shown.source, shown.stored) == (45.0, "environment", "90")


async def test_a_secret_is_sealed_on_the_log_and_redacted_everywhere(tmp_path: Path) -> None:
    desk = Desk(Settings(var_dir=tmp_path))
    shown = await desk.change("metrics_token", "not-for-the-log", expected=None, reason="")
    assert (shown.value, shown.stored, shown.secret) == (REDACTED, REDACTED, True)
    assert [change.value for change in desk.history("metrics_token")] == [REDACTED]
    assert "not-for-the-log" not in repr(desk.log) and desk.log[0].data.sealed
    assert desk.live.settings.metrics_token.get_secret_value() == "not-for-the-log"
    key = tmp_path / "tokens" / "settings.key"
    assert key.stat().st_mode & 0o077 == 0
    key.unlink()
    other = Live(Settings(var_dir=tmp_path))
    other.followed.take([Recorded("settings", 0, 0, desk.log[0])])
    assert other.settings.metrics_token.get_secret_value() == "" and find_seal(other.base) is None


@given(st.text(max_size=50))
def test_a_sealed_value_opens_under_its_key_and_name_alone(text: str) -> None:
    seal = Seal(b"k" * 32)
    sealed = seal.close("metrics_token", text)
    assert seal.open("metrics_token", sealed) == text
    for other, name in ((Seal(b"l" * 32), "metrics_token"), (seal, "s3_secret_key")):
        with pytest.raises(Sealed):
            other.open(name, sealed)
    with pytest.raises(Sealed):
        seal.open("metrics_token", text)

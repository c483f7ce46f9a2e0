"""The second factor: what counts, what is refused, and what the log learns of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.login.second import FactorMissing, SecondFactor
from events.clock import Context
from events.envelope import Event
from events.errors import Conflict, InvalidRequest, NotFound, Unproven
from events.people import FactorAdded, FactorRemoved
from producers.factors import recovery_codes, recovery_digest, step_of, totp_secret
from tests.support.factors import MemoryFactors

NOW = datetime(2026, 3, 1, 12, 0, 15, tzinfo=UTC)
STEP = timedelta(seconds=30)


class World:
    """One installation with a clock of its own."""

    def __init__(self) -> None:
        self.now = NOW
        self.log: list[Event] = []
        self.tables = MemoryFactors()
        self.second = SecondFactor(self.tables, lambda: Context(self.now, lambda: "id", "tests"), self._record)

    async def _record(self, event: Event) -> None:
        self.log.append(event)

    def code(self, user_id: str = "anna") -> str:
        return pyotp.TOTP(self.tables.secrets[user_id].secret).at(self.now)

    async def with_factor(self, user_id: str = "anna") -> tuple[str, ...]:
        """Add a factor, and wait for the next code."""
        await self.second.begin(user_id, user_id)
        codes = await self.second.prove(user_id, self.code(user_id))
        self.now += STEP
        return codes

    async def refused(self, code: str | None, user_id: str = "anna") -> str:
        with pytest.raises(Unproven) as refused:
            await self.second.check(user_id, code)
        return refused.value.reason


async def test_a_secret_counts_once_its_first_code_was_seen() -> None:
    world = World()
    begun = await world.second.begin("anna", "anna@home")
    assert begun.uri == f"otpauth://totp/Kinolog:anna%40home?secret={begun.secret}&issuer=Kinolog"
    assert len(begun.secret) == 32
    assert ElementTree.fromstring(begun.qr_code).tag.endswith("svg")
    await world.second.check("anna", None)
    with pytest.raises(InvalidRequest):
        await world.second.prove("anna", "000000" if world.code() != "000000" else "111111")
    codes = await world.second.prove("anna", world.code())
    assert len(set(codes)) == 10
    assert await world.refused(None) == "factor_missing"
    assert world.log == [FactorAdded(user_id="anna", factor="totp"), FactorAdded(user_id="anna", factor="recovery_codes")]


async def test_a_second_secret_is_refused_while_one_counts() -> None:
    world = World()
    await world.with_factor()
    with pytest.raises(Conflict):
        await world.second.begin("anna", "anna")
    with pytest.raises(Conflict):
        await world.second.prove("anna", world.code())


async def test_the_first_code_is_spent_by_the_proof() -> None:
    world = World()
    await world.second.begin("anna", "anna")
    await world.second.prove("anna", world.code())
    assert await world.refused(world.code()) == "totp_replayed"


async def test_a_code_is_accepted_once_also_by_requests_at_once() -> None:
    world = World()
    await world.with_factor()
    answers = await asyncio.gather(*(world.second.check("anna", world.code()) for _ in range(5)), return_exceptions=True)
    assert [isinstance(answer, Unproven) for answer in answers].count(False) == 1
    assert await world.refused(world.code()) == "totp_replayed"
    world.now += STEP
    await world.second.check("anna", world.code())


async def test_an_older_code_is_refused_after_a_newer_one() -> None:
    world = World()
    await world.with_factor()
    old = world.code()
    world.now += STEP
    await world.second.check("anna", world.code())
    assert await world.refused(old) == "totp_replayed"


@pytest.mark.parametrize("code", ["", " "])
async def test_an_empty_code_is_a_missing_one(code: str) -> None:
    world = World()
    await world.with_factor()
    with pytest.raises(Unproven):
        await world.second.check("anna", code)
    with pytest.raises(FactorMissing):
        await world.second.check("anna", None)


async def test_a_recovery_code_is_good_once_in_any_spelling() -> None:
    world = World()
    first, second, *_ = await world.with_factor()
    await world.with_factor("berta")
    assert await world.refused(first, "berta") == "recovery_code_wrong"
    await world.second.check("anna", first.upper().replace("-", " "))
    assert await world.refused(first) == "recovery_code_wrong"
    await world.second.check("anna", second)
    assert await world.second.codes_left("anna") == 8
    assert world.log[-1] == FactorRemoved(user_id="anna", factor="recovery_code", because="used")


class Crash(Exception):
    """The process dies."""


@pytest.mark.parametrize("at", ["_record", "spend_code"])
async def test_a_crash_while_a_recovery_code_is_spent_loses_neither_the_code_nor_the_event(
    at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    first, *_ = await world.with_factor()
    used = FactorRemoved(user_id="anna", factor="recovery_code", because="used")

    async def dies(*_: object) -> bool:
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(world.tables if at == "spend_code" else world.second, at, dies)
        with pytest.raises(Crash):
            await world.second.check("anna", first)
    assert await world.second.codes_left("anna") == 10, "nobody was let in, so the code is still good"
    await world.second.check("anna", first)
    assert used in world.log and await world.refused(first) == "recovery_code_wrong"


async def test_of_two_requests_with_one_recovery_code_one_is_let_in() -> None:
    world = World()
    first, *_ = await world.with_factor()
    both = await asyncio.gather(*(world.second.check("anna", first) for _ in range(2)), return_exceptions=True)
    assert sorted(isinstance(outcome, Unproven) for outcome in both) == [False, True]


async def test_new_recovery_codes_end_the_old_ones() -> None:
    world = World()
    old, *_ = await world.with_factor()
    new, *_ = await world.second.renew_codes("anna", world.code())
    assert await world.refused(old) == "recovery_code_wrong"
    await world.second.check("anna", new)


async def test_a_factor_is_removed_with_a_code_or_by_an_administrator() -> None:
    world = World()
    await world.with_factor()
    with pytest.raises(FactorMissing):
        await world.second.remove("anna", None)
    await world.second.remove("anna", world.code())
    assert world.log[-1] == FactorRemoved(user_id="anna", factor="totp", because="removed")
    await world.second.check("anna", None)
    for attempt in (world.second.remove("anna", "123456"), world.second.renew_codes("anna", "1")):
        with pytest.raises(NotFound):
            await attempt
    await world.with_factor()
    assert await world.second.reset("anna")
    assert not await world.second.reset("anna")
    assert world.log[-1] == FactorRemoved(user_id="anna", factor="totp", because="reset")
    assert await world.second.codes_left("anna") == 0


async def test_the_log_and_messages_hold_no_secret() -> None:
    world = World()
    codes = await world.with_factor()
    secret = world.tables.secrets["anna"].secret
    said = repr(world.log) + repr(world.tables.secrets)
    assert not [text for text in (secret, *codes) if text in said]


@given(st.integers(min_value=-3, max_value=3), st.integers(min_value=120, max_value=2**32))
def test_the_window_is_one_step_to_each_side(distance: int, second: int) -> None:
    secret = totp_secret()
    generator = pyotp.TOTP(secret)
    present = second // 30
    code = generator.generate_otp(present + distance)
    others = {generator.generate_otp(present + near) for near in (-1, 0, 1) if near != distance}
    found = step_of(secret, code, datetime.fromtimestamp(second, UTC))
    if code not in others:
        assert found == (present + distance if abs(distance) <= 1 else None)


@pytest.mark.parametrize("text", ["12345", "1234567", "abcdef", "١٢٣٤٥٦", "²³⁴⁵⁶⁷", "-12345", "12.345", "0x1234", "\x00" * 6])
def test_other_texts_are_no_code(text: str) -> None:
    assert step_of(totp_secret(), text, NOW) is None


def test_the_rfc_names_these_codes() -> None:
    """RFC 6238 appendix B, the last six digits of SHA-1's."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    known = {59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"}
    for second, code in known.items():
        assert step_of(secret, f"{code[:3]} {code[3:]}", datetime.fromtimestamp(second, UTC)) == second // 30


def test_recovery_codes_are_long_and_differ() -> None:
    codes = {code for _ in range(50) for code in recovery_codes()}
    assert len(codes) == len({recovery_digest(code) for code in codes}) == 500
    assert all(len(code.replace("-", "")) == 16 for code in codes)

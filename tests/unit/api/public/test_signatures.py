"""Signed paths of private media: good for one video until a moment, and nothing else is accepted."""

import string
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from api.identity import Denied
from api.public.signatures import ROUNDING, TTL_MAX_S, check, expiry_of, signed
from infra.runtime.settings import Settings
from tests.support.apps import media_key
from tests.support.footage import VIDEO_ID, id_of

NOW = datetime(2026, 11, 29, 23, 30, tzinfo=UTC)
TTL_S = 3600
TTLS = st.integers(60, TTL_MAX_S)


async def proof(ttl_s: int = TTL_S) -> str:
    return (await signed(media_key, VIDEO_ID, expiry_of(NOW, ttl_s))).removeprefix("~")


async def reason(text: str, video_id: str = VIDEO_ID, now: datetime = NOW) -> str:
    with pytest.raises(Denied) as refused:
        await check(media_key, text, video_id, now)
    assert refused.value.status_code == 403
    return refused.value.reason


@given(TTLS, st.integers(0, 10**6))
async def test_a_path_is_good_for_its_life_and_at_most_a_quarter_more(ttl_s: int, later_s: int) -> None:
    now = NOW + timedelta(seconds=later_s)
    text = (await signed(media_key, VIDEO_ID, expiry_of(now, ttl_s))).removeprefix("~")
    assert ttl_s <= await check(media_key, text, VIDEO_ID, now) <= ttl_s * (1 + 1 / ROUNDING)


async def test_viewers_who_come_within_a_quarter_of_a_life_share_addresses() -> None:
    moments = [datetime(2026, 11, 29, 12, minute, tzinfo=UTC) for minute in range(1, 16)]
    assert len({expiry_of(moment, TTL_S) for moment in moments}) == 1


async def test_a_path_ends_at_its_moment_also_after_midnight() -> None:
    text = await proof()
    end = datetime.fromtimestamp(int(text.split(".")[1]), UTC)
    assert end.date() > NOW.date(), "the key is that of the day on which the path ends"
    assert await check(media_key, text, VIDEO_ID, end - timedelta(seconds=1)) == 1
    assert await reason(text, now=end) == "media_signature_expired"


async def test_a_path_is_of_one_video_one_moment_and_one_day() -> None:
    text = await proof()
    signature, _, expiry = text.partition(".")
    assert await reason(text, id_of("other")) == "media_signature_wrong"
    assert await reason(f"{signature}.{int(expiry) + 1}") == "media_signature_wrong"

    async def another(day: date) -> bytes:
        return await media_key(day - timedelta(days=1))

    yesterdays = (await signed(another, VIDEO_ID, int(expiry))).removeprefix("~")
    assert await reason(yesterdays) == "media_signature_wrong"


@pytest.mark.parametrize("text", ["", ".", "x", "x.", ".9", "x.-1", "x.１７", "x." + "9" * 10, "x." + "9" * 400, "é.1796000000"])
async def test_nonsense_is_refused(text: str) -> None:
    assert await reason(text) in ("media_signature_wrong", "media_signature_expired")


@given(st.integers(0, 21), st.sampled_from(string.ascii_letters + string.digits + "-_=."))
async def test_no_other_character_is_accepted(place: int, char: str) -> None:
    text = await proof()
    changed = text[:place] + char + text[place + 1 :]
    assume(changed != text)
    with pytest.raises(Denied):
        await check(media_key, changed, VIDEO_ID, NOW)


async def test_no_key_is_made_for_a_day_on_which_no_path_can_end() -> None:
    async def none(day: date) -> bytes:
        raise AssertionError(day)

    far = int(NOW.timestamp()) + TTL_MAX_S * 2
    with pytest.raises(Denied):
        await check(none, f"x.{far}", VIDEO_ID, NOW)


def test_the_setting_allows_no_longer_life_than_a_check() -> None:
    (limit,) = [item.le for item in Settings.model_fields["private_media_ttl_s"].metadata if hasattr(item, "le")]
    assert limit == TTL_MAX_S

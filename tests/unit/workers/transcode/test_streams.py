"""Streams are chosen by what they send."""

from typing import Any

from events.media import Failure
from workers.transcode.packets import PacketScan
from workers.transcode.streams import Choice, Program, choose

FILM = {"codec_type": "video", "codec_name": "h264", "width": 320, "height": 240, "pix_fmt": "yuv420p"}
SOUND = {"codec_type": "audio", "codec_name": "aac", "channels": 2, "sample_rate": "48000"}


def streams(*kinds: dict[str, Any]) -> list[dict[str, Any]]:
    """Return streams with their indexes."""
    return [{**kind, "index": index} for index, kind in enumerate(kinds)]


def sent(*counts: int, beside: str = "") -> PacketScan:
    """Return a scan with so many packets of each stream."""
    scan = PacketScan()
    for index, count in enumerate(counts):
        for number in range(count):
            scan.add(f"{index},{number},{number},1,K__{beside}")
    return scan


def chosen(found: Choice | Failure) -> Choice:
    """Return a choice that must be one."""
    assert isinstance(found, Choice), found
    return found


def test_what_is_announced_and_never_sent_is_nothing() -> None:
    choice = chosen(choose(streams(FILM, FILM, SOUND), (), sent(0, 25, 40)))

    assert choice.video is not None and choice.video["index"] == 1
    assert choice.warnings == ()


def test_a_single_picture_beside_a_film_is_a_cover() -> None:
    first = {**FILM, "codec_name": "mjpeg", "disposition": {"default": 1}}

    choice = chosen(choose(streams(first, FILM), (), sent(1, 25)))

    assert choice.video is not None and choice.video["index"] == 1
    assert [cover["index"] for cover in choice.covers] == [0]


def test_a_single_picture_alone_is_the_video() -> None:
    choice = chosen(choose(streams(FILM, SOUND), (), sent(1, 40)))

    assert choice.video is not None and choice.covers == ()


def test_a_programme_keeps_its_own_sound() -> None:
    programs = (Program("A", frozenset((0, 1))), Program("B", frozenset((2, 3))))

    choice = chosen(choose(streams(FILM, SOUND, FILM, SOUND, SOUND), programs, sent(25, 40, 25, 40, 40)))

    assert [track["index"] for track in choice.audio] == [1, 4]
    assert "“A”" in choice.warnings[0]


def test_encrypted_pictures_are_refused_by_their_code() -> None:
    found = choose(streams(FILM, SOUND), (), sent(25, 40, beside=",Encryption info"))

    assert isinstance(found, Failure) and found.code == "FILE_ENCRYPTED"

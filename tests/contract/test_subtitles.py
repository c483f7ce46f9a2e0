"""Our WebVTT, judged by the validator of the working group that made it."""

import html

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import tools
from tests.support.recipes import ASS, MARKS, SRT, WEBVTT
from workers.transcode.captions import from_ass, from_srt, repaired, webvtt

TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"), exclude_characters="\u2028\u2029"), max_size=40)
MARKED = st.lists(
    st.sampled_from(
        ["<i>", "</i>", "<b>", "</b>", "<u>", "</u>", "{\\an8}", "{\\i1}", "<font color=red>", "<3", "-->", "&", "&lt;", "x\ny"]
    )
    | TEXTS,
    max_size=6,
).map("".join)
FILES = {
    "SubRip": webvtt(from_srt(SRT), 0),
    "SubRip with marks": webvtt(from_srt(MARKS), 0),
    "ASS": webvtt(from_ass(ASS.decode(), comments=True).cues, 0),
    "WebVTT": repaired(WEBVTT.decode()),
}


@pytest.mark.parametrize("name", FILES)
def test_every_format_becomes_valid(name: str) -> None:
    found = tools.subtitles(FILES[name])
    assert found["errors"] == []
    assert found["cues"]


def test_the_words_are_those_that_were_written() -> None:
    cues = tools.subtitles(FILES["SubRip with marks"])["cues"]
    assert [cue["text"] for cue in cues][:2] == ["AT&T <3 you & me", "if a < b and b > c then a --> c"]


@settings(max_examples=30)
@given(st.lists(MARKED, min_size=1, max_size=20))
def test_no_text_makes_it_invalid(texts: list[str]) -> None:
    source = "".join(f"{n}\n00:00:{n:02},000 --> 00:00:{n:02},500\n{text}\n\n" for n, text in enumerate(texts, 1))
    cues = list(from_srt(source.encode()))
    found = tools.subtitles(webvtt(cues, 0))
    assert found["errors"] == []
    assert len(found["cues"]) == len([cue for cue in cues if html.unescape(cue.text).strip()])


@pytest.mark.parametrize("text", ["", "WEBVTT\n\n00:01.000 --> 00:00.500\nx\n", "WEBVTT\n\n00:01.000 --> 00:02.000\na < b\n"])
def test_the_validator_bites(text: str) -> None:
    assert tools.subtitles(text)["errors"]

"""Text arrives as it was written, as WebVTT that every parser reads alike."""

import html
import re
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.recipes import ASS, MARKS, WEBVTT
from workers.transcode.captions import decoded, from_ass, from_srt, repaired, webvtt
from workers.transcode.matroska import languages

PAYLOADS = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn"), exclude_characters="\u2028\u2029"), max_size=60
)
MARKUP = st.lists(
    st.sampled_from(["<i>", "</i>", "<b>", "</b>", "<u>", "</U>", "{\\an8}", "<font color=red>", "a < b", "-->", "x"])
)


EVENTS = ASS.decode().split("\n").index("[Events]") + 2


def shown(payload: str) -> str:
    """Return the text of a WebVTT payload: marks go, entities are characters."""
    return html.unescape(re.sub(r"</?[a-z][^>]*>", "", payload))


def test_subrip_keeps_its_text_and_the_marks_that_are_known() -> None:
    cues = list(from_srt(MARKS))

    assert [cue.text for cue in cues] == [
        "AT&amp;T &lt;3 you &amp; me",
        "if a &lt; b and b &gt; c then a --&gt; c",
        "<i>top <b>both</b></i><b> italics</b> red {text}",
        "\u202bשלום, עולם!\u202c",
    ]
    assert [cue.settings for cue in cues] == ["", "", "line:0", ""]


def test_a_text_may_hold_empty_lines_and_times() -> None:
    (cue,) = from_srt(b"1\n00:00:01,000 --> 00:00:02,500\nfirst\n\n\nthird\n00:00:01,000 --> 00:00:02,500\n\n")

    assert (cue.start_ms, cue.end_ms) == (1000, 2500)
    assert cue.text == "first\nthird\n00:00:01,000 --&gt; 00:00:02,500"


def test_ass_loses_drawings_and_comments_and_keeps_lines_and_places() -> None:
    cues = [cue for cue in from_ass(ASS.decode(), comments=True).cues if cue.text]

    assert [(cue.start_ms, cue.text, cue.settings) for cue in cues] == [
        (100, "plain &amp; &lt;simple&gt;", ""),
        (300, "first\nthird <i>after</i> an empty line", ""),
        (700, "sign", "line:2% position:50%"),
    ]


def test_braces_are_text_where_there_are_no_comments() -> None:
    script = ASS.replace(b"{unseen}plain", rb"a {b} \{c\} {\b1}d{\b0}")

    first = from_ass(script.decode(), comments=False).cues[0]

    assert first.text == "a {b} {c} <b>d</b> &amp; &lt;simple&gt;"


def test_webvtt_stays_as_it_is_but_for_what_no_browser_would_show() -> None:
    assert repaired(WEBVTT.decode()) == WEBVTT.decode().replace("& more", "&amp; more")
    assert (
        repaired("WEBVTT\n\n00:00.200 --> 00:01.000\n<yellow> <b>tag</b>")
        == "WEBVTT\n\n00:00.200 --> 00:01.000\n&lt;yellow> <b>tag</b>"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252"])
def test_encodings_are_recognised(encoding: str) -> None:
    said = "Überraschung für Jürgen: schöne Grüße aus Köln, à bientôt"

    assert decoded(said.encode(encoding)) == said
    (cue,) = from_srt(b"1\n00:00:01,000 --> 00:00:02,000\n" + said.encode(encoding) + b"\n\n")
    assert cue.text == said


@given(st.data())
def test_no_script_stops_the_reader_of_ass(data: st.DataObject) -> None:
    lines = ASS.decode().split("\n")
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = data.draw(st.one_of(st.text(max_size=60), st.just(lines[at][: data.draw(st.integers(0, 60))])))

    found = from_ass("\n".join(lines), comments=True)

    assert len(found.cues) >= 3, "a line costs no other"


STYLED = """[Script Info]
PlayResX: 640
[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, Bold, Italic, Underline, Alignment
Style: Default,Arial,28,{default}
Style: Sign,Arial,28,{sign}
[Events]
Dialogue: 0,0:00:00.10,0:00:00.30,Default,,0,0,0,,said
Dialogue: 0,0:00:00.30,0:00:00.50,Sign,,0,0,0,,a sign
"""


@pytest.mark.parametrize("color", ["", "&H", "white", "&H00FFFFFF", "-1", "99999999999999999999"])
def test_no_colour_costs_a_text_or_another_mark_of_its_style(color: str) -> None:
    script = from_ass(STYLED.format(default=f"{color},0,0,0,2", sign=f"{color},-1,1,0,8"), comments=True)

    assert [(cue.text, cue.settings) for cue in script.cues] == [("said", ""), ("<i><b>a sign</b></i>", "line:0")]
    assert script.unread == ()


@pytest.mark.parametrize("style", ["&H0,x,0,0,2", "&H0,0,0,0,12", "&H0,0,,0,2", "&H0,0,0,0,", "&H0,0,0,0,٢"])
def test_a_style_that_cannot_be_read_is_named_and_costs_no_other(style: str) -> None:
    script = from_ass(STYLED.format(default=style, sign="&H0,0,1,0,8"), comments=True)

    assert [(cue.text, cue.settings) for cue in script.cues] == [("said", ""), ("<i>a sign</i>", "line:0")]
    assert script.unread == ("Default",)


@given(st.sampled_from([r"\i{}", r"\b{}", r"\p{}", r"\a{}", r"\an{}", r"\pos({},{})"]), st.integers(0, 6000))
def test_no_number_is_too_long(mark: str, digits: int) -> None:
    said = "{" + mark.replace("{}", "9" * digits) + "}x"

    script = from_ass(f"PlayResX: {'9' * digits}\nDialogue: 0,0:00:00.10,0:00:00.30,Default,,0,0,0,,{said}", comments=True)

    assert len(script.cues) == 1


def test_older_scripts_have_their_own_numbers_and_order() -> None:
    old = STYLED.replace("[V4+ Styles]", "[V4 Styles]").replace("Underline", "BorderStyle")

    script = from_ass(old.format(default="0,0,0,1,2", sign="0,0,-1,1,6"), comments=True)

    assert [(cue.text, cue.settings) for cue in script.cues] == [("said", ""), ("<i>a sign</i>", "line:0")]
    assert script.unread == ()


@given(st.lists(PAYLOADS), MARKUP)
def test_no_text_breaks_the_file(payloads: list[str], marks: list[str]) -> None:
    source = "".join(
        f"{number}\n00:00:{number % 60:02},000 --> 00:00:{number % 60:02},500\n{said}{''.join(marks)}\n\n"
        for number, said in enumerate(payloads, 1)
    )

    file = webvtt(from_srt(source.encode()), 0)

    blocks = file.rstrip("\n").split("\n\n")
    assert blocks[0] == "WEBVTT"
    for block in blocks[1:]:
        head, *lines = block.split("\n")
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}( line:0)?", head)
        assert lines and all(lines)
        assert "-->" not in "".join(lines)
        opened: list[str] = []
        for closing, tag in re.findall(r"<(/?)([biu])>", block):
            assert not closing or opened.pop() == tag
            opened += [] if closing else [tag]
        assert not opened
    if not marks:
        wanted = [said.replace("\ufeff", "").strip() for said in payloads]
        if not any(re.search("[<{]", said) for said in payloads):
            assert [shown(block.split("\n", 1)[1]) for block in blocks[1:]] == [said for said in wanted if said]


def element(kind: int, body: bytes) -> bytes:
    """Return an element of EBML."""
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + (len(body) | 1 << 28).to_bytes(4, "big") + body


def test_tags_of_matroska_are_read() -> None:
    sound = element(0xAE, element(0x83, b"\x02") + element(0x22B59C, b"por") + element(0x22B59D, b"pt-BR"))
    logo, silent = element(0xAE, element(0x83, b"\x10")), element(0xAE, element(0x83, b"\x01"))
    tracks = element(0x1654AE6B, silent + logo + sound)

    assert languages(BytesIO(element(0x1A45DFA3, b"x") + element(0x18538067, element(0xEC, b"void") + tracks))) == {1: "pt-BR"}


@given(st.binary(max_size=300), st.booleans())
def test_no_bytes_stop_the_reader_of_matroska(data: bytes, inside: bool) -> None:
    assert isinstance(languages(BytesIO(element(0x18538067, element(0x1654AE6B, data)) if inside else data)), dict)

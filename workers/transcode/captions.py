"""Subtitles become WebVTT: from SubRip and ASS, as ffmpeg writes them, to cues. Pure.

WebVTT itself passes unchanged. Everything else that ffmpeg decodes arrives as ASS: its events as ffmpeg's muxer writes them, its
styles as the author's program did. Of a style only what WebVTT can show is read, so no broken colour or font costs a text.
Marks that WebVTT supports are kept (italic, bold, underline, the position on the screen); other marks are dropped. Text that
only looks like a mark stays text.
"""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from charset_normalizer import from_bytes

CUE_MAX_CHARS = 10_000
"""Maximum text of one cue; the rest of a longer text is dropped."""
DETECTED_BYTES = 64 * 1024
ENCODINGS = (
    *("cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874"),
    *("shift_jis", "euc_jp", "euc_kr", "gb18030", "big5"),
)
"""Encodings of subtitles besides Unicode."""

_SRT_CUE = re.compile(rb"(?:\A|\n\n)\d+\n(\d+):(\d\d):(\d\d),(\d{3}) --> (\d+):(\d\d):(\d\d),(\d{3})\n")
_SRT_MARK = re.compile(r"<(/?)(i|b|u|em|strong|s|strike|font|span)(?:\s[^<>]*)?>|\{(\\[^{}]*)\}|<br\s*/?>|\r?\n|\r", re.IGNORECASE)
_ASS_TIME = r"(\d{1,6}):(\d\d):(\d\d)\.(\d\d)"
_ASS_EVENT = re.compile(rf"Dialogue: *[\w= ]*,{_ASS_TIME},{_ASS_TIME},([^,]*),(?:[^,]*,){{5}}(.*)")
_ASS_SIZE = re.compile(r"PlayRes([XY]): *(\d{1,6})\s*")
_ASS_LINE = re.compile(r"\r\n|\r|\n")
_FLAGS = {"0": False, "1": True, "-1": True}
_ASS_MARK = re.compile(r"\{([^{}]*)\}|\\([Nnh])")
_ASS_SWITCH = re.compile(r"\\(i|b|u|p)(\d{1,4})|\\r")
_EMPTY = re.compile(r"<(\w)></\1>")
_NO_ENTITY = re.compile(r"&(?!#?\w+;)")
_NO_MARK = re.compile(r"<(?!/?(?:[cibuv]|lang|ruby|rt)[\s.>]|[\d:.]+>)")
_POSITION = re.compile(r"\\an(\d)|\\a(\d{1,4})|\\pos\(\s*(-?[\d.]+)\s*,\s*(-?[\d.]+)\s*\)")
_SAME = {"em": "i", "strong": "b"}
_LEGACY = {1: 1, 2: 2, 3: 3, 5: 7, 6: 8, 7: 9, 9: 4, 10: 5, 11: 6}
"""SSA's alignment numbers -> those of the numeric keypad."""
_BOTTOM, _MIDDLE = 2, 5
_BRACES = {r"\{": "\ufdd0", r"\}": "\ufdd1"}
"""Escaped braces -> characters that no text has; they stand in for the braces while marks are parsed."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Text shown for a time; `text` is a WebVTT payload, `settings` its position."""

    start_ms: int
    end_ms: int
    text: str
    settings: str = ""


def decoded(data: bytes) -> str:
    """Return text whose container does not name its encoding: valid UTF-8, UTF-16 by its mark or zeros, otherwise detected."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    if data[1::2].count(0) > len(data) // 4:
        return data.decode("utf-16-le", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode(_detected(data), "replace")


def repaired(text: str) -> str:
    """Return WebVTT with everything escaped that is neither a mark nor an entity: players would not show it otherwise."""
    lines = text.replace("\r\n", "\n").replace("\0", "\ufffd").split("\n")
    return "\n".join(line if "-->" in line else _NO_MARK.sub("&lt;", _NO_ENTITY.sub("&amp;", line)) for line in lines)


def from_srt(data: bytes) -> Iterator[Cue]:
    """Yield the cues of SubRip as ffmpeg writes it: a text may contain empty lines and arrows."""
    heads = list(_SRT_CUE.finditer(data))
    ends = [*(head.start() for head in heads[1:]), len(data)]
    texts = [data[head.end() : end].rstrip(b"\n") for head, end in zip(heads, ends, strict=False)]
    whole = b"\n".join(texts)
    encoding = None if _is_utf8(whole) or 0 in whole else _detected(whole)
    for head, text in zip(heads, texts, strict=True):
        times = [int(number) for number in head.groups()]
        said = text.decode(encoding, "replace") if encoding is not None else decoded(text)
        yield _marked_cue(_ms(*times[:4]), _ms(*times[4:]), said)


def _detected(data: bytes) -> str:
    """Return the likeliest encoding; in a tie, the western European one."""
    found = from_bytes(data[:DETECTED_BYTES], cp_isolation=[*ENCODINGS])
    best = found.best()
    western = next((match for match in found if match.encoding == ENCODINGS[0]), None)
    if best is None or (western is not None and western.chaos <= best.chaos and western.coherence >= best.coherence):
        return ENCODINGS[0]
    return str(best.encoding)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ms(hours: int, minutes: int, seconds: int, milliseconds: int) -> int:
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds


def _marked_cue(start_ms: int, end_ms: int, said: str) -> Cue:
    """Return a cue for a text with the marks that SubRip borrows: HTML, and ASS in braces."""
    line, overrides, at = _Line(), "", 0
    said = said[:CUE_MAX_CHARS].replace("\ufeff", "")
    for mark in _SRT_MARK.finditer(said):
        line.add(said[at : mark.start()])
        at = mark.end()
        closing, name, override = mark[1], mark[2], mark[3]
        if override is not None:
            overrides += override
        elif name is None:
            line.break_()
        elif (tag := _SAME.get(name.lower(), name.lower())) in ("i", "b", "u"):
            line.switch(tag, on=not closing)
    line.add(said[at:])
    return Cue(start_ms, end_ms, line.text(), _settings(overrides, _BOTTOM, 384, 288))


@dataclass(frozen=True, slots=True)
class Style:
    """The part of an ASS style that WebVTT can show; `alignment` is as on a numeric keypad."""

    italic: bool = False
    bold: bool = False
    underline: bool = False
    alignment: int = _BOTTOM


@dataclass(frozen=True, slots=True)
class Script:
    """The events, styles and size of an ASS script. `unread` names styles of which something could not be read."""

    cues: tuple[Cue, ...]
    unread: tuple[str, ...] = ()


def from_ass(text: str, *, comments: bool) -> Script:
    """Return the cues of an ASS script, without drawings. With `comments`, text in braces is a comment and dropped."""
    lines = _ASS_LINE.split(text)
    styles, unread = _styles(lines)
    size = {"X": 384, "Y": 288}
    size |= {found[1]: int(found[2]) for line in lines if (found := _ASS_SIZE.fullmatch(line)) and int(found[2])}
    cues = []
    for line in lines:
        if (event := _ASS_EVENT.match(line)) is not None:
            begins, ends = (_ms(int(event[at]), int(event[at + 1]), int(event[at + 2]), 10 * int(event[at + 3])) for at in (1, 5))
            style, said = styles.get(event[9], Style()), event[10][:CUE_MAX_CHARS]
            settings = _settings("".join(re.findall(r"\{[^{}]*\}", said)), style.alignment, size["X"], size["Y"])
            cues.append(Cue(begins, ends, _ass_text(said, style, comments=comments), settings))
    return Script(tuple(cues), tuple(unread))


def _styles(lines: Iterable[str]) -> tuple[dict[str, Style], list[str]]:
    """Return the styles by name, and the names of those that have a value which is none; it counts as the default."""
    styles: dict[str, Style] = {}
    unread: list[str] = []
    names, legacy = ["name"], False
    for line in lines:
        word, _, rest = line.partition(":")
        match word.strip():
            case "[V4 Styles]" | "[V4+ Styles]":
                names, legacy = ["name"], word.strip() == "[V4 Styles]"
            case "Format" if "fontname" in rest.lower():
                names = [field.strip().lower() for field in rest.split(",")]
            case "Style":
                values = dict(zip(names, (value.strip() for value in rest.split(",")), strict=False))
                style, whole = _style(values, legacy)
                styles[values.get("name", "")] = style
                unread += [] if whole else [values.get("name", "")]
            case _:
                pass
    return styles, unread


def _style(values: Mapping[str, str], legacy: bool) -> tuple[Style, bool]:
    """Return a style, and whether each of its values could be read; what is left out is the default."""
    flags = {name: _FLAGS.get(values.get(name, "0")) for name in ("italic", "bold", "underline")}
    text = values.get("alignment", str(_BOTTOM))
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 3 else 0
    alignment = _LEGACY.get(number) if legacy else number if number in range(1, 10) else None
    whole = alignment is not None and None not in flags.values()
    return Style(**{name: bool(flag) for name, flag in flags.items()}, alignment=alignment or _BOTTOM), whole


def _ass_text(said: str, style: Style, *, comments: bool) -> str:
    line, drawing, at = _Line(), False, 0
    own = {"i": style.italic, "b": style.bold, "u": style.underline}
    for escaped, stand_in in _BRACES.items():
        said = said.replace(escaped, stand_in)
    for tag, on in own.items():
        line.switch(tag, on=on)
    for mark in _ASS_MARK.finditer(said):
        if not drawing:
            line.add(said[at : mark.start()])
        at = mark.end()
        if mark[2] == "h":
            line.add("\u00a0")
        elif mark[2] is not None:
            line.break_()
        elif not comments and not mark[1].startswith("\\"):
            line.add(mark[0])
        else:
            for switch in _ASS_SWITCH.finditer(mark[1]):
                if switch[1] == "p":
                    drawing = int(switch[2]) > 0
                elif switch[1] is None:
                    for tag, on in own.items():
                        line.switch(tag, on=on)
                else:
                    line.switch(switch[1], on=switch[2] == "1" or int(switch[2]) >= 600)
    if not drawing:
        line.add(said[at:])
    return line.text()


def _is_text(character: str) -> bool:
    """Return whether a character is text: controls, lone surrogates and non-characters are not, marks of direction are."""
    return character == "\t" or unicodedata.category(character) not in ("Cc", "Cs", "Cn")


class _Line:
    """A WebVTT payload in the making: marks nest, text is escaped, no line is empty."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._open: list[str] = []
        self._said = False

    def add(self, said: str) -> None:
        for stand_in, brace in (("\ufdd0", "{"), ("\ufdd1", "}")):
            said = said.replace(stand_in, brace)
        kept = "".join(" " if character == "\t" else character for character in said if _is_text(character))
        kept = kept if self._said else kept.lstrip()
        self._said = self._said or bool(kept)
        self._parts.append(html.escape(kept, quote=False))

    def break_(self) -> None:
        """Begin a new line unless the current one is empty."""
        if self._said:
            self._parts.append("\n")
        self._said = False

    def switch(self, tag: str, *, on: bool) -> None:
        """Begin or end a mark. Ending one also ends the marks inside it and then begins these again."""
        if on and tag not in self._open:
            self._open.append(tag)
            self._parts.append(f"<{tag}>")
        elif not on and tag in self._open:
            at = self._open.index(tag)
            inside = self._open[at + 1 :]
            self._parts += [f"</{other}>" for other in reversed(self._open[at:])]
            self._parts += [f"<{other}>" for other in inside]
            self._open[at:] = inside

    def text(self) -> str:
        """Return the payload; an empty line would end the cue."""
        if not self._said and "\n" in self._parts:
            del self._parts[len(self._parts) - 1 - self._parts[::-1].index("\n")]
        whole = "".join([*self._parts, *(f"</{tag}>" for tag in reversed(self._open))])
        while (shorter := _EMPTY.sub("", whole)) != whole:
            whole = shorter
        return whole.strip()


def _settings(marks: str, alignment: int, width: int, height: int) -> str:
    """Return the position of a cue: the last alignment, as on a numeric keypad, and the first position decide."""
    position = None
    for mark in _POSITION.finditer(marks):
        if mark[1] is not None:
            alignment = int(mark[1]) or alignment
        elif mark[2] is not None:
            alignment = _LEGACY.get(int(mark[2]), alignment)
        elif position is None:
            position = (_percent(mark[3], width), _percent(mark[4], height))
    column, row = (alignment - 1) % 3, (alignment - 1) // 3
    align = ("align:left", "", "align:right")[column]
    if position is not None:
        x, y = position
        return " ".join(filter(None, (f"line:{max(0, y - (8, 4, 0)[min(row, 2)])}%", f"position:{x}%", align)))
    return " ".join(filter(None, (("", "line:45%", "line:0")[min(row, 2)], align)))


def _percent(text: str, whole: int) -> int:
    try:
        return max(0, min(100, round(100 * float(text) / whole)))
    except (ValueError, OverflowError):
        return 50


def webvtt(cues: Iterable[Cue], start_ms: int) -> str:
    """Return a WebVTT file whose time 0 is the source's `start_ms`; cues that end before it or have no text are dropped."""
    parts = ["WEBVTT\n"]
    for cue in sorted(cues, key=lambda cue: (cue.start_ms, cue.end_ms)):
        begins, ends = max(0, cue.start_ms - start_ms), cue.end_ms - start_ms
        if ends > begins and cue.text:
            parts.append(f"\n{_time(begins)} --> {_time(ends)}{' ' if cue.settings else ''}{cue.settings}\n{cue.text}\n")
    return "".join(parts)


def _time(milliseconds: int) -> str:
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}"

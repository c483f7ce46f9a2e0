"""Rules for text from outside, for every app and every report. Pure.

A person's text is refused at once when it cannot be stored or shown: `Line` (a name, a title, a word in an address) and
`Prose` (several lines). The reason continues the name of the field: "the title has …". A machine's text (a tool's output, a
container's tags) is cleaned instead of refused: `MachineLine` and `MachineProse`. It is cleaned when a value is made. Text on
the log is read unchanged, so that every rebuild makes the same rows. Both keep marks of direction that are closed again and
lose the others, which would turn around the text beside them.
"""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

FAULT = "text"
"""Error type of a person's refused text; its message has no subject."""
LINE_MAX, PROSE_MAX = 1024, 8000
"""Maximum characters of machine text; a field may have a lower limit."""
CUT = "…"

JOINERS = "\u200c\u200d"
"""Invisible characters that emoji and Persian need."""

_EMBEDDINGS, _END_OF_EMBEDDING = "\u202a\u202b\u202d\u202e", "\u202c"
_ISOLATES, _END_OF_ISOLATE = "\u2066\u2067\u2068", "\u2069"
_DIRECTION = re.compile("[\u202a-\u202e\u2066-\u2069]")
_PARAGRAPH_ENDS = "\n\r\x1c\x1d\x1e\x85\u2029"
"""Marks of direction end here (Unicode Standard Annex 9)."""

_CONTROLS = "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\ud800-\udfff"
_NOT_IN_PROSE = re.compile(f"[{_CONTROLS}]")
_NOT_IN_A_LINE = re.compile(f"[{_CONTROLS}\\t\\n\\r\u2028\u2029]")
_LINE_ENDS = re.compile("\\r\\n?")


def balanced(text: str) -> str:
    """Return text without marks of direction that are never closed, or close nothing, within their paragraph."""
    if _DIRECTION.search(text) is None:
        return text
    opened: list[int] = []
    isolates = 0
    stray: set[int] = set()
    for at, character in enumerate(text):
        if character in _EMBEDDINGS or character in _ISOLATES:
            opened.append(at)
            isolates += character in _ISOLATES
        elif character == _END_OF_EMBEDDING and opened and text[opened[-1]] in _EMBEDDINGS:
            opened.pop()
        elif character == _END_OF_ISOLATE and isolates:
            isolates -= 1
            while text[opened.pop()] not in _ISOLATES:  # it ends the embeddings inside as well
                pass
        elif character in (_END_OF_EMBEDDING, _END_OF_ISOLATE):
            stray.add(at)
        elif character in _PARAGRAPH_ENDS:
            stray.update(opened)
            opened.clear()
            isolates = 0
    stray.update(opened)
    return "".join(character for at, character in enumerate(text) if at not in stray)


def _fault(text: str, forbidden: re.Pattern[str]) -> str | None:
    """Return the reason to refuse a person's text, as a sentence without its subject; None to accept it."""
    if (found := forbidden.search(text)) is None:
        return None
    character = found[0]
    if character == "\0":
        return "has a NUL character (U+0000); send it without"
    if "\ud800" <= character <= "\udfff":
        return "has half a character (a lone surrogate); send whole Unicode text"
    if character in "\t\n\r\u2028\u2029":
        return "has a tab or a line break; send it as one line"
    return f"has a control character (U+{ord(character):04X}); send it without"


def line_fault(text: str) -> str | None:
    """Return the reason why a text cannot be a line, as a sentence without its subject; None when it can."""
    return _fault(text, _NOT_IN_A_LINE)


class _Refusing:
    """Annotates text in which some characters are forbidden, else balanced; JSON Schema has them as `pattern`."""

    def __init__(self, forbidden: re.Pattern[str], pattern: str) -> None:
        self._forbidden = forbidden
        self._pattern = pattern

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema), "pattern": self._pattern}

    def _checked(self, text: str) -> str:
        if reason := _fault(text, self._forbidden):
            raise PydanticCustomError(FAULT, reason)
        if not (kept := balanced(text)) and text:
            raise PydanticCustomError(FAULT, "has nothing but marks of direction; send it with text")
        return kept


def clean_line(text: str, length_max: int = LINE_MAX) -> str:
    """Return text as one line of at most `length_max` characters, without forbidden ones."""
    if not text.isprintable() or len(text) > length_max:
        text = _one_line(text)
    return text if len(text) <= length_max else _one_line(text[: length_max - 1]) + CUT


def _one_line(text: str) -> str:
    return " ".join(_NOT_IN_A_LINE.sub(" ", balanced(text)).split())


def clean_prose(text: str, length_max: int = PROSE_MAX) -> str:
    """Return the last `length_max` characters of a text, without forbidden ones: a tool prints the reason of a failure last."""
    text = _NOT_IN_PROSE.sub("\N{REPLACEMENT CHARACTER}", _LINE_ENDS.sub("\n", text))
    return balanced(text if len(text) <= length_max else CUT + text[1 - length_max :])


def machine_line(length_max: int) -> BeforeValidator:
    """Return a validator that cleans a machine's line."""

    def cleaned(value: object, info: ValidationInfo) -> object:
        return clean_line(value, length_max) if isinstance(value, str) and info.mode == "python" else value

    return BeforeValidator(cleaned)


def machine_prose(length_max: int) -> BeforeValidator:
    """Return a validator that cleans a machine's lines."""

    def cleaned(value: object, info: ValidationInfo) -> object:
        return clean_prose(value, length_max) if isinstance(value, str) and info.mode == "python" else value

    return BeforeValidator(cleaned)


Line = Annotated[str, _Refusing(_NOT_IN_A_LINE, r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$")]
Prose = Annotated[str, _Refusing(_NOT_IN_PROSE, r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$")]
MachineLine = Annotated[str, machine_line(LINE_MAX)]
MachineProse = Annotated[str, machine_prose(PROSE_MAX)]

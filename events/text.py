"""Rules for text from outside, for every app and every report. Pure.

A person's text is refused at once when it cannot be stored or shown: `Line` (a name, a title, a word in an address) and
`Prose` (several lines). The reason continues the name of the field: "the title has …". A machine's text (a tool's output, a
container's tags) is cleaned instead of refused: `MachineLine` and `MachineProse`. It is cleaned when a value is made. Text on
the log is read unchanged, so that every rebuild makes the same rows.
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

_CONTROLS = "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\ud800-\udfff"
_NOT_IN_PROSE = re.compile(f"[{_CONTROLS}]")
_NOT_IN_A_LINE = re.compile(f"[{_CONTROLS}\\t\\n\\r\u2028\u2029]")
_LINE_ENDS = re.compile("\\r\\n?")


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
    """Annotates text in which some characters are forbidden; JSON Schema has them as `pattern`."""

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
        return text


def clean_line(text: str, length_max: int = LINE_MAX) -> str:
    """Return text as one line of at most `length_max` characters, without forbidden ones."""
    if not text.isprintable() or len(text) > length_max:
        text = " ".join(_NOT_IN_A_LINE.sub(" ", text).split())
    return text if len(text) <= length_max else text[: length_max - 1].rstrip() + CUT


def clean_prose(text: str, length_max: int = PROSE_MAX) -> str:
    """Return the last `length_max` characters of a text, without forbidden ones: a tool prints the reason of a failure last."""
    text = _NOT_IN_PROSE.sub("\N{REPLACEMENT CHARACTER}", _LINE_ENDS.sub("\n", text))
    return text if len(text) <= length_max else CUT + text[1 - length_max :]


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

"""Text from outside: the one place that says which of it may come in, for every app and every report. Pure.

A person's words are refused before anything is done when they could not be kept or shown: `Line` (a name, a title, a
word in an address) and `Prose` (several lines). The reason reads on after the name of the field: "the title has …".
Words of a machine (the tail of a tool's output, what a container says of itself) are cleaned, and never a reason to
fail: `MachineLine` and `MachineProse`. They are cleaned when a value is made; what is on the log is read as it stands,
so that every rebuild makes the same rows of it.
"""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

FAULT = "text"
"""Type of the error that a text from a person raises; its message has no subject."""
LINE_MAX, PROSE_MAX = 1024, 8000
"""Characters of machine text that are kept; a field may have fewer."""
CUT = "…"

JOINERS = "\u200c\u200d"
"""They cannot be seen, but emoji and Persian are written with them."""

_CONTROLS = "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\ud800-\udfff"
_NOT_IN_PROSE = re.compile(f"[{_CONTROLS}]")
_NOT_IN_A_LINE = re.compile(f"[{_CONTROLS}\\t\\n\\r\u2028\u2029]")
_LINE_ENDS = re.compile("\\r\\n?")


def _fault(text: str, forbidden: re.Pattern[str]) -> str | None:
    """Return why a person's text is refused, as a sentence without its subject; None when it is taken."""
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
    """Return why a text cannot be a line; None when it can."""
    return _fault(text, _NOT_IN_A_LINE)


class _Refusing:
    """Annotates text that is refused when it has a forbidden character; JSON Schema says it as `pattern`."""

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
    """Return text as one line without what cannot be kept or shown, at most `length_max` characters."""
    if not text.isprintable() or len(text) > length_max:
        text = " ".join(_NOT_IN_A_LINE.sub(" ", text).split())
    return text if len(text) <= length_max else text[: length_max - 1].rstrip() + CUT


def clean_prose(text: str, length_max: int = PROSE_MAX) -> str:
    """Return text without what cannot be kept, and its last `length_max` characters: a tool says at the end why it failed."""
    text = _NOT_IN_PROSE.sub("\N{REPLACEMENT CHARACTER}", _LINE_ENDS.sub("\n", text))
    return text if len(text) <= length_max else CUT + text[1 - length_max :]


def machine_line(length_max: int) -> BeforeValidator:
    """Return the validator that cleans a line that a machine wrote."""

    def cleaned(value: object, info: ValidationInfo) -> object:
        return clean_line(value, length_max) if isinstance(value, str) and info.mode == "python" else value

    return BeforeValidator(cleaned)


def machine_prose(length_max: int) -> BeforeValidator:
    """Return the validator that cleans several lines that a machine wrote."""

    def cleaned(value: object, info: ValidationInfo) -> object:
        return clean_prose(value, length_max) if isinstance(value, str) and info.mode == "python" else value

    return BeforeValidator(cleaned)


Line = Annotated[str, _Refusing(_NOT_IN_A_LINE, r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$")]
Prose = Annotated[str, _Refusing(_NOT_IN_PROSE, r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$")]
MachineLine = Annotated[str, machine_line(LINE_MAX)]
MachineProse = Annotated[str, machine_prose(PROSE_MAX)]

"""Refused values as sentences for a person: the field in human words, then its fault. Pure.

Serves bodies, queries and settings, which pydantic reads, and reports, which msgspec reads.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any
from urllib.parse import quote

_NAMES = {
    "body": "body",
    "etag": "ETag",
    "event_id": "event's id",
    "file": "file",
    "filename": "file name",
    "limit": "page size",
    "minimum": "least position",
    "numbers": "list of part numbers",
    "sha256": "SHA-256",
    "size_bytes": "size",
    "video_id": "video's id",
    "worker_id": "worker's id",
    "job_id": "job's id",
    "failure_id": "failure's id",
}
"""Fields with another name for people; in all other names an underscore becomes a space."""

_UNITS = {
    "_bytes": "in bytes",
    "_kbps": "in kbit/s",
    "_ms": "in milliseconds",
    "_px": "in pixels",
    "_percent": "in per cent",
    "_s": "in seconds",
}
"""Suffixes of field names that are units."""

_MOMENT = "must be a moment with its time zone, such as 2026-03-01T12:00:00Z"
_DAY = "must be a day, such as 2026-03-01"
_LISTS = ("list", "tuple", "set", "frozen_set", "deque", "iterable")
_OBJECTS = ("dict", "frozen_dict", "ordered_dict", "counter", "mapping", "model", "dataclass", "arguments", "named_tuple")
_MOMENTS = ("datetime_type", "datetime_parsing", "datetime_object_invalid", "datetime_from_date_parsing", "timezone_aware")
_DAYS = ("date_type", "date_parsing", "date_from_datetime_parsing", "date_from_datetime_inexact")
_SHOULD = re.compile(r"^.*?\bshould (not )?")

_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "is missing",
    "string_type": lambda _: "must be text",
    "string_unicode": lambda _: "has half a character (a lone surrogate); send whole Unicode text",
    "string_too_long": lambda c: f"has more than {c['max_length']} characters",
    "string_too_short": lambda c: "is empty" if c["min_length"] == 1 else f"has fewer than {c['min_length']} characters",
    "string_pattern_mismatch": lambda c: f"must have the form {c['pattern']}",
    "too_long": lambda c: f"has more than {c['max_length']} items",
    "too_short": lambda c: "is empty" if c["min_length"] == 1 else f"has fewer than {c['min_length']} items",
    "int_type": lambda _: "must be a whole number",
    "int_parsing": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "float_parsing": lambda _: "must be a number",
    "bool_type": lambda _: "must be true or false",
    "bool_parsing": lambda _: "must be true or false",
    "greater_than": lambda c: f"must be more than {_plain(c['gt'])}",
    "greater_than_equal": lambda c: f"must be at least {_plain(c['ge'])}",
    "less_than": lambda c: f"must be less than {_plain(c['lt'])}",
    "less_than_equal": lambda c: f"must be at most {_plain(c['le'])}",
    "literal_error": lambda c: f"must be {c['expected']}",
    "extra_forbidden": lambda _: "is not known here; leave it out",
    "json_invalid": lambda c: f"is not JSON: {c['error']}",
    "model_attributes_type": lambda _: "must be a JSON object",
    "int_parsing_size": lambda _: "has too many digits",
    "finite_number": lambda _: "must be a finite number",
    "enum": lambda c: f"must be {c['expected']}",
    "union_tag_invalid": lambda c: f"must have one of {c['expected_tags']} as its {str(c['discriminator']).strip(chr(39))}",
    "union_tag_not_found": lambda c: f"must have a {str(c['discriminator']).strip(chr(39))}",
    "timezone_naive": lambda _: "must have no time zone",
    "path_not_file": lambda _: "names no file",
    "ip_any_network": lambda _: "must be a network, such as 10.0.0.0/8",
    **dict.fromkeys((f"{kind}_type" for kind in _LISTS), lambda _: "must be a list"),
    **dict.fromkeys((f"{kind}_type" for kind in _OBJECTS), lambda _: "must be a JSON object"),
    **dict.fromkeys(("uuid_type", "uuid_parsing", "uuid_version"), lambda _: "must be a UUID"),
    **dict.fromkeys(("url_type", "url_parsing", "url_syntax_violation"), lambda _: "must be a URL"),
    **dict.fromkeys(_MOMENTS, lambda _: _MOMENT),
    **dict.fromkeys(_DAYS, lambda _: _DAY),
}


_TYPES = {
    "str": "must be text",
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "array": "must be a list",
    "object": "must be a JSON object",
}
_EXPECTED = re.compile(r"Expected `(\w+)(?: \| null)?`(?: ([<>]=) ([-+.e\d]+))?").match
_BRANCH = re.compile(r"[a-z-]+\[.*\]", re.DOTALL).fullmatch
_BOUNDS = {">=": "at least", "<=": "at most"}


def _plain(limit: object) -> str:
    """Return a limit as text, without a `.0`."""
    return str(int(limit)) if isinstance(limit, float) and limit.is_integer() else str(limit)


def name_of(where: tuple[int | str, ...]) -> str:
    """Return a field's name for people: `("body", "parts", 2, "etag")` is "ETag (3 in parts)", "wait_s" is "wait in seconds"."""
    names = [part for part in where if isinstance(part, str)]
    last = names[-1] if names else "request"
    if where[:1] == ("header",):
        return f"header {last.title()}"
    unit = next((end for end in _UNITS if last.endswith(end) and last not in _NAMES), "")
    called = _NAMES.get(last, " ".join([*last.removesuffix(unit).split("_"), _UNITS.get(unit, "")]).strip())
    indexes = [(before, part + 1) for before, part in pairwise(where) if isinstance(part, int)]
    return called + "".join(f" ({index} in {before})" for before, index in indexes if isinstance(before, str) and before != "body")


def pointer_of(where: tuple[int | str, ...]) -> str | None:
    """Return a field's location in the body as a JSON Pointer in a fragment (RFC 6901, 6); None for a field outside the body."""
    if where[:1] != ("body",):
        return None
    return "#" + "".join("/" + quote(str(part).replace("~", "~0").replace("/", "~1"), safe="~") for part in where[1:])


def place_of(fault: Mapping[str, Any]) -> tuple[int | str, ...]:
    """Return the location of one of pydantic's errors, without its names for the branches of a union."""
    return tuple(part for part in fault["loc"] if isinstance(part, int) or not _BRANCH(part))


def sentence(fault: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as a sentence that begins with its field."""
    if fault["type"] == "value_error":
        return words_of(fault)
    where = ("body",) if fault["type"] == "json_invalid" else place_of(fault)
    return f"the {name_of(where)} {words_of(fault)}"


def words_of(fault: Mapping[str, Any]) -> str:
    """Return the predicate of one pydantic error, without the field's name."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "value_error":
        return str(context.get("error", fault["msg"]))
    if kind in ("too_long", "too_short") and isinstance(fault.get("input"), str):
        kind = f"string_{kind}"
    if kind in _WORDS:
        return _WORDS[kind](context)
    message = str(fault["msg"])
    plain, count = _SHOULD.subn(lambda found: f"must {found[1] or ''}", message)
    return message if kind == "text" else plain if count else _otherwise(message)


def words_of_type(message: str) -> str:
    """Return the predicate of one msgspec message without its location."""
    found = _EXPECTED(message)
    if found is None or found[1] not in _TYPES:
        return _otherwise(message)
    return f"must be {_BOUNDS[found[2]]} {_plain(float(found[3]))}" if found[2] else _TYPES[found[1]]


def _otherwise(message: str) -> str:
    return f"cannot be taken: {message[:1].lower()}{message[1:]}"

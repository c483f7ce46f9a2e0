"""Faults of a request as sentences for a person: the field in human words, then what is wrong with it. Pure."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

_NAMES = {
    "body": "body",
    "etag": "ETag",
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
"""Fields whose name is not what a person calls them; elsewhere an underscore is a space."""

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
    "greater_than": lambda c: f"must be more than {c['gt']}",
    "greater_than_equal": lambda c: f"must be at least {c['ge']}",
    "less_than": lambda c: f"must be less than {c['lt']}",
    "less_than_equal": lambda c: f"must be at most {c['le']}",
    "literal_error": lambda c: f"must be {c['expected']}",
    "extra_forbidden": lambda _: "is not known here; leave it out",
    "json_invalid": lambda c: f"is not JSON: {c['error']}",
    "model_attributes_type": lambda _: "must be a JSON object",
    "dict_type": lambda _: "must be a JSON object",
}


def name_of(where: tuple[int | str, ...]) -> str:
    """Return what a person calls a field: `("body", "parts", 2, "etag")` is "ETag (3 in parts)"."""
    names = [part for part in where if isinstance(part, str)]
    last = names[-1] if names else "request"
    called = _NAMES.get(last, last.replace("_", " "))
    places = [(before, part + 1) for before, part in pairwise(where) if isinstance(part, int)]
    return called + "".join(f" ({place} in {before})" for before, place in places if isinstance(before, str) and before != "body")


def sentence(fault: Mapping[str, Any]) -> str:
    """Return one of pydantic's errors as a sentence that begins with its field."""
    where, kind, context = tuple(fault["loc"]), fault["type"], fault.get("ctx", {})
    if kind == "json_invalid":
        where = ("body",)
    if kind == "value_error":
        return str(context.get("error", fault["msg"]))
    if kind in ("too_long", "too_short") and isinstance(fault.get("input"), str):
        kind = f"string_{kind}"
    words = _WORDS[kind](context) if kind in _WORDS else None
    if words is None:
        message = str(fault["msg"])
        words = message if kind == "text" else f"cannot be taken: {message[:1].lower()}{message[1:]}"
    return f"the {name_of(where)} {words}"

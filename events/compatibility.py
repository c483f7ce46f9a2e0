"""May a new schema replace an old one? Pure comparison of JSON Schemas as pydantic writes them.

A new schema must read everything that the old one accepted, which is the log's past, in the same way:

- fine: a new optional field with a default, a required field that gets a default, a wider type, enum or limit, words;
- refused: a removed field, a new required field, a narrower type, enum or limit, another type, another default.

A refused change needs a new version of the event (`.v2`) and an upcaster.
"""

from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]

_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_EXACT = ("pattern", "format", "uniqueItems")


def incompatibilities(old: Schema, new: Schema) -> list[str]:
    """Return one sentence per value that `old` accepted and `new` refuses or reads differently. An empty list: compatible."""
    return list(_Comparison(old, new).compare(old, new, "data"))


class _Comparison:
    """Two whole documents; references are resolved in the `$defs` of each."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old_definitions = old.get("$defs", {})
        self._new_definitions = new.get("$defs", {})

    def compare(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        """Yield the faults at `path` (dotted) and below it."""
        old, new = _resolve(old, self._old_definitions), _resolve(new, self._new_definitions)
        old_choices, new_choices = _alternatives(old), _alternatives(new)
        if len(old_choices) == len(new_choices) == 1:
            yield from self._compare_one(old_choices[0], new_choices[0], path)
            return
        for choice in old_choices:
            refusals = [list(self.compare(choice, candidate, path)) for candidate in new_choices]
            if all(refusals):
                likeness = [self._unlike(choice, candidate) for candidate in new_choices]
                yield from refusals[min(range(len(refusals)), key=lambda index: (likeness[index], len(refusals[index])))]

    def _unlike(self, old: Schema, new: Schema) -> tuple[bool, bool]:
        """Return a sort key that puts the intended choice first."""
        old, new = _resolve(old, self._old_definitions), _resolve(new, self._new_definitions)
        return old.get("title") != new.get("title"), old.get("type") != new.get("type")

    def _compare_one(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        old_type, new_type = old.get("type"), new.get("type")
        if new_type is not None and old_type != new_type and (old_type, new_type) != ("integer", "number"):
            yield f"{path}: the type was {old_type or 'anything'} and is {new_type}"
            return
        yield from _compare_values(old, new, path)
        yield from _compare_limits(old, new, path)
        if new_type == "object":
            yield from self._compare_objects(old, new, path)
        if new_type == "array":
            yield from self._compare_arrays(old, new, path)

    def _compare_objects(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        old_fields, new_fields = old.get("properties", {}), new.get("properties", {})
        old_required, new_required = set(old.get("required", ())), set(new.get("required", ()))
        for name, field in old_fields.items():
            where = f"{path}.{name}"
            if name not in new_fields:
                yield f"{where}: the field was removed"
                continue
            if name in new_required - old_required:
                yield f"{where}: the field was optional and is required"
            if name not in old_required | new_required and field.get("default") != new_fields[name].get("default"):
                was, now = field.get("default"), new_fields[name].get("default")
                yield f"{where}: the default was {was!r} and is {now!r}; old events would be read otherwise"
            yield from self.compare(field, new_fields[name], where)
        for name in sorted(new_required - old_fields.keys()):
            yield f"{path}.{name}: the new field is required; give it a default"
        old_rest, new_rest = old.get("additionalProperties", True), new.get("additionalProperties", True)
        if isinstance(old_rest, dict) and isinstance(new_rest, dict):
            yield from self.compare(old_rest, new_rest, f"{path}.*")
        elif old_rest is not False and new_rest is False:
            yield f"{path}: unknown fields were accepted and are refused"

    def _compare_arrays(self, old: Schema, new: Schema, path: str) -> Iterator[str]:
        if "items" in new:
            yield from self.compare(old.get("items", {}), new["items"], f"{path}[]")
        old_prefix, new_prefix = old.get("prefixItems", []), new.get("prefixItems", [])
        if len(old_prefix) != len(new_prefix):
            yield f"{path}: it had {len(old_prefix)} fixed items and has {len(new_prefix)}"
            return
        for index, (was, now) in enumerate(zip(old_prefix, new_prefix, strict=True)):
            yield from self.compare(was, now, f"{path}[{index}]")


def _resolve(schema: Schema, definitions: dict[str, Schema]) -> Schema:
    """Follow `$ref` until none is left."""
    while (reference := schema.get("$ref")) is not None:
        schema = definitions[reference.removeprefix("#/$defs/")]
    return schema


def _alternatives(schema: Schema) -> list[Schema]:
    """Return the choices of a union; a plain schema is its only choice."""
    choices: list[Schema] = schema.get("anyOf") or schema.get("oneOf") or [schema]
    return choices


def _compare_values(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """Values of an enum or a constant may be added, not taken away."""
    old_values, new_values = _values(old), _values(new)
    if new_values is None:
        return
    if old_values is None:
        yield f"{path}: any value was accepted, now only {', '.join(map(repr, new_values))}"
    elif gone := [value for value in old_values if value not in new_values]:
        yield f"{path}: the value {', '.join(map(repr, gone))} is no longer accepted"


def _values(schema: Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return schema.get("enum")


def _compare_limits(old: Schema, new: Schema, path: str) -> Iterator[str]:
    """Limits may be widened or dropped, not narrowed or added."""
    for name in (*_UPPER, *_LOWER):
        if name in new:
            was, now = old.get(name), new[name]
            if was is None or (now < was if name in _UPPER else now > was):
                yield f"{path}: {name} was {'absent' if was is None else was} and is {now}"
    for name in _EXACT:
        if name in new and new[name] != old.get(name):
            yield f"{path}: {name} was {old.get(name, 'absent')} and is {new[name]}"

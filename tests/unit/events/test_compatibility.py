"""Which changes of an event the past survives, as a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.compatibility import Schema, incompatibilities
from events.envelope import REGISTRY

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NULL: Schema = {"type": "null"}


def obj(required: str = "", **fields: Schema) -> Schema:
    """An object; names of required fields in one text."""
    return {"type": "object", "properties": fields, "required": required.split()}


def union(*choices: Schema) -> Schema:
    return {"anyOf": list(choices)}


def refers(name: str, **definitions: Schema) -> Schema:
    """An object whose field x refers to a definition."""
    return obj("x", x={"$ref": f"#/$defs/{name}"}) | {"$defs": definitions}


FINE = {
    "nothing changed": (obj("a", a=TEXT), obj("a", a=TEXT)),
    "words changed": (obj("a", a=TEXT | {"description": "x"}), obj("a", a=TEXT | {"description": "y"})),
    "a new optional field": (obj("a", a=TEXT), obj("a", a=TEXT, b=WHOLE | {"default": 0})),
    "a required field got a default": (obj("a b", a=TEXT, b=TEXT), obj("a", a=TEXT, b=TEXT | {"default": ""})),
    "a wider enum": (obj("a", a=TEXT | {"enum": ["x"]}), obj("a", a=TEXT | {"enum": ["x", "y"]})),
    "a constant became an enum": (obj("a", a=TEXT | {"const": "x"}), obj("a", a=TEXT | {"enum": ["x", "y"]})),
    "an enum became any text": (obj("a", a=TEXT | {"enum": ["x"]}), obj("a", a=TEXT)),
    "an integer became a number": (obj("a", a=WHOLE), obj("a", a={"type": "number"})),
    "it may be null now": (obj("a", a=TEXT), obj("a", a=union(TEXT, NULL))),
    "a wider limit": (obj("a", a=TEXT | {"maxLength": 5}), obj("a", a=TEXT | {"maxLength": 9})),
    "a limit was dropped": (obj("a", a=WHOLE | {"minimum": 0}), obj("a", a=WHOLE)),
    "a definition was renamed": (refers("A", A=obj("n", n=TEXT)), refers("B", B=obj("n", n=TEXT))),
    "a new choice of a union": (
        obj("a", a=union(obj("k", k={"const": "x", "type": "string"}))),
        obj("a", a=union(obj("k", k={"const": "x", "type": "string"}), obj("k", k={"const": "y", "type": "string"}))),
    ),
    "choices in another order": (obj("a", a=union(TEXT, NULL)), obj("a", a=union(NULL, TEXT))),
}

REFUSED = {
    "a removed field": (obj("a", a=TEXT), obj(), "data.a: the field was removed"),
    "a removed optional field": (obj(a=TEXT), obj(), "data.a: the field was removed"),
    "a new required field": (obj(), obj("a", a=TEXT), "data.a: the new field is required; give it a default"),
    "an optional field became required": (obj(a=TEXT), obj("a", a=TEXT), "data.a: the field was optional and is required"),
    "another type": (obj("a", a=TEXT), obj("a", a=WHOLE), "data.a: the type was string and is integer"),
    "a number became an integer": (obj("a", a={"type": "number"}), obj("a", a=WHOLE), "data.a: the type was number and is integer"),
    "anything became something": (obj("a", a={}), obj("a", a=WHOLE), "data.a: the type was anything and is integer"),
    "it may no longer be null": (obj("a", a=union(TEXT, NULL)), obj("a", a=TEXT), "data.a: the type was null and is string"),
    "a narrower enum": (
        obj("a", a=TEXT | {"enum": ["x", "y"]}),
        obj("a", a=TEXT | {"enum": ["x"]}),
        "data.a: the value 'y' is no longer accepted",
    ),
    "a text became an enum": (
        obj("a", a=TEXT),
        obj("a", a=TEXT | {"enum": ["x", "y"]}),
        "data.a: any value was accepted, now only 'x', 'y'",
    ),
    "a narrower limit": (
        obj("a", a=TEXT | {"maxLength": 9}),
        obj("a", a=TEXT | {"maxLength": 5}),
        "data.a: maxLength was 9 and is 5",
    ),
    "a new limit": (obj("a", a=WHOLE), obj("a", a=WHOLE | {"minimum": 1}), "data.a: minimum was absent and is 1"),
    "another format": (obj("a", a=TEXT), obj("a", a=TEXT | {"format": "uuid"}), "data.a: format was absent and is uuid"),
    "another default": (
        obj(a=TEXT | {"default": "x"}),
        obj(a=TEXT | {"default": "y"}),
        "data.a: the default was 'x' and is 'y'; old events would be read otherwise",
    ),
    "inside a list": (
        obj("a", a={"type": "array", "items": TEXT}),
        obj("a", a={"type": "array", "items": WHOLE}),
        "data.a[]: the type was string and is integer",
    ),
    "fewer fixed items": (
        obj("a", a={"type": "array", "prefixItems": [TEXT, TEXT]}),
        obj("a", a={"type": "array", "prefixItems": [TEXT]}),
        "data.a: it had 2 fixed items and has 1",
    ),
    "inside a definition": (
        refers("A", A=obj("n", n=TEXT)),
        refers("A", A=obj("n m", n=TEXT, m=TEXT)),
        "data.x.m: the new field is required; give it a default",
    ),
    "inside the choice of a union that was meant": (
        obj("a", a=union(obj("k n", k={"const": "x", "type": "string"}, n=TEXT) | {"title": "X"}, NULL)),
        obj("a", a=union(NULL, obj("k", k={"const": "x", "type": "string"}) | {"title": "X"})),
        "data.a.n: the field was removed",
    ),
    "values of a mapping": (
        obj("a", a={"type": "object", "additionalProperties": TEXT}),
        obj("a", a={"type": "object", "additionalProperties": WHOLE}),
        "data.a.*: the type was string and is integer",
    ),
    "unknown fields are refused now": (
        obj(),
        obj() | {"additionalProperties": False},
        "data: unknown fields were accepted and are refused",
    ),
}


@pytest.mark.parametrize(("old", "new"), FINE.values(), ids=FINE)
def test_the_past_survives(old: Schema, new: Schema) -> None:
    assert incompatibilities(old, new) == []


@pytest.mark.parametrize(("old", "new", "sentence"), REFUSED.values(), ids=REFUSED)
def test_the_past_would_not_survive(old: Schema, new: Schema, sentence: str) -> None:
    assert incompatibilities(old, new) == [sentence]


@pytest.mark.parametrize("wire_type", sorted(REGISTRY))
def test_every_event_may_replace_itself(wire_type: str) -> None:
    schema = REGISTRY[wire_type].model_json_schema()
    assert incompatibilities(schema, schema) == []


@given(st.sampled_from(sorted(REGISTRY)), st.data())
def test_a_field_taken_out_anywhere_is_noticed(wire_type: str, data: st.DataObject) -> None:
    old = REGISTRY[wire_type].model_json_schema()
    new = REGISTRY[wire_type].model_json_schema()
    objects = [new, *new.get("$defs", {}).values()]
    changed = data.draw(st.sampled_from([one for one in objects if one.get("properties")]))
    name = data.draw(st.sampled_from(sorted(changed["properties"])))
    del changed["properties"][name]
    changed["required"] = [field for field in changed.get("required", ()) if field != name]
    assert any("removed" in line for line in incompatibilities(old, new))

"""Hypothesis strategies for everything that can be on the log, read off the vocabulary itself.

@given(events(JobQueued)) …       @given(envelopes()) …
"""

import types
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import AwareDatetime
from pydantic.fields import FieldInfo

from events.envelope import Envelope, Event, Value
from events.topics import TOPICS

EVENT_TYPES: tuple[type[Event], ...] = tuple(event for topic in TOPICS.values() for event in topic.events)

_FIRST, _LAST = datetime.fromisoformat("2000-01-01"), datetime.fromisoformat("2100-01-01")
moments = st.datetimes(_FIRST, _LAST, timezones=st.just(UTC))
ids = st.uuids().map(str)
actors = st.just("node") | st.builds("{}:{}".format, st.sampled_from(("user", "token", "worker", "system")), ids)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
whole_numbers = st.integers(-(2**63), 2**63 - 1)
numbers = st.floats(allow_nan=False, allow_infinity=False)


def events(*of: type[Event]) -> st.SearchStrategy[Event]:
    """Any event of these classes; of every class on a topic when none is named."""
    return st.sampled_from(of or EVENT_TYPES).flatmap(values)


def envelopes(*of: type[Event]) -> st.SearchStrategy[Envelope[Event]]:
    """Any event in any envelope."""
    name = texts.filter(bool)
    return st.builds(Envelope, ids, name, name, moments, events(*of), name, st.none() | ids, st.none() | actors, st.none() | ids)


@cache
def values(model: type[Value]) -> st.SearchStrategy[Any]:
    """Any valid value of a model."""
    fields = {name: _of_field(field) for name, field in model.model_fields.items()}
    return st.builds(model, **fields)


def _of_field(field: FieldInfo) -> st.SearchStrategy[Any]:
    return _of(field.annotation, tuple(field.metadata))


def _of(annotation: Any, metadata: tuple[Any, ...] = ()) -> st.SearchStrategy[Any]:
    """Return the strategy of an annotation and what its metadata limit."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated and annotation is not AwareDatetime:
        return _of(arguments[0], (*metadata, *arguments[1:]))
    if origin in (Union, types.UnionType):
        return st.one_of([_of(argument, metadata) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple and arguments[1:] == (...,):
        return st.lists(_of(arguments[0]), max_size=3).map(tuple)
    if isinstance(annotation, type) and issubclass(annotation, Value):
        return values(annotation)
    limits = dict(_limits(metadata))
    if annotation is str:
        return st.text(
            st.characters(codec="utf-8", exclude_characters="\0"),
            min_size=limits.get("min_length", 0),
            max_size=min(limits.get("max_length", 20), 20),
        )
    if annotation is int:
        return st.integers(limits.get("ge", -(2**63)), limits.get("le", 2**63 - 1))
    if annotation is float and limits:
        return st.floats(limits.get("ge", limits.get("gt")), limits.get("le"), exclude_min="gt" in limits)
    simple = {float: numbers, bool: st.booleans(), type(None): st.none(), datetime: moments, AwareDatetime: moments}
    return simple[annotation]


def _limits(metadata: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _limits(tuple(item.metadata))
            continue
        for name in ("min_length", "max_length", "ge", "gt", "le"):
            if getattr(item, name, None) is not None:
                yield name, getattr(item, name)

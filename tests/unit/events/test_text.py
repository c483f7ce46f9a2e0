"""Text from outside: a person's is refused before anything is done, a machine's is cleaned, wherever it comes in."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import httpx
import pytest
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Header
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from events.codec import decode, encode
from events.envelope import Envelope, Event
from events.errors import LogUnavailable
from events.faults import sentence
from events.media import AudioTrack, Failure
from events.text import LINE_MAX, PROSE_MAX, Line, Prose, balanced, clean_line, clean_prose, line_fault
from tests.support.apps import TOKEN, make
from tests.support.every_app import APPS
from tests.support.work import DirectoryStore

ANY_TEXT = st.text(st.characters(), max_size=50) | st.text(
    st.sampled_from("a \0\ud800\udfff\x07\x1b\n\r\t\x85\u2028\U0001f600\u202e\u202c\u2067\u2069")
)
FORBIDDEN = ["a\0b", "a\ud800b", "a\x07b", "a\x1b[31mb"]


@given(ANY_TEXT)
def test_cleaned_text_can_be_kept_and_is_not_changed_again(text: str) -> None:
    line, prose = clean_line(text, 20), clean_prose(text, 20)
    assert len(line) <= 20 and len(prose) <= 20
    assert line_fault(line) is None and TypeAdapter(Prose).validate_python(prose) == prose
    assert (clean_line(line, 20), clean_prose(prose, 20)) == (line, prose)
    assert "\0" not in line + prose and (line + prose).encode() is not None


OPENING = {"\u202a": "\u202c", "\u202b": "\u202c", "\u202d": "\u202c", "\u202e": "\u202c"} | dict.fromkeys(
    "\u2066\u2067\u2068", "\u2069"
)
MARKS = [*OPENING, *set(OPENING.values())]
NESTED = st.recursive(
    st.text("ab אב"),
    lambda inner: st.tuples(st.sampled_from([*OPENING]), st.lists(inner, max_size=3)).map(
        lambda drawn: f"{drawn[0]}{''.join(drawn[1])}{OPENING[drawn[0]]}"
    ),
)


@given(st.lists(NESTED, max_size=4))
def test_marks_of_direction_that_are_closed_stay(parts: list[str]) -> None:
    text = "".join(parts)

    assert balanced(text) == text
    assert TypeAdapter(Line).validate_python(text) == text


@given(st.lists(NESTED | st.sampled_from(MARKS), max_size=8))
def test_no_mark_of_direction_reaches_beyond_its_text(parts: list[str]) -> None:
    text = "x" + "".join(parts)

    for cleaned in (balanced(text), TypeAdapter(Line).validate_python(text), TypeAdapter(Prose).validate_python(text)):
        assert balanced(cleaned) == cleaned
        assert balanced(f"{cleaned}\u2069") == balanced(f"{cleaned}\u202c") == cleaned, "nothing is left open"
        assert balanced(f"\u2067{cleaned}\u2069") == f"\u2067{cleaned}\u2069", "and nothing closes what is around it"
        assert re.sub(f"[{''.join(MARKS)}]", "", cleaned) == re.sub(f"[{''.join(MARKS)}]", "", text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("holiday\u202egpj.exe", "holidaygpj.exe"),
        ("\u202bשלום\u202c", "\u202bשלום\u202c"),
        ("\u202cback", "back"),
        ("\u2067a\u202eb\u2069c", "\u2067a\u202eb\u2069c"),
        ("\u202aa\u2069b\u202c", "\u202aab\u202c"),
        ("first\u202e\nsecond\u202c", "first\nsecond"),
    ],
)
def test_what_turns_a_name_around_is_left_out(text: str, shown: str) -> None:
    assert TypeAdapter(Prose).validate_python(text) == clean_prose(text) == shown


def test_a_title_of_nothing_but_marks_is_none() -> None:
    class Titled(BaseModel):
        title: Line | None = Field(None, min_length=1)
        name: Line = Field("a", min_length=1)

    for field in ("title", "name"):
        with pytest.raises(ValidationError):
            Titled(**{field: "\u202e"})


@given(ANY_TEXT)
def test_a_tools_words_never_fail_a_report(text: str) -> None:
    failure = Failure(stage="encoding", category=text, code=text, message=text * 100, detail=text * 400)
    track = AudioTrack(index=1, codec="aac", channels=2, sample_rate_hz=48000, duration_ms=1, title=text * 50, language=text)
    assert len(failure.message) <= 2000 and len(failure.detail or "") <= PROSE_MAX and len(track.title or "") <= LINE_MAX
    assert failure == Failure.model_validate_json(failure.model_dump_json())
    assert track == AudioTrack.model_validate_json(track.model_dump_json())


def test_the_log_is_read_as_it_stands() -> None:
    """A rebuild makes the same rows of text that was written before it would have been cleaned."""
    document = '{"stage":"encoding","category":"a","code":"b","message":"c\\u0007","detail":"d\\u001b[31m"}'
    failure = Failure.model_validate_json(document)
    assert (failure.message, failure.detail) == ("c\x07", "d\x1b[31m")


@pytest.mark.parametrize("text", FORBIDDEN)
@pytest.mark.parametrize("kind", [Line, Prose])
def test_a_persons_words_are_refused_in_a_sentence(kind: Any, text: str) -> None:
    class Said(BaseModel):
        file_name: kind

    with pytest.raises(ValidationError) as caught:
        Said(file_name=text)
    assert sentence(caught.value.errors()[0]).startswith("the file name has ")


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Every model of the apps' own that a body is made of; values of events clean what a machine said of itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if annotation.__module__.startswith("api."):
            yield annotation
            for field in annotation.model_fields.values():
                yield from models_in(field.annotation)
        return
    for argument in get_args(annotation):
        yield from models_in(argument)


def texts_of(name: str) -> Iterator[tuple[str, TypeAdapter[Any]]]:
    """Every parameter of an app but its headers, and every field of its bodies."""
    for included in APPS[name]().routes:
        for route in included.effective_route_contexts() if hasattr(included, "effective_route_contexts") else ():
            if not route.include_in_schema:
                continue  # files of the pages
            for parameter in get_flat_params(route.dependant):
                if not isinstance(parameter.field_info, Header):
                    yield f"{route.path} {parameter.name}", parameter._type_adapter
            for model in models_in(route.body_field.field_info.annotation) if route.body_field else ():
                for field, info in model.model_fields.items():
                    whole: Any = info.annotation
                    for item in info.metadata:
                        whole = Annotated[whole, item]
                    yield f"{route.path} {model.__name__}.{field}", TypeAdapter(whole)


@pytest.mark.parametrize("name", APPS)
def test_no_parameter_or_field_of_any_app_takes_what_cannot_be_kept(name: str) -> None:
    taken, seen = [], 0
    for where, adapter in texts_of(name):
        seen += 1
        for text in FORBIDDEN[:3]:
            for value in (text, [text], {"0": text}):
                try:
                    found = repr(adapter.validate_python(value))
                except ValidationError:
                    continue
                if any(repr(mark)[1:-1] in found for mark in ("\0", "\ud800", "\x07")):
                    taken.append((where, value))
    assert seen > 5 and not taken


def admin(store: DirectoryStore, log: list[Event], refuse: bool = False) -> httpx.AsyncClient:
    """The admin app with a store and a log that stand here."""

    async def append(envelopes: Sequence[Envelope[Event]]) -> Sequence[Any]:
        if refuse:
            raise LogUnavailable
        log.extend(decode(encode(envelope)).data for envelope in envelopes)
        return []

    app = make("admin", store=store, append=append)
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://t", headers=headers)


BODY = (
    b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="%b"\r\n\r\nxx\r\n--b--\r\n'
)
TYPE = {"Content-Type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("field", "value", "filename", "said"),
    [
        (b"title", b"A", b"a\0b.mp4", "the file name has a NUL character"),
        (b"title", b"A", b"a\x07b.mp4", "the file name has a control character"),
        (b"title", b"A\0", b"a.mp4", "the title has a NUL character"),
        (b"title", b"A" * 256, b"a.mp4", "the title has more than 255 characters"),
        (b"description", b"A\x1b[31m", b"a.mp4", "the description has a control character"),
        (b"priority", b"soon", b"a.mp4", "the priority must be 'high', 'normal' or 'low'"),
    ],
)
async def test_a_form_with_bad_text_leaves_nothing_behind(
    field: bytes, value: bytes, filename: bytes, said: str, tmp_path: Path
) -> None:
    store, log = DirectoryStore(tmp_path), list[Event]()
    async with admin(store, log) as client:
        answer = await client.post("/api/videos", content=BODY % (field, value, filename), headers=TYPE)
    assert (answer.status_code, answer.json()["detail"][: len(said)]) == (422, said)
    assert not await store.open_multiparts("") and not log


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/uploads", {"filename": "a.mp4", "size_bytes": 2**25}), ("/api/videos", None)],
)
async def test_nothing_is_given_up_that_was_not_started(path: str, body: Any, tmp_path: Path) -> None:
    store, log = DirectoryStore(tmp_path), list[Event]()
    async with admin(store, log, refuse=True) as client:
        sent = {"json": body} if body else {"content": BODY % (b"title", b"A", b"a.mp4"), "headers": TYPE}
        answer = await client.post(path, **sent)
    assert answer.status_code == 503
    assert not await store.open_multiparts(""), "the parts' room is taken back"
    assert not log, "no end is recorded of an upload that has no start"

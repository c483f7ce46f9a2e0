"""Forms as browsers and curl send them, in pieces of any size; what is no such form is refused."""

import hashlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.admin.forms import Form
from events.errors import InvalidRequest

TYPE = "multipart/form-data; boundary=b"
FILE = 'Content-Disposition: form-data; name="file"; filename="a.mp4"\r\nContent-Type: video/mp4'
TITLE = 'Content-Disposition: form-data; name="title"'


def form(*parts: tuple[str, bytes], end: bytes = b"--b--\r\n") -> bytes:
    return b"".join(b"--b\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + end


def parse(body: bytes, size: int = 1 << 20) -> Form:
    parsed = Form(TYPE)
    for at in range(0, len(body), size):
        parsed.feed(body[at : at + size])
    parsed.finish()
    return parsed


@given(st.binary(min_size=1, max_size=300), st.text(max_size=20), st.integers(1, 64))
def test_pieces_of_any_size_make_the_same(data: bytes, title: str, size: int) -> None:
    parsed = parse(form((TITLE, title.encode()), (FILE, data)), size)
    assert bytes(parsed.pending) == data
    assert (parsed.filename, parsed.size_bytes, parsed.sha256) == ("a.mp4", len(data), hashlib.sha256(data).hexdigest())
    assert parsed.fields == {"title": title}


@given(st.lists(st.sampled_from([b"--b", b"\r\n", b"--b--", b"\r", b"\n", b"-", b"x"]), min_size=1, max_size=20))
def test_a_file_may_look_like_a_form(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    request = httpx.Request("POST", "http://t/", files={"file": ("a.mp4", data)}, headers={})
    parsed = Form(request.headers["content-type"])
    parsed.feed(request.read())
    parsed.finish()
    assert bytes(parsed.pending) == data


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ('"../a b.mp4"', "../a b.mp4"),
        ('"a\\"b.mp4"', 'a"b.mp4'),
        ('"\N{PILE OF POO}.mp4"', "\N{PILE OF POO}.mp4"),
        ("plain", "plain"),
    ],
)
def test_names_are_labels(said: str, name: str) -> None:
    head = f'Content-Disposition: form-data; name="file"; filename={said}'
    assert parse(form((head, b"x"))).filename == name


def test_the_longest_name_fits() -> None:
    name = "\N{PILE OF POO}" * 1024
    assert parse(form((FILE.replace("a.mp4", name), b"x"))).filename == name


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (form((TITLE, b"only")), "no `file`"),
        (form(), "no `file`"),
        (b"", "in the middle"),
        (form((FILE, b"x"), end=b""), "in the middle"),
        (form((FILE, b"x"))[:-9], "in the middle"),
        (form((FILE, b"")), "empty"),
        (form((FILE, b"x"), (FILE, b"y")), "more than one"),
        (form((FILE.replace("a.mp4", "a" * 1025), b"x")), "1 to 1024"),
        (form(('Content-Disposition: form-data; name="file"', b"x")), "1 to 1024"),
        (form((TITLE, b"x" * 30_000), (FILE, b"x")), "too long"),
        (form(*[(TITLE, b"x")] * 2, *[(TITLE.replace("title", f"t{n}"), b"x") for n in range(30)]), "more than 20"),
        (b"no form at all", "well-formed"),
        (b"--b\r\n" + b"x" * 20_000, "well-formed"),
    ],
)
@pytest.mark.parametrize("size", [1 << 20, 1, 7])
def test_what_is_no_form_is_refused_with_a_reason(body: bytes, complaint: str, size: int) -> None:
    with pytest.raises(InvalidRequest, match=complaint):
        parse(body, size)


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary="])
def test_another_type_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        Form(content_type)

"""Languages have valid tags, and names that people know."""

import langcodes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.languages import language_name, language_tag


@pytest.mark.parametrize(
    ("said", "tag", "name"),
    [
        ("ger", "de", "Deutsch"),
        ("deu", "de", "Deutsch"),
        ("German", "de", "Deutsch"),
        ("por", "pt", "Português"),
        ("pt-BR", "pt-BR", "Português (Brasil)"),
        ("pt_BR", "pt-BR", "Português (Brasil)"),
        ("chi", "zh", "中文"),
        ("jpn\0", "ja", "日本語"),
        ("iw", "he", "עברית"),
        ("und", "und", None),
        ("", "und", None),
        ("x<&>", "und", None),
        ("xx", "und", None),
        ('en"\n#EXT-X-KEY', "und", None),
        ("a" * 1000, "und", None),
        ("qaa", "qaa", None),
    ],
)
def test_what_files_say_becomes_a_tag_and_a_name(said: str, tag: str, name: str | None) -> None:
    assert language_tag(said) == tag
    assert language_name(tag) == name


@given(st.one_of(st.text(max_size=40), st.from_regex(r"[a-zA-Z]{2,3}([-_][a-zA-Z0-9]{1,8}){0,3}", fullmatch=True)))
def test_every_tag_is_valid_and_stays_as_it_is(said: str) -> None:
    tag = language_tag(said)

    assert langcodes.tag_is_valid(tag)
    assert language_tag(tag) == tag
    assert set(tag) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
    language_name(tag)

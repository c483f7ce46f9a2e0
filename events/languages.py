"""Languages: tags as RFC 5646 has them, and names in words. Pure; the data is that of `langcodes` (IANA's registry and CLDR)."""

from functools import lru_cache

import langcodes

UNKNOWN = "und"
TAG_MAX_CHARS = 35
"""RFC 5646, 4.4.1: room for every tag that is in use."""


@lru_cache(maxsize=1024)
def language_tag(text: str) -> str:
    """Return the shortest tag for what a file says: `de` for `ger`, `deu` and `German`, `pt-BR` as it is; `und` for nonsense."""
    said = text.strip().rstrip("\0")
    if not said or len(said) > TAG_MAX_CHARS:
        return UNKNOWN
    try:
        tag = langcodes.standardize_tag(said)
    except ValueError:
        return _by_name(said)
    return tag if langcodes.tag_is_valid(tag) else UNKNOWN


def _by_name(said: str) -> str:
    if not all(character.isalpha() or character in " ()'’-" for character in said):
        return UNKNOWN
    try:
        tag = langcodes.find(said).to_tag()
    except (LookupError, ValueError):  # the library's index of names is also found by fragments of its own separators
        return UNKNOWN
    return tag if langcodes.tag_is_valid(tag) else UNKNOWN


@lru_cache(maxsize=1024)
def language_name(tag: str) -> str | None:
    """Return the language's name in itself, `Deutsch` for `de`; None for a tag that names none."""
    language = langcodes.Language.get(tag)
    if language.language in (None, UNKNOWN):
        return None
    name = language.autonym()
    return None if "[" in name else name[:1].upper() + name[1:]

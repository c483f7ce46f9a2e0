"""Languages: tags of RFC 5646, and names in words. Pure; the data comes from `langcodes` (IANA's registry and CLDR)."""

from functools import lru_cache

import langcodes

UNKNOWN = "und"
TAG_MAX_CHARS = 35
"""RFC 5646, 4.4.1: enough for every tag in use."""


@lru_cache(maxsize=1024)
def language_tag(text: str) -> str:
    """Return the shortest tag for a file's text: `de` for `ger`, `deu` and `German`; `pt-BR` unchanged; `und` for nonsense."""
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
    except (LookupError, ValueError):  # fragments of the separators in the library's own index also match a name
        return UNKNOWN
    return tag if langcodes.tag_is_valid(tag) else UNKNOWN


@lru_cache(maxsize=1024)
def language_name(tag: str) -> str | None:
    """Return a language's name in that language, `Deutsch` for `de`; None for a tag that names no language."""
    language = langcodes.Language.get(tag)
    if language.language in (None, UNKNOWN):
        return None
    name = language.autonym()
    return None if "[" in name else name[:1].upper() + name[1:]

"""Redaction of command lines and tool output before they are stored for ever: no secrets, no directories of a machine. Pure.

Signed addresses of the object store carry a signature in their query, others a password before the host; ffmpeg takes
headers, cookies and keys as options. All of these are redacted before a failure reaches the log.
"""

import re
from collections.abc import Sequence
from pathlib import PurePath

from events.text import CUT

_SECRET = r"(?:[\w-]*(?:token|secret|passw(?:or)?d|signature|credential|api[_-]?key|access[_-]?key)[\w-]*|authorization|cookie)"
_USER = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^/\s@'\"]*@", re.IGNORECASE)
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?'\"]*\?)[^\s'\"]*", re.IGNORECASE)
_NAMED = re.compile(rf"(?<![\w-])({_SECRET}\s*[=:]\s*)(?:(?:bearer|basic)\s+)?[^\s&;,'\"]+", re.IGNORECASE)
_SECRET_OPTION = re.compile(rf"--?(?:{_SECRET}|headers|cookies|decryption_key|cryptokey|key|hls_enc_key|auth\w*)", re.IGNORECASE)
_DIRECTORIES = re.compile(r"(?<![\w.…/])(?:/[^/\s:'\"]+)+/(?=[^/\s:'\"])")


def redacted(text: str) -> str:
    """Return a text without secrets; absolute paths are cut to their last name, so that equal failures read alike everywhere."""
    return _DIRECTORIES.sub(f"{CUT}/", without_secrets(text))


def without_secrets(text: str) -> str:
    """Return a text without users, passwords and queries in addresses, and without values that are named as secret."""
    text = _USER.sub(rf"\g<1>{CUT}@", text)
    text = _QUERY.sub(rf"\g<1>{CUT}", text)
    return _NAMED.sub(rf"\g<1>{CUT}", text)


def command_line(argv: Sequence[str], directory: str = "") -> tuple[str, ...]:
    """Return the redacted arguments: the program by its name alone, `directory`, the attempt's own, as `.`.

    Equal runs thus read alike on every machine.
    """
    kept = [PurePath(program).name for program in argv[:1]]
    hide = False
    for argument in argv[1:]:
        kept.append(CUT if hide else redacted(argument.replace(directory, ".") if directory else argument))
        hide = not hide and _SECRET_OPTION.fullmatch(argument) is not None
    return tuple(kept)

"""Limits on the contents of a telemetry report. Pure: a value in, the reason for its refusal out, if any.

Three fences: only the fields of FIELDS exist, each text has a maximum length, and no text may look like something that
leads to a person: a path, the name of a file or episode, an e-mail or network address, the id of a device. Messages, logs
and metrics never contain a value: a refusal names the field.

The third fence knows shapes, not meanings. It lets names of hardware, encoders and versions pass, such as
`Intel(R) Core(TM) i7-8700K @ 3.70GHz`, `GeForce GTX 1080/PCIe/SSE2` or `1.2.3-rc.1`. A short title without a refused
shape passes too.
"""

import re
import unicodedata
from functools import lru_cache
from ipaddress import ip_address
from typing import Final
from urllib.parse import unquote
from uuid import UUID

from events.errors import InvalidRequest
from events.faults import name_of

FIELDS: Final = {
    "app_version": 64,
    "event_type": 64,
    "status": 64,
    "failure_reason": 200,
    "hardware_model": 128,
    "encoder": 64,
    "video_codec": 64,
    "resolution": 32,
}
"""Field -> maximum characters of its text. The other fields are numbers."""

_EXTENSIONS = (
    # video, audio, subtitles, pictures
    "3g2|3gp|aac|ac3|ass|asf|av1|avi|avif|bdmv|divx|dts|dv|eac3|f4v|flac|flv|gif|h264|h265|heic|hevc|idx|ifo|iso|ivf|jpe?g|"
    "m1v|m2ts|m2v|m3u8?|m4[abpv]|mjpe?g|mka|mks|mkv|mov|mp[234]|mpd|mpe?g|mpv|mts|mxf|nfo|ogg|og[amv]|opus|png|qt|rmvb|rm|sami|"
    "smi|srt|ssa|strm|sub|sup|tiff?|ts|ttml|vc1|vob|vtt|wav|webm|webp|wma|wmv|wtv|xvid|y4m|"
    # documents, archives, settings, programs
    "7z|apk|bak|bat|bz2|cfg|conf|csv|db|dmg|docx?|env|eml|epub|exe|gz|html?|ini|jar|json|key|log|md|msi|nzb|odt|part|pdf|pem|php|"
    "plist|pptx?|ps1|py|rar|rtf|sh|sqlite3?|svg|tar|tgz|tmp|toml|torrent|txt|url|vbs|xlsx?|xml|xz|ya?ml|zip|zst"
)
_FILE_NAME = re.compile(rf"[^\s./\\]\s?\.(?:{_EXTENSIONS})(?![^\W_])", re.IGNORECASE)
_EPISODE = re.compile(r"(?<![^\W_])S\d{1,2}[ ._-]?E\d{1,3}(?![^\W_])", re.IGNORECASE)
_RELEASE = re.compile(r"[^\W\d_][ ._(\[-]{1,3}(?:19|20)\d\d[ ._)\]-](?:.*[ ._-])?(?:480|576|720|1080|2160)[pi]", re.IGNORECASE)
_URL = re.compile(r"[a-z0-9+.-]:/|(?<![^\W_])www\.", re.IGNORECASE)
_RENDERER = re.compile(r"/(?:PCIe|PCI|AGP|SSE2|integrated|3DNow!)(?![^/\s])", re.IGNORECASE)
_ABSOLUTE = re.compile(r"(?:^|[\s\"'`(\[{<=:,;|])(?:~[\w.-]*|\.{1,2}|\$\{?\w+\}?|%\w+%)?/[^\s/]")
_DEEP = re.compile(r"[^\s/]+/[^\s/]+/[^\s/]")
_PLACE = re.compile(
    r"(?<![^\W_])(?:home|users?|root|mnt|media|volumes?|srv|var|tmp|opt|data|storage|share|nas|library|downloads?|documents|desktop|"
    r"movies?|films?|videos?|tv|shows?|series|anime|music|photos?)/[^\s/]",
    re.IGNORECASE,
)
_MAIL = re.compile(r"[^\s@<>(]@(?:[^\W\d_][\w-]*|[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,})")
_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|0?[0-9]?[0-9])"
_IPV4 = re.compile(rf"(?<![0-9.]){_OCTET}(?:\.{_OCTET}){{3}}(?!\.?[0-9])")
_HEX_AND_COLONS = re.compile(r"(?<![\w:])[0-9A-Fa-f:.]{2,45}(?![\w:])")
_MAC = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9A-F]{2}(?:[:-][0-9A-F]{2}){5,7}|[0-9A-F]{4}(?:\.[0-9A-F]{4}){2})(?![0-9A-Za-z])", re.IGNORECASE
)
_DEVICE_ID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)


class Refused(InvalidRequest):
    """The report has a value that could lead to a person. `field` names it; the value is not passed on."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"the {name_of((field,))} {reason}")
        self.field = field
        self.reason = reason


def check(*texts: str | None) -> None:
    """Raise Refused for the first forbidden text, in the order of FIELDS."""
    for (field, length_max), text in zip(FIELDS.items(), texts, strict=True):
        if text is not None and (reason := reason_against(text, length_max)):
            raise Refused(field, reason)


check_again = lru_cache(maxsize=4096)(check)
"""`check` with a cache of accepted texts: the same few nodes send the same texts again and again. Refusals are not cached."""


def check_id(event_id: UUID) -> None:
    """Raise Refused for an id made from a machine's network address (RFC 9562, versions 1, 2 and 6).

    A node id with the multicast bit is random, by the same RFC, and passes.
    """
    if event_id.version in (1, 2, 6) and not event_id.node >> 40 & 1:
        raise Refused("event_id", "has the network address of a machine in it; send a random UUID")


def reason_against(text: str, length_max: int) -> str | None:
    """Return the reason to refuse a text, without repeating the text; None when it is allowed."""
    if len(text) > length_max:
        return f"is longer than {length_max} characters"
    if not text.isprintable():
        return "has a character that cannot be shown"
    if (reason := looks_private(text)) is not None:
        return reason
    plain = unquote(unicodedata.normalize("NFKC", text))
    return None if plain == text else looks_private(plain)


def looks_private(text: str) -> str | None:
    """Return the kind of private data that a text resembles; None for any other text."""
    if "\\" in text or _URL.search(text) or _looks_like_path(text):
        return "looks like a path"
    if "@" in text and _MAIL.search(text):
        return "looks like an e-mail address"
    if _FILE_NAME.search(text):
        return "looks like the name of a file"
    if _EPISODE.search(text) or _RELEASE.search(text):
        return "looks like a title"
    if _MAC.search(text) or _IPV4.search(text) or any(map(_is_ipv6, _HEX_AND_COLONS.findall(text))):
        return "looks like a network address"
    if _DEVICE_ID.search(text):
        return "looks like the id of a device"
    return None


def _looks_like_path(text: str) -> bool:
    if "/" not in text:
        return False
    text = _RENDERER.sub("", text)  # OpenGL reports `GeForce GTX 1080/PCIe/SSE2`
    return bool(_ABSOLUTE.search(text) or _DEEP.search(text) or _PLACE.search(text))


def _is_ipv6(word: str) -> bool:
    if word.count(":") < 2:
        return False
    try:
        return ip_address(word.rstrip(".")).version == 6
    except ValueError:
        return False

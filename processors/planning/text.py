"""Subtitles and names of tracks in a plan: the tracks that become WebVTT, their languages and labels. Pure."""

from collections.abc import Iterable

from events.languages import language_name, language_tag
from events.media import Probe, SubtitlePlan

CLOSED_CAPTIONS = "eia_608"
CONVERTIBLE = frozenset(
    ("subrip", "srt", "ass", "ssa", "mov_text", "webvtt", "text", "microdvd", "sami", "realtext", "subviewer", "mpl2")
) | {CLOSED_CAPTIONS}


def subtitle_plans(probe: Probe) -> tuple[tuple[SubtitlePlan, ...], tuple[str, ...]]:
    """Return the tracks that become WebVTT, with captions inside the pictures, and a note for each track that stays."""
    text = [track for track in probe.subtitles if track.kind == "text" and track.codec in CONVERTIBLE]
    default = next((track.index for track in text if track.default), None)
    titles = [track.title or ("Closed captions" if track.codec == CLOSED_CAPTIONS else None) for track in text]
    plans = [
        SubtitlePlan(
            name=f"subtitles-{track.index}",
            track=track.index,
            codec=track.codec,
            language=language_tag(track.language),
            label=label,
            default=track.index == default,
            forced=track.forced,
        )
        for track, label in zip(text, labels(zip(titles, (track.language for track in text), strict=True)), strict=True)
    ]
    notes = [f"track {track.index}: closed captions (CEA-608) become subtitles" for track in text if track.codec == CLOSED_CAPTIONS]
    if probe.video is not None and probe.video.captions:
        plans.append(
            SubtitlePlan(
                name="captions",
                track=probe.video.index,
                codec=CLOSED_CAPTIONS,
                language="und",
                label=labels([*((plan.label, "und") for plan in plans), ("Closed captions", "und")])[-1],
                default=False,
                forced=False,
            )
        )
        notes.append("closed captions (CEA-608) inside the pictures become subtitles")
    words = {"image": "image subtitles", "text": "text subtitles that cannot be converted"}
    notes += [f"track {t.index}: {words[t.kind]} ({t.codec}) stay in the source" for t in probe.subtitles if t not in text]
    return tuple(plans), tuple(notes)


def labels(tracks: Iterable[tuple[str | None, str]]) -> list[str]:
    """Return a unique label for each (title, language): players choose tracks by label."""
    found: list[str] = []
    for number, (title, language) in enumerate(tracks, 1):
        label = wanted = title or language_name(language_tag(language)) or f"Track {number}"
        copy = 1
        while label in found:
            copy += 1
            label = f"{wanted} ({copy})"
        found.append(label)
    return found

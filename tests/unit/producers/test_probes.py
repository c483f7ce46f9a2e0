"""Whatever a file says of itself, the events about it fit on the log."""

from datetime import UTC, datetime

from events.codec import encode
from events.envelope import Envelope
from events.jobs import ResultReported
from events.kinds import AnalyseResult
from events.media import Attachment, SubtitleTrack
from events.videos import VideoProbed
from infra.runtime.clock import new_id
from producers.appender import EVENT_BYTES_MAX
from producers.probes import TEXT_MAX, TRACKS_MAX, bounded
from tests.support.footage import PROBE

VIDEO = "01890000-0000-7000-8000-000000000001"


def test_a_file_of_a_thousand_tracks_with_long_names_is_reported() -> None:
    name = "\N{GRINNING FACE}" * 5000
    sound = tuple(PROBE.audio[0].model_copy(update={"index": n, "title": name, "language": name}) for n in range(1000))
    text = tuple(SubtitleTrack(index=n, codec="subrip", kind="text", title=name, language=name) for n in range(1000))
    fonts = tuple(Attachment(index=n, filename=name, media_type=name) for n in range(1000))
    warnings = tuple(f"{n} {name}" for n in range(1000))
    probe = PROBE.model_copy(update={"audio": sound, "subtitles": text, "attachments": fonts, "warnings": warnings})

    kept, notes = bounded(probe)

    assert [len(tracks) for tracks in (kept.audio, kept.subtitles, kept.attachments)] == [TRACKS_MAX] * 3
    assert kept.audio[5].title == name[:TEXT_MAX]
    assert len(notes) == 6
    now = datetime(2026, 1, 1, tzinfo=UTC)
    reported = ResultReported(job_id="j", pool="default", worker_id="w", epoch=1, result=AnalyseResult(probe=kept))
    for event in (reported, VideoProbed(video_id=VIDEO, probe=kept)):
        assert len(encode(Envelope(new_id(), "test", VIDEO, now, event, VIDEO))) < EVENT_BYTES_MAX


def test_what_is_short_stays_as_it_is() -> None:
    assert bounded(PROBE) == (PROBE, ())

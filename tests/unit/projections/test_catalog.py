"""The catalog's folds: given these events, then these rows."""

import pytest

from events.envelope import Event, Recorded
from events.media import Failure
from events.videos import (
    UploadAbandoned,
    UploadStarted,
    VideoArchived,
    VideoEdited,
    VideoFailed,
    VideoPlanned,
    VideoPublished,
    VideoPurged,
    VideoRestored,
    VideoRetryRequested,
    VideoUploaded,
)
from projections import catalog
from projections.catalog import Video, slug_for, words_of
from tests.support.folding import folded
from tests.support.footage import START, VIDEO_ID, completions, id_of, life, plan, recorded, results, sha256

PLAN = plan()
STARTED = UploadStarted(video_id=VIDEO_ID, filename="bbb.mp4", size_bytes=5, object_key="uploads/b", multipart_id="m", part_bytes=2)
UPLOADED = VideoUploaded(video_id=VIDEO_ID, title="Big Buck Bunny", filename="b", object_key="uploads/b", size_bytes=5, sha256="5a")
FAILURE = Failure(stage="encoding", category="timeout", code="TIMEOUT", message="It took too long.")
PUBLISHED = VideoPublished(video_id=VIDEO_ID, duration_ms=24_000, rungs=("720p",))


def video(*events: Event) -> Video:
    log = [recorded(event, offset, topic="videos", at_s=offset) for offset, event in enumerate(events)]
    row: Video = folded(catalog.PROJECTION, log)["videos"][(VIDEO_ID,)]
    return row


def planned(*jobs: str) -> VideoPlanned:
    return VideoPlanned(video_id=VIDEO_ID, plan=PLAN, job_ids=jobs)


def test_an_upload_is_known_from_its_first_address_on() -> None:
    row = video(STARTED)
    assert (row.status, row.slug, row.multipart_id, row.part_bytes, row.started_at) == ("uploading", VIDEO_ID, "m", 2, START)


def test_a_complete_upload_keeps_what_its_beginning_said() -> None:
    row = video(STARTED, UPLOADED)
    assert (row.status, row.multipart_id, row.started_at) == ("processing", "m", START)
    assert row.slug == slug_for("Big Buck Bunny", VIDEO_ID)
    assert row.words == "'big' 'buck' 'bunny'"


def test_an_upload_that_was_given_up_stays_so() -> None:
    assert video(STARTED, UploadAbandoned(video_id=VIDEO_ID, object_key="k", reason="expired"), UPLOADED).status == "abandoned"
    assert video(STARTED, UPLOADED, UploadAbandoned(video_id=VIDEO_ID, object_key="k", reason="expired")).status == "processing"


def test_an_upload_of_known_content_names_the_video_that_has_it() -> None:
    row = video(STARTED, UploadAbandoned(video_id=VIDEO_ID, object_key="k", reason="known", same_as="other"))
    assert (row.status, row.same_as) == ("abandoned", "other")
    assert video(UPLOADED, UploadAbandoned(video_id=VIDEO_ID, object_key="k", reason="known", same_as="other")).same_as is None


def test_the_digest_is_that_of_the_analysis_when_nobody_said_it() -> None:
    log: list[Recorded[Event]] = life(plan(), published=False)
    assert folded(catalog.PROJECTION, log[1:])["videos"] == {}
    silent = recorded(UPLOADED.model_copy(update={"sha256": None}), 0, topic="videos")
    assert folded(catalog.PROJECTION, [silent, *log[1:]])["videos"][(VIDEO_ID,)].sha256 == sha256("source")


def test_a_published_video_has_its_rungs_and_its_first_date() -> None:
    row = video(UPLOADED, planned("a"), PUBLISHED, PUBLISHED)
    assert (row.status, row.rungs, row.duration_ms) == ("ready", ("720p",), 24_000)
    assert row.published_at is not None and (row.published_at - START).seconds == 2


def test_an_edit_changes_title_and_words_and_keeps_the_slug() -> None:
    row = video(UPLOADED, VideoEdited(video_id=VIDEO_ID, title="Une Été"), VideoEdited(video_id=VIDEO_ID, description="Soleil"))
    assert (row.title, row.description, row.words) == ("Une Été", "Soleil", "'ete' 'soleil' 'une'")
    assert row.slug == slug_for("Big Buck Bunny", VIDEO_ID)


def test_archive_and_restore() -> None:
    assert video(UPLOADED, VideoArchived(video_id=VIDEO_ID)).archived
    assert not video(UPLOADED, VideoArchived(video_id=VIDEO_ID), VideoRestored(video_id=VIDEO_ID)).archived


def test_a_repeated_archive_does_not_undo_the_restore_after_it() -> None:
    archived = recorded(VideoArchived(video_id=VIDEO_ID), 1, topic="videos", name="archived")
    restored = recorded(VideoRestored(video_id=VIDEO_ID), 2, topic="videos")
    log = [recorded(UPLOADED, 0, topic="videos"), archived, restored, archived]
    assert not folded(catalog.PROJECTION, log)["videos"][(VIDEO_ID,)].archived


def test_a_failure_is_shown_until_the_retry_which_goes_on_with_the_plan() -> None:
    failed = VideoFailed(video_id=VIDEO_ID, job_id="a", failure=FAILURE)
    assert video(UPLOADED, planned("a", "b"), failed).failure == FAILURE
    row = video(UPLOADED, planned("a", "b"), failed, VideoRetryRequested(video_id=VIDEO_ID))
    assert (row.status, row.failure, row.plan, row.job_ids) == ("processing", None, PLAN, ("a", "b"))


def test_a_retry_after_a_failed_verification_begins_anew() -> None:
    failed = VideoFailed(video_id=VIDEO_ID, job_id="verify", failure=FAILURE)
    row = video(UPLOADED, planned("a", "b"), failed, VideoRetryRequested(video_id=VIDEO_ID))
    assert (row.status, row.plan, row.job_ids) == ("processing", None, ())


def test_a_late_failure_does_not_take_a_published_video_away() -> None:
    assert video(UPLOADED, PUBLISHED, VideoFailed(video_id=VIDEO_ID, failure=FAILURE)).status == "ready"


def test_nothing_comes_of_what_was_purged() -> None:
    row = video(UPLOADED, planned("a"), PUBLISHED, VideoPurged(video_id=VIDEO_ID), PUBLISHED, UPLOADED)
    assert (row.status, row.plan, row.thumbnail, row.words) == ("purged", None, None, "")


def test_media_has_a_row_for_each_job_that_made_something() -> None:
    rows = folded(catalog.PROJECTION, completions(PLAN))["media"]
    assert {key[1] for key in rows} == set(results(PLAN))
    chunk = rows[(VIDEO_ID, id_of("chunk 0"))]
    assert (chunk.kind, [r.name for r in chunk.renditions]) == ("media", ["1080p", "720p", "360p"])
    assert rows[(VIDEO_ID, id_of("extras"))].thumbnail is not None


@pytest.mark.parametrize(
    ("title", "words"),
    [
        ("Big Buck Bunny", "big-buck-bunny"),
        ("  Ünïcode & Ærø!  ", "unicode-aero"),
        ("日本語", "ri-ben-yu"),
        ("🎬🎬", "video"),
        ("../../etc/passwd\n", "etc-passwd"),
        ("word " * 50, "word-word-word-word-word-word-word-word-word-word-word-word"),
        ("x" * 255, "x" * 60),
    ],
)
def test_a_slug_has_the_titles_words_and_eight_characters_of_the_id(title: str, words: str) -> None:
    slug = slug_for(title, VIDEO_ID)
    head, _, tail = slug.rpartition("-")
    assert head == words
    assert len(tail) == 8 and not set(tail) & set("ilou") and slug.isascii() and slug == slug.lower()


def test_slugs_of_one_title_differ_and_any_id_has_one() -> None:
    assert len({slug_for("t", id_of(str(n))) for n in range(1000)}) == 1000
    assert slug_for("t", "no uuid").startswith("t-")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Spider-Man: the film.mp4", ["spider", "man", "the", "film", "mp4"]),
        ("Crème BRÛLÉE straße", ["creme", "brulee", "strasse"]),
        ("東京 2020年", ["東", "京", "2020", "年"]),
        ("it's snake_case", ["it", "s", "snake", "case"]),
        ("'); DROP TABLE --", ["drop", "table"]),
        ("", []),
    ],
)
def test_words_are_found_without_case_accents_and_punctuation(text: str, words: list[str]) -> None:
    assert words_of(text) == words

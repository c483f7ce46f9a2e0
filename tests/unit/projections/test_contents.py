"""Claims of a content: given these, then this upload holds it."""

from events.contents import ContentClaimed
from events.videos import VideoUploaded
from projections import contents
from tests.support.folding import folded
from tests.support.footage import recorded

SHA256 = "5a" * 32


def claim(video_id: str, instead_of: str | None = None) -> ContentClaimed:
    upload = VideoUploaded(video_id=video_id, title=video_id, filename="f", object_key="k", size_bytes=1, sha256=SHA256)
    return ContentClaimed(sha256=SHA256, video_id=video_id, instead_of=instead_of, upload=upload)


def holder(*claims: ContentClaimed) -> str:
    log = [recorded(event, offset, topic="contents", at_s=offset) for offset, event in enumerate(claims)]
    row: contents.Content = folded(contents.PROJECTION, log)["contents"][(SHA256,)]
    assert row.video_id == row.upload.video_id
    return row.video_id


def test_the_first_claim_holds_a_content() -> None:
    assert holder(claim("a"), claim("b"), claim("c")) == "a"


def test_a_claim_takes_over_from_the_holder_that_it_names_and_from_no_other() -> None:
    assert holder(claim("a"), claim("b", instead_of="a"), claim("c", instead_of="a")) == "b"
    assert holder(claim("a"), claim("b", instead_of="c")) == "a"

"""The table of kinds of work agrees with the vocabulary, and objects are where their attempt may put them."""

import ast
import importlib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.envelope import Value
from events.jobs import JobAttemptFailed, JobSubmitted, PartReported, ResultReported
from events.kinds import (
    KINDS,
    AnalyseResult,
    AudioSpec,
    Capabilities,
    EncodeSpec,
    ExtrasResult,
    ExtrasSpec,
    JobKind,
    JobResult,
    JobSpec,
    MediaResult,
    Requirements,
    Source,
    VerifyResult,
    VerifySpec,
)
from events.media import FailureStage, ObjectRef, Rendition, Segment, Subtitle
from events.objects import FOLDERS, attempt_prefix, objects_in, source_key
from infra.runtime.settings import Settings
from tests.support.copies import PACKAGES, ROOT
from tests.support.footage import plan, probe
from tests.support.pools import POOL, Pool, kinds
from tests.support.syntax import parsed
from workers.kinds import RUNNERS

FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
SOURCE = Source(object_key=source_key("v"), size_bytes=1)


def members(union: Any) -> tuple[type[Value], ...]:
    return get_args(get_args(union)[0])


def kind_of(model: type[Value]) -> str:
    return str(model.model_fields["kind"].default)


def test_every_kind_has_a_row_and_a_runner() -> None:
    assert set(KINDS) == set(get_args(JobKind)) == set(RUNNERS)
    assert {kind: row.spec for kind, row in KINDS.items()} == {kind_of(spec): spec for spec in members(JobSpec)}
    assert {row.result for row in KINDS.values()} == set(members(JobResult))
    assert {row.stage for row in KINDS.values()} <= set(get_args(FailureStage))
    assert sum(row.weight for row in KINDS.values()) == 100


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_have_a_slot(kind: str) -> None:
    assert Settings(worker_slots=(f"{kind}=2",)).worker_slots == (f"{kind}=2",)


def test_policies_find_the_encode_spec_where_it_was_one_version_ago() -> None:
    assert importlib.import_module("events.jobs").EncodeSpec is EncodeSpec


# --- the fence around objects ---------------------------------------------------------------------------------------


def ref(key: str) -> ObjectRef:
    return ObjectRef(key=key, size_bytes=1, sha256="0" * 64)


OWN, OTHERS = attempt_prefix("v", "a", 1), attempt_prefix("v", "other", 1)
BEYOND = [OTHERS, attempt_prefix("v", "a", 2), attempt_prefix("w", "a", 1), "sources/v/", "videos/v/", f"{OWN}../2/", "/"]


def rendition(prefix: str, init: str = "", segment: str = "") -> Rendition:
    piece = Segment(number=0, duration=1, object=ref(f"{segment or prefix}00000.m4s"))
    start = ref(f"{init or prefix}init.mp4")
    return Rendition(name="720p", kind="video", codecs="avc1", timescale=1, init=start, segments=(piece,))


def subtitle(prefix: str) -> Subtitle:
    return Subtitle(name="en", language="en", label="English", default=False, forced=False, object=ref(f"{prefix}en.vtt"))


def results(beyond: str) -> dict[str, tuple[JobKind, Any]]:
    """Results that name one object each below `beyond`, all others below their attempt's prefix."""
    own = ref(f"{OWN}result.json")
    return {
        "result.json": ("encode", MediaResult(renditions=(rendition(OWN),), result=ref(f"{beyond}result.json"))),
        "segment": ("encode", MediaResult(renditions=(rendition(OWN, segment=beyond),), result=own)),
        "init": ("audio", MediaResult(renditions=(rendition(OWN), rendition(OWN, init=beyond)), result=own)),
        "thumbnail": ("extras", ExtrasResult(thumbnail=ref(f"{beyond}thumbnail.jpg"), result=own)),
        "subtitle": ("extras", ExtrasResult(subtitles=(subtitle(OWN), subtitle(beyond)), result=own)),
    }


WHERE = list(results(OWN))
VIDEO = plan().video
assert VIDEO is not None
SPECS: dict[JobKind, Any] = {
    "encode": EncodeSpec(source=SOURCE, format="cmaf", plan=VIDEO, chunk=VIDEO.chunks[0]),
    "audio": AudioSpec(source=SOURCE, format="cmaf", segment_ms=6000, duration_ms=1, renditions=()),
    "extras": ExtrasSpec(source=SOURCE),
    "verify": VerifySpec(plan=plan(), results=()),
}


def claimed(kind: JobKind) -> Pool:
    pool = Pool()
    pool.ask(JobSubmitted(job_id="a", video_id="v", pool=POOL, spec=SPECS[kind], requirements=Requirements(kind=kind)))
    pool.claim(capabilities=Capabilities(kinds=(kind,)))
    return pool


def reported(pool: Pool, result: Any) -> list[Any]:
    return pool.ask(ResultReported(job_id="a", pool=POOL, worker_id="w", epoch=1, result=result))


@pytest.mark.parametrize("where", WHERE)
def test_a_result_of_objects_below_its_own_prefix_is_accepted(where: str) -> None:
    kind, result = results(OWN)[where]
    assert kinds(reported(claimed(kind), result)) == ["JobCompleted"]


@pytest.mark.parametrize("beyond", BEYOND)
@pytest.mark.parametrize("where", WHERE)
def test_a_result_that_names_an_object_of_another_attempt_is_a_failure(where: str, beyond: str) -> None:
    kind, result = results(beyond)[where]
    (failed,) = reported(claimed(kind), result)
    assert isinstance(failed, JobAttemptFailed) and failed.failure.code == "RESULT_NOT_ITS_OWN"


@pytest.mark.parametrize("beyond", BEYOND)
def test_a_part_that_names_an_object_of_another_attempt_is_a_failure(beyond: str) -> None:
    part = PartReported(job_id="a", pool=POOL, worker_id="w", epoch=1, part=0, renditions=(rendition(OWN, segment=beyond),))
    (failed,) = claimed("encode").ask(part)
    assert isinstance(failed, JobAttemptFailed) and failed.failure.code == "RESULT_NOT_ITS_OWN"


def test_a_verification_names_the_thumbnail_of_another_job_of_its_video_and_of_no_other() -> None:
    def verified(prefix: str) -> VerifyResult:
        return VerifyResult(duration_ms=1, rungs=(), thumbnail=ref(f"{prefix}thumbnail.jpg"))

    assert kinds(reported(claimed("verify"), verified(OTHERS))) == ["JobCompleted"]
    assert kinds(reported(claimed("verify"), verified(attempt_prefix("w", "other", 1)))) == ["JobAttemptFailed"]


@pytest.mark.parametrize("kind", SPECS)
def test_a_result_of_another_kind_is_a_failure(kind: JobKind) -> None:
    (failed,) = reported(claimed(kind), AnalyseResult(probe=probe()))
    assert isinstance(failed, JobAttemptFailed) and failed.failure.code == "RESULT_NOT_ITS_OWN"


@given(st.recursive(st.builds(ref, st.text()) | st.text() | st.none(), lambda inner: st.lists(inner) | st.tuples(inner, inner)))
def test_every_object_is_found_however_deep_it_lies(value: Any) -> None:
    def count(inner: Any) -> int:
        if isinstance(inner, ObjectRef):
            return 1
        return sum(map(count, inner)) if isinstance(inner, list | tuple) else 0

    assert len(list(objects_in(value))) == count(value)


@pytest.mark.parametrize("path", FILES, ids=map(str, FILES))
def test_one_module_makes_keys(path: Path) -> None:
    """No other one begins a text with a folder of the store."""
    if path == Path("events/objects.py"):
        return
    for node in ast.walk(parsed((ROOT / path).read_text())):
        if isinstance(node, ast.JoinedStr) and isinstance(first := node.values[0], ast.Constant):
            assert not str(first.value).startswith(FOLDERS), f"{path}:{node.lineno}"
        if isinstance(node, ast.BinOp) and isinstance(node.left, ast.Constant):
            assert not str(node.left.value).startswith(FOLDERS), f"{path}:{node.lineno}"

"""A new kind of work takes the steps that CONTRIBUTING names, and no other edit."""

from pathlib import Path

from tests.support.copies import Copy, copy_of_the_code

SPEC = '''
class CountSpec(Spec):
    """Count the bytes of the source."""

    kind: Literal["count"] = "count"
    source: Source


'''
RESULT = '''
class CountResult(Value):
    """How many bytes there are."""

    kind: Literal["count"] = "count"
    size_bytes: int


'''
RUNNER = '''"""Counts bytes."""

from collections.abc import AsyncIterator

from events.kinds import CountResult, CountSpec
from workers.attempts.work import Done, Progress, Update, Work


async def run(spec: CountSpec, work: Work) -> AsyncIterator[Update]:
    """Count the bytes of the source."""
    yield Progress("count", 50.0)
    path, _ = await work.sources.fetch(spec.source)
    yield Done(CountResult(size_bytes=path.stat().st_size))
'''
LIFE = """
import asyncio, tempfile
from pathlib import Path

from events.codec import decode, encode
from events.envelope import Recorded
from events.jobs import JobCompleted, ResultReported
from events.kinds import Capabilities, CountResult, CountSpec, KINDS, Source
from events.media import SystemContext
from events.objects import source_key
from events.progress import ProgressTicked
from infra.reference.pages import kinds_page
from infra.runtime.settings import Settings
from projections.failures.capsule import inputs_of
from projections.registry import PROJECTIONS
from tests.support.folding import folded
from tests.support.pools import POOL, Pool
from tests.support.work import local_work
from workers.attempts.attempt import attempt
from workers.app import slots
from workers.kinds import RUNNERS

VIDEO = "01926f9c-5b7a-7c11-8e55-3f2a9b6c1d04"
spec = CountSpec(source=Source(object_key=source_key(VIDEO), size_bytes=5))
able = Capabilities(kinds=tuple(RUNNERS))
(slot,) = slots(Settings(worker_slots=("count=1",)).worker_slots, able)

pool = Pool()
pool.submit("a", video_id=VIDEO, spec=spec, requirements=spec.requirements())
(claimed,) = pool.claim("w", capabilities=slot)
assert claimed.spec == spec

with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    (folder / "source").write_bytes(b"12345")
    work = local_work(folder / "job", folder / "source")
    ticks = []

    async def tick(progress):
        ticks.append(progress)

    async def surroundings(directory):
        raise AssertionError("it failed")

    result = asyncio.run(attempt(claimed.spec, RUNNERS["count"], work, surroundings, tick))
assert result == CountResult(size_bytes=5) and len(ticks) == 1, result

(completed,) = pool.ask(ResultReported(job_id="a", pool=POOL, worker_id="w", epoch=1, result=result))
assert isinstance(completed, JobCompleted)
log = [Recorded("jobs", 0, number, decode(encode(fact))) for number, fact in enumerate(pool.facts)]
for projection in PROJECTIONS.values():
    tables = folded(projection, log)
    if projection.name == "jobs":
        job = tables["jobs"]["a",]
        assert (job.status, job.kind, job.what) == ("completed", "count", "count"), job
assert [read.key for read in inputs_of(spec)] == [source_key(VIDEO)]
assert "`count`" in kinds_page()
print("completed")
"""


def with_a_new_kind(root: Path) -> Copy:
    """Return a copy of the code in which the steps were taken."""
    code = copy_of_the_code(root)
    code.change(
        "events/kinds.py",
        ('JobKind = Literal["analyse",', 'JobKind = Literal["count", "analyse",'),
        ("Repeatable = ", f"{SPEC.lstrip()}Repeatable = CountSpec | "),
        ("class RerunResult(Value):", f"{RESULT.lstrip()}class RerunResult(Value):"),
        ("JobResult = Annotated[", "JobResult = Annotated[CountResult | "),
        ('        "rerun": Kind(', '        "count": Kind(CountSpec, CountResult, "analysis"),\n        "rerun": Kind('),
    )
    code.write("workers/count/__init__.py", "")
    code.write("workers/count/run.py", RUNNER)
    code.change(
        "workers/kinds.py",
        ("from workers import rerun\n", "from workers import rerun\nfrom workers.count import run as count\n"),
        ('    "verify": cast(', '    "count": cast(Runner, count.run),\n    "verify": cast('),
    )
    return code


def test_a_new_kind_of_work_takes_four_steps(tmp_path: Path) -> None:
    """It passes mypy, is queued, claimed, done, reported and folded, and has its slot, capsule and line in the reference."""
    code = with_a_new_kind(tmp_path / "new-kind")
    assert code.mypy() == []
    assert code.python(LIFE) == "completed\n"

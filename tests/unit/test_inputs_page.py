"""The page about inputs says what the tests hold."""

import re
from pathlib import Path

from tests.support.awkward import AWKWARD, table
from tests.support.recipes import Failed
from workers.transcode.accepted import ACCEPTED

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "inputs.md").read_text()


def test_the_page_has_every_clip_with_its_answer() -> None:
    assert table() in PAGE, "put the output of `python -m tests.support.awkward` into docs/reference/inputs.md"


def test_the_page_lists_every_code_of_the_analysis() -> None:
    sources = [*(ROOT / "workers" / "transcode").glob("[ap]*.py"), ROOT / "processors" / "planning" / "plan.py"]
    found = re.findall(
        r'"((?:FILE|NO|VIDEO|PLAYLIST|HEADERS|CONTAINER|CLOCK)_[A-Z_]+)"', "".join(path.read_text() for path in sources)
    )
    codes = {*found, *(r.expected.code for r in AWKWARD.values() if isinstance(r.expected, Failed))}

    assert codes
    assert [code for code in sorted(codes) if f"| `{code}` |" not in PAGE] == []


def test_the_page_lists_every_container_that_is_taken() -> None:
    rows = [f"| {words} | `{names.replace(',', '`, `')}` |" for words, names in ACCEPTED.items()]

    assert [row for row in rows if row not in PAGE] == []

"""The page of the audit names only events that there are."""

import re

from events.envelope import REGISTRY
from infra.reference.schemas import ROOT


def test_each_action_on_the_page_is_an_event() -> None:
    text = (ROOT / "docs" / "reference" / "audit.md").read_text()
    named = set(re.findall(r"`([a-z]+\.[a-z-]+)`", text))
    assert len(named) > 20
    assert {f"kinolog.{name}.v1" for name in named} <= set(REGISTRY)

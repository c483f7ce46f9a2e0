"""What Prometheus reads of the real platform."""

import pytest

from tests.support.platform import Platform
from tests.support.tools import promtool


@pytest.mark.parametrize("program", ["public", "admin", "worker", "processors", "dispatcher", "worker-1"])
async def test_promtool_finds_no_fault_in_the_metrics_of_a_program(platform: Platform, program: str) -> None:
    address = f"http://127.0.0.1:{platform.port_of(program)}/metrics"
    text = (await platform.public.get(address)).raise_for_status().text
    assert "# HELP kinolog_" in text
    assert promtool("check", "metrics", given=text) == ""

"""Variables of this platform and its predecessor as settings to store: names, units, and what has no counterpart."""

import pytest

from infra.commands.support.imports import PREDECESSOR, Import, imports, variables
from infra.settings.live import KINDS, parsed


@pytest.mark.parametrize(
    ("variable", "text", "name", "value"),
    [
        ("VLOG_MAX_UPLOAD_SIZE", "1073741824", "upload_max_bytes", 2**30),
        ("VLOG_MAX_UPLOAD_SIZE_MB", "1024", "upload_max_bytes", 2**30),
        ("VLOG_WORKER_CLAIM_DURATION", "30", "lease_s", 1800.0),
        ("VLOG_MAX_RETRY_ATTEMPTS", "0", "attempts_max", 1),
        ("VLOG_HLS_SEGMENT_DURATION", '"6"', "segment_s", 6.0),
        ("VLOG_DEFAULT_CODEC", "HEVC", "video_codec", "hevc"),
        ("VLOG_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("KINOLOG_LEASE_S", "90", "lease_s", 90.0),
    ],
)
def test_names_and_units_are_translated(variable: str, text: str, name: str, value: object) -> None:
    (found,) = imports({variable: text, "PATH": "/bin"}, KINDS)
    assert (found.name, found.why_not) == (name, "")
    assert parsed(found.name, found.value) == value


def test_what_cannot_be_stored_is_named_with_the_reason() -> None:
    found = list(imports({"VLOG_DOWNLOADS_ENABLED": "false", "VLOG_WORKER_CLAIM_DURATION": "x", "KINOLOG_KAFKA_PORT": "1"}, KINDS))
    assert [each.name for each in found] == ["", "", ""]
    assert found[0] == Import("VLOG_DOWNLOADS_ENABLED", why_not="has no counterpart here")
    assert "no number" in found[1].why_not and "environment" in found[2].why_not


def test_every_counterpart_may_be_stored() -> None:
    assert {name for name, _ in PREDECESSOR.values()} <= KINDS.keys()


def test_a_file_of_variables_is_read_line_by_line() -> None:
    text = "# a comment\n\nexport VLOG_A=1\nVLOG_B = two=three\nnonsense\n"
    assert variables(text) == {"VLOG_A": "1", "VLOG_B": " two=three", "nonsense": ""}

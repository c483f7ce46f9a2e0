"""What leads to a person is refused, what names hardware, encoders and versions is not, and no refusal repeats a value."""

import re
import string
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from events.faults import name_of
from events.telemetry import TelemetryReported
from producers.anonymity import FIELDS, Refused, check, check_again, check_id, reason_against

SAID = [
    "",
    "NVIDIA GeForce RTX 4090",
    "AMD Ryzen 7 5800X 8-Core",
    "Intel(R) Core(TM) i7-8700K @ 3.70GHz",
    "Intel(R) Core(TM) i7-8700K CPU@3.70GHz",
    "Intel® Xeon® Gold 6248R",
    "AMD Radeon™ RX 7900 XTX",
    "RTX 3070 TI, Ryzen 5 9700X",
    "GeForce GTX 1080/PCIe/SSE2",
    "AMD Radeon R9 200 / HD 7900 Series",
    "AMD Radeon (TM) R9 Fury Series (fiji, LLVM 15.0.7, DRM 3.49, 6.1.0-13-amd64)",
    "Intel Corporation UHD Graphics 630 (rev 02)",
    "NVIDIA Corporation GA104 [GeForce RTX 3070]",
    "ANGLE (NVIDIA, NVIDIA GeForce RTX 3060 Direct3D11 vs_5_0 ps_5_0, D3D11)",
    "Mesa Intel(R) Arc(tm) A380 Graphics (DG2)",
    "Raspberry Pi 4 Model B Rev 1.4",
    "Tesla V100-SXM2-16GB",
    "Apple M1 Max",
    "Nvidia",
    "CPU",
    "N/A",
    "libx264",
    "hevc_nvenc",
    "av1_qsv",
    "h264_videotoolbox",
    "libsvtav1",
    "H.264/AVC",
    "H.265/HEVC",
    "av1 10-bit",
    "1080p",
    "1920x1080",
    "30000/1001",
    "1.2.3-rc.1",
    "1.0.0-alpha.beta",
    "0.2.10+build.5",
    "v1.2.3 (2024-05-01)",
    "10.0.19041.1",
    "31.0.15.3623",
    "job_finished",
    "transcode_failed",
    "exit code -22: Invalid argument",
    "Error 0x80070005",
    "std::bad_alloc",
    "Cannot load libcuda.so.1",
    "12:34:56",
]
PATH, FILE, TITLE = "looks like a path", "looks like the name of a file", "looks like a title"
MAIL, NETWORK, DEVICE = "looks like an e-mail address", "looks like a network address", "looks like the id of a device"
REFUSED = [
    ("/home/alice/Movies/x", PATH),
    ("/movies", PATH),
    ("C:\\Users\\bob", PATH),
    ("C:/Users/bob", PATH),
    ("\\\\nas\\share", PATH),
    ("//nas/share", PATH),
    ("file:///x", PATH),
    ("https://example.com/x", PATH),
    ("www.example.com", PATH),
    ("~/x", PATH),
    ("~alice/x", PATH),
    ("./x", PATH),
    ("../x", PATH),
    ("$HOME/x", PATH),
    ("%USERPROFILE%/x", PATH),
    ("a/b/c", PATH),
    ("home/alice", PATH),
    ("Movies/x", PATH),
    ("input=/dev/video0", PATH),
    ("%2Fhome%2Falice", PATH),
    ("／home／alice", PATH),
    ("Holiday.mkv", FILE),
    ("My Holiday 2019.MP4", FILE),
    ("movie .mkv", FILE),
    ("holiday.mp4 (1)", FILE),
    ("holiday.mp4.part", FILE),
    ("failed: Holiday.mkv: no such thing", FILE),
    ("ünïcode.mkv", FILE),
    ("映画.mkv", FILE),
    ("ｈｏｌｉｄａｙ．ｍｋｖ", FILE),
    ("report.pdf", FILE),
    ("Show S01E02", TITLE),
    ("The.Matrix.1999.1080p.BluRay", TITLE),
    ("The Matrix (1999) 1080p", TITLE),
    ("alice@example.com", MAIL),
    ("Alice <alice@example.com>", MAIL),
    ("alice@nas", MAIL),
    ("me@1password.com", MAIL),
    ("用户@例子.公司", MAIL),
    ("192.168.1.7", NETWORK),
    ("host 10.0.0.1.", NETWORK),
    ("1.2.3.4:80", NETWORK),
    ("v10.0.0.1", NETWORK),
    ("192.168.001.007", NETWORK),
    ("::1", NETWORK),
    ("fe80::1%eth0", NETWORK),
    ("[2001:db8::1]:80", NETWORK),
    ("2001:db8::8a2e:370:7334", NETWORK),
    ("::ffff:192.168.1.1", NETWORK),
    ("aa:bb:cc:dd:ee:ff", NETWORK),
    ("AA-BB-CC-DD-EE-FF", NETWORK),
    ("aabb.ccdd.eeff", NETWORK),
    ("aa:bb:cc:ff:fe:dd:ee:ff", NETWORK),
    ("GPU-8f6b2c4e-1111-2222-3333-444455556666", DEVICE),
    ("8f6b2c4e111122223333444455556666", DEVICE),
    ("a\0b", "has a character that cannot be shown"),
    ("a\nb", "has a character that cannot be shown"),
    ("Holiday\u200b.mkv", "has a character that cannot be shown"),
    ("x" * 201, "is longer than 200 characters"),
]


@pytest.mark.parametrize("text", SAID)
def test_names_of_hardware_encoders_and_versions_may_be_said(text: str) -> None:
    assert reason_against(text, 200) is None


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_leads_to_a_person_is_refused(text: str, reason: str) -> None:
    assert reason_against(text, 200) == reason


@pytest.mark.parametrize(("text", "reason"), [pair for pair in REFUSED if pair[1] != "is longer than 200 characters"])
def test_it_is_found_among_other_words(text: str, reason: str) -> None:
    assert reason_against(f"encoder said {text}", 200) is not None
    assert reason_against(f"({text})", 200) is not None


WORD = st.text(string.ascii_letters + string.digits, min_size=1, max_size=12)
HEX = st.sampled_from("0123456789abcdefABCDEF")


@given(st.lists(WORD, min_size=1, max_size=6).map("/".join))
def test_any_absolute_path_is_refused(path: str) -> None:
    assert reason_against(f"/{path}", 200) == PATH


@given(st.lists(WORD, min_size=1, max_size=6).map("\\".join))
def test_any_windows_path_is_refused(path: str) -> None:
    assert reason_against(f"C:\\{path}", 200) == PATH


@given(
    st.lists(WORD, min_size=1, max_size=5).map(" ".join), st.sampled_from(["mkv", "MP4", "avi", "m2ts", "srt", "webm", "mov", "ts"])
)
def test_any_title_with_an_extension_is_refused(title: str, extension: str) -> None:
    assert reason_against(f"{title}.{extension}", 200) is not None


@given(st.ip_addresses(v=4))
def test_any_ipv4_address_is_refused(address: object) -> None:
    assert reason_against(f"from {address}", 200) == NETWORK


@given(st.ip_addresses(v=6))
def test_any_ipv6_address_is_refused(address: object) -> None:
    assume(str(address) != "::")
    assert reason_against(f"from {address}", 200) is not None


@given(st.lists(st.tuples(HEX, HEX).map("".join), min_size=6, max_size=6), st.sampled_from(":-"))
def test_any_mac_address_is_refused(pairs: list[str], separator: str) -> None:
    assert reason_against(separator.join(pairs), 200) is not None


@given(st.emails())
def test_any_email_address_is_refused(address: str) -> None:
    assume(re.fullmatch(r"[\w.+-]*\w@[\w.-]+", address))
    assert reason_against(address, 400) is not None


VERSION = st.builds(
    "{}.{}.{}{}".format,
    st.integers(0, 999),
    st.integers(0, 999),
    st.integers(0, 99999),
    st.sampled_from(["", "-rc.1", "-beta", "-alpha.2", "+5114f85", "-dev+build.7"]),
)


@given(VERSION)
def test_any_version_may_be_said(version: str) -> None:
    assert reason_against(version, 64) is None


HARDWARE = st.builds(
    "{} {} {}{}".format,
    st.sampled_from(["NVIDIA GeForce", "AMD Radeon(TM)", "Intel(R) Arc(TM)", "AMD Ryzen", "Apple"]),
    st.sampled_from(["RTX", "RX", "A", "7", "M", "GTX", "Pro"]),
    st.integers(1, 9999),
    st.sampled_from(["", " Ti", "X", " SUPER", " 8-Core Processor", " @ 3.60GHz", " (rev 02)", "/PCIe/SSE2", " Max"]),
)


@given(HARDWARE)
def test_any_card_or_processor_may_be_said(name: str) -> None:
    assert reason_against(name, 128) is None


@given(st.text(max_size=220))
@example("a:" * 100)
@example("1." * 100)
@example("a/" * 100)
@example("@" * 200)
@example("x 1999 " * 28)
@example("%25" * 60)
def test_any_text_gets_an_answer_that_does_not_repeat_it(text: str) -> None:
    reason = reason_against(text, 200)
    assert reason is None or re.fullmatch(r"(looks like|has a character|is longer) [a-z0-9 -]+", reason)


def test_a_refusal_names_the_field_and_not_the_value() -> None:
    texts = [None if field not in ("app_version", "event_type", "encoder") else "x" for field in FIELDS]
    check(*texts)
    for number, field in enumerate(FIELDS):
        marked = [*texts[:number], "/home/alice/secret-marker", *texts[number + 1 :]]
        for judge in (check, check_again, check_again):
            with pytest.raises(Refused) as refused:
                judge(*marked)
            assert refused.value.field == field
            assert str(refused.value) == f"the {name_of((field,))} looks like a path"
            assert "marker" not in repr(refused.value)


def test_only_what_passed_is_remembered() -> None:
    check_again.cache_clear()
    texts = ["1", "job_started", None, None, "marker.mkv", None, None, None]
    with pytest.raises(Refused):
        check_again(*texts)
    assert check_again.cache_info().currsize == 0
    check_again(*texts[:4], "CPU", *texts[5:])
    assert check_again.cache_info().currsize == 1


def test_the_allowed_fields_are_those_of_the_event() -> None:
    """A field more in the event needs a decision here: a limit, and that the fence looks at it."""
    numbers = {"duration_ms", "input_size_bytes", "output_size_bytes", "speed_factor"}
    assert set(FIELDS) | numbers == set(TelemetryReported.model_fields)
    assert set(FIELDS) == {name for name, field in TelemetryReported.model_fields.items() if "str" in str(field.annotation)}


@pytest.mark.parametrize("field", FIELDS)
def test_every_text_has_a_greatest_length(field: str) -> None:
    texts: dict[str, str | None] = dict.fromkeys(FIELDS)
    texts[field] = "x" * FIELDS[field]
    check(*texts.values())
    texts[field] = "x" * (FIELDS[field] + 1)
    with pytest.raises(Refused, match=f"the {name_of((field,))} is longer than {FIELDS[field]} characters"):
        check(*texts.values())


@pytest.mark.parametrize(
    "event_id",
    [
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",  # version 1, of RFC 9562
        "000003e8-cbb9-21ea-b201-00045a86c8a1",  # version 2
        "1ec9414c-232a-6b00-b3c8-00a0c91e6bf6",  # version 6
    ],
)
def test_an_id_with_the_address_of_a_machine_is_refused(event_id: str) -> None:
    with pytest.raises(Refused, match="the event's id has the network address of a machine in it"):
        check_id(UUID(event_id))


@pytest.mark.parametrize(
    "event_id",
    [
        "c232ab00-9414-11ec-b3c8-9f6bdeced846",  # version 1 with a node by chance
        "919108f7-52d1-4320-9bac-f847db4148a8",
        "019cebb0-2b6e-7d51-8f27-c4e19a03bd65",
        "00000000-0000-0000-0000-000000000000",
    ],
)
def test_any_other_id_may_be_sent(event_id: str) -> None:
    check_id(UUID(event_id))

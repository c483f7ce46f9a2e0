"""What is read of telemetry, byte for byte where the predecessor's clients and page depend on it; its traps are decided here."""

import csv
import io
import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import httpx
import pytest

from api.telemetry.insights import INSIGHTS
from tests.support.apps import client
from tests.support.footage import START
from tests.support.shelf import Shelf, reported
from tests.support.telemetry import Log, make

V2 = "/api/v2/insights"


async def get(shelf: Shelf | None, path: str = INSIGHTS, **options: Any) -> httpx.Response:
    async with client(make(Log(), shelf=shelf), token=None) as http:
        return await http.request(options.pop("method", "GET"), path, **options)


async def board(*log: Any, **limits: int) -> Any:
    answer = await get(Shelf.of(*log, **limits))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    return answer.json()


def line(document: Any, number: int = 0) -> tuple[Any, ...]:
    """Speed, reduction and samples of a line of the leaderboard."""
    found = document["leaderboard"][number]
    return found["speed"], found["reduction"], found["samples"]


# --- v1 ---------------------------------------------------------------------------------------------------------------


async def test_the_shape_is_the_predecessors_to_the_byte() -> None:
    answer = await get(
        Shelf.of(
            reported(1, event_type="job_started"),
            reported(2, speed_factor=2.65, input_size_bytes=1_024_000, output_size_bytes=600_100),
            reported(3, status="failure", failure_reason="transcode_failed"),
        )
    )
    assert answer.content == (
        b'{"schema":1,"coverage":{"total_jobs":3,"unique_hardware":1},'
        b'"leaderboard":[{"hardware":"Intel","encoder":"av1_qsv","codec":"av1","res":"1080p",'
        b'"speed":2.65,"reduction":0.413965,"samples":2}],'
        b'"stability":[{"encoder":"av1_qsv","error":"transcode_failed","count":1}]}'
    )


async def test_nothing_reported_is_nothing_and_no_error() -> None:
    assert await board() == {
        "schema": 1,
        "coverage": {"total_jobs": 0, "unique_hardware": 0},
        "leaderboard": [],
        "stability": [],
    }


async def test_reduction_is_a_fraction_and_what_is_not_known_is_zero() -> None:
    assert line(await board(reported(1, input_size_bytes=100, output_size_bytes=25))) == (0.0, 0.75, 1)
    assert line(await board(reported(1, input_size_bytes=0, output_size_bytes=25))) == (0.0, 0.0, 1)
    assert line(await board(reported(1, input_size_bytes=100, output_size_bytes=150))) == (0.0, -0.5, 1)
    assert line(await board(reported(1, input_size_bytes=100))) == (0.0, 0.0, 1)


async def test_failures_are_samples_without_a_part_in_the_averages() -> None:
    log = reported(1, speed_factor=3.0), reported(2, status="failure"), reported(3, speed_factor=4.0)
    assert line(await board(*log)) == (3.5, 0.0, 3)


async def test_jobs_are_events_and_hardware_is_counted_wherever_it_is_named() -> None:
    document = await board(
        reported(1, event_type="job_started", hardware_model="AMD"),
        reported(2),
        reported(3, event_type="x", hardware_model=None),
        reported(3),
    )
    assert document["coverage"] == {"total_jobs": 3, "unique_hardware": 2}
    assert len(document["leaderboard"]) == 1


async def test_a_report_that_comes_twice_counts_once() -> None:
    assert await board(reported(1), reported(2), reported(1), reported(2)) == await board(reported(1), reported(2))


async def test_lines_are_ordered_by_speed_then_samples_then_name_and_end_at_fifty() -> None:
    log = [reported(n, encoder=f"e{n:02}", speed_factor=float(n % 3)) for n in range(60)]
    log.append(reported(60, encoder="e59", speed_factor=2.0))
    document = await board(*log)
    lines = [(-found["speed"], -found["samples"], found["encoder"]) for found in document["leaderboard"]]
    assert lines == sorted(lines) and len(lines) == 50
    assert document["leaderboard"][0]["encoder"] == "e59"


async def test_faults_are_ordered_by_count_then_name_and_end_at_twenty() -> None:
    log = [reported(n, status="failure", failure_reason=f"r{n % 23:02}") for n in range(60)]
    document = await board(*log)
    faults = [(-found["count"], found["encoder"], found["error"]) for found in document["stability"]]
    assert faults == sorted(faults) and len(faults) == 20


async def test_a_flood_of_names_is_one_line_and_displaces_nobody() -> None:
    log = [reported(n, hardware_model=f"made up {n}", speed_factor=1e6) for n in range(100)]
    log += [reported(100 + n, hardware_model=name, speed_factor=2.0) for n, name in enumerate(("Intel", "Intel", "AMD", "AMD"))]
    document = await board(*log, hardware_max=2)
    assert [(found["hardware"], found["samples"]) for found in document["leaderboard"]] == [
        ("other", 100),
        ("AMD", 2),
        ("Intel", 2),
    ]
    assert document["coverage"]["unique_hardware"] == 102


@pytest.mark.parametrize(("field", "column"), [("encoder", "encoder"), ("video_codec", "codec"), ("resolution", "res")])
async def test_a_flood_of_other_words_is_one_line_too(field: str, column: str) -> None:
    made_up: list[dict[str, Any]] = [{field: f"made up {n}", "failure_reason": f"r{n}"} for n in range(100)]
    named: list[dict[str, Any]] = [{field: name} for name in ("a", "a", "b", "b")]
    log = [reported(n, **words, speed_factor=1e6, status="failure") for n, words in enumerate(made_up)]
    log += [reported(100 + n, **words, speed_factor=2.0) for n, words in enumerate(named)]
    shelf = Shelf.of(*log, words_max=2)
    document = (await get(shelf)).json()
    assert [(found[column], found["samples"]) for found in document["leaderboard"]] == [("other", 100), ("a", 2), ("b", 2)]
    assert [found["error"] for found in document["stability"]].count("other") >= 1 and len(document["stability"]) <= 9
    assert shelf.insights().capped[{"video_codec": "codec"}.get(field, field)] == 100


async def test_who_has_seen_it_gets_304_until_it_changes() -> None:
    shelf = Shelf.of(reported(1))
    first = await get(shelf)
    assert first.headers["cache-control"] == "public, max-age=1"
    assert first.headers["access-control-allow-origin"] == "*"
    assert first.headers["x-log-position"] == shelf.position
    etag = first.headers["etag"]
    for seen in (etag, f'"other", W/{etag}', "*"):
        again = await get(shelf, headers={"If-None-Match": seen})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    changed = await get(Shelf.of(reported(1), reported(2)), headers={"If-None-Match": etag})
    assert changed.status_code == 200 and changed.headers["etag"] != etag


async def test_other_methods_get_the_list_of_those_there_are() -> None:
    shelf = Shelf.of(reported(1))
    head = await get(shelf, method="HEAD")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len((await get(shelf)).content)))
    post = await get(shelf, method="POST")
    assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert (await get(shelf, method="OPTIONS")).status_code == 204


@pytest.mark.parametrize("path", [INSIGHTS, V2, f"{V2}/trend"])
async def test_reading_is_limited_like_reporting(path: str) -> None:
    async with client(make(Log(), per_minute=1, burst=2), token=None) as http:
        answers = [await http.get(path) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["retry-after"]) >= 1


# --- v2 ---------------------------------------------------------------------------------------------------------------


def history() -> Sequence[Any]:
    """Return 40 jobs of an encoder that is fast and fails, and of one that is slow and does not; all reported twice."""
    log = []
    for n in range(40):
        day = START + timedelta(days=n % 2)
        for base, encoder, speed, version in ((0, "av1_nvenc", 4.0, "1.0.0"), (100, "libsvtav1", 1.0, "1.1.0")):
            known = {"encoder": encoder, "app_version": version}
            log.append(reported(base * 10 + 2 * n, day, event_type="job_started", **known))
            if encoder == "av1_nvenc" and n % 4 == 0:
                ended: dict[str, Any] = {"status": "failure", "failure_reason": "transcode_failed"}
            else:
                ended = {"speed_factor": speed + n / 100, "input_size_bytes": 100, "output_size_bytes": 60}
            log.append(reported(base * 10 + 2 * n + 1, day, **known, **ended))
    return log


async def ask(path: str = "", limits: dict[str, int] | None = None, /, **query: Any) -> Any:
    answer = await get(Shelf.of(*history(), **(limits or {})), V2 + path, params=query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-log-position"] == "telemetry:0=1"
    return answer.json()


async def test_jobs_count_once_with_intervals() -> None:
    document = await ask()
    assert (document["schema"], document["total"], document["all"]["jobs"]) == (2, 2, 80)
    nvenc, svt = document["items"]
    assert (nvenc["encoder"], nvenc["jobs"], nvenc["started"], nvenc["finished"]) == ("av1_nvenc", 40, 40, 40)
    assert (nvenc["succeeded"], nvenc["failed"]) == (30, 10)
    assert nvenc["success_rate"]["value"] == 0.75
    assert nvenc["success_rate"]["low"] == pytest.approx(0.598, abs=1e-3)
    assert svt["success_rate"]["value"] == svt["success_rate"]["high"] == 1.0
    assert svt["size_reduction_percent"] == pytest.approx(40)
    assert svt["speed"]["low"] < svt["speed"]["mean"] < svt["speed"]["high"]
    assert svt["speed"]["p10"] < svt["speed"]["median"] < svt["speed"]["p90"]
    assert svt["speed"]["median"] == pytest.approx(1.19, rel=0.02)


async def test_sorted_filtered_and_in_pages() -> None:
    assert [item["encoder"] for item in (await ask(sort="success_rate"))["items"]] == ["libsvtav1", "av1_nvenc"]
    assert [item["encoder"] for item in (await ask(encoder="libsvtav1"))["items"]] == ["libsvtav1"]
    assert (await ask(since="2199-01-01"))["total"] == 0
    assert (await ask(hardware="AMD"))["all"]["jobs"] == 0
    assert [item["encoder"] for item in (await ask(limit=1, offset=1))["items"]] == ["libsvtav1"]


async def test_what_too_few_have_reported_is_not_shown() -> None:
    assert (await ask(samples_min=41))["total"] == 0
    assert (await ask("", {"samples_min": 41}))["total"] == 0
    assert (await ask("", {"samples_min": 41}, samples_min=40))["total"] == 2
    document = await ask("", {"floor": 41}, samples_min=1, encoder="av1_nvenc")
    assert (document["total"], document["all"]["jobs"]) == (0, 0)
    assert (await ask("/trend", {"floor": 41}, samples_min=1, by="version"))["items"] == []
    assert (await ask("/failures", {"floor": 11}))["items"] == []


async def test_failures_stand_beside_attempts() -> None:
    (failure,) = (await ask("/failures"))["items"]
    assert (failure["encoder"], failure["reason"], failure["count"], failure["attempts"]) == (
        "av1_nvenc",
        "transcode_failed",
        10,
        40,
    )
    assert failure["rate"]["low"] < failure["rate"]["value"] == 0.25 < failure["rate"]["high"]


async def test_trends_go_by_day_and_by_version() -> None:
    days = (await ask("/trend"))["items"]
    assert [day["at"] for day in days] == [(START + timedelta(days=n)).date().isoformat() for n in (0, 1)]
    assert [day["failed"] for day in days] == [10, 0]
    versions = (await ask("/trend", by="version"))["items"]
    assert [(version["at"], version["jobs"]) for version in versions] == [("1.0.0", 40), ("1.1.0", 40)]


async def test_two_encoders_head_to_head() -> None:
    document = await ask("/comparison", encoder="av1_nvenc", other="libsvtav1")
    assert [side["encoder"] for side in document["encoders"]] == ["av1_nvenc", "libsvtav1"]
    assert document["faster"]["value"] == 1.0 and document["faster"]["significant"]
    assert document["success_rate"]["value"] == -0.25 and document["success_rate"]["significant"]
    same = await ask("/comparison", encoder="libsvtav1", other="libsvtav1")
    assert same["faster"]["value"] == 0.5 and not same["faster"]["significant"] and not same["success_rate"]["significant"]
    answer = await get(Shelf.of(*history()), f"{V2}/comparison", params={"encoder": "nobody", "other": "libsvtav1"})
    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["", "/failures", "/trend", "/comparison?encoder=av1_nvenc&other=libsvtav1"])
async def test_csv_has_a_line_for_each_item(path: str) -> None:
    shelf = Shelf.of(*history(), *(reported(9000 + n, encoder="=cmd()", status="failure", failure_reason="x") for n in range(5)))
    mark = "&" if "?" in path else "?"
    answer = await get(shelf, f"{V2}{path}{mark}format=csv")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    document = (await get(shelf, V2 + path)).json()
    assert len(lines) == len(document.get("items") or document["encoders"]) > 0
    assert all(None not in line and None not in line.values() for line in lines)
    assert "speed_median" in lines[0] or "rate_low" in lines[0]
    assert next(iter(lines[0])) in ("at", "hardware", "encoder"), "a line begins with what it is about"
    assert not any(text.startswith("=") for line in lines for text in line.values())
    empty = await get(Shelf(), f"{V2}{path}{mark}format=csv")
    assert empty.status_code == 404 or empty.text.strip() == ",".join(lines[0])


@pytest.mark.parametrize(
    "query",
    ["since=yesterday", "since=20260101", "until=2026-02-31", "sort=best", "limit=0", "offset=-1", "samples_min=0", "encoder="],
)
async def test_what_makes_no_sense_is_422(query: str) -> None:
    answer = await get(Shelf(), f"{V2}?{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert json.loads(answer.content)["errors"]


async def test_the_document_comes_in_the_encoding_that_is_asked_for() -> None:
    shelf = Shelf.of(*(reported(n, hardware_model=f"GPU {n}") for n in range(20)))
    plain = await get(shelf, headers={"Accept-Encoding": "identity"})
    for encoding in ("zstd", "gzip"):
        packed = await get(shelf, headers={"Accept-Encoding": encoding})
        assert packed.headers["content-encoding"] == encoding
        assert packed.content == plain.content and packed.headers["etag"] == plain.headers["etag"]
        assert int(packed.headers["content-length"]) < len(plain.content)
        head = await get(shelf, method="HEAD", headers={"Accept-Encoding": encoding})
        assert head.headers["content-length"] == packed.headers["content-length"]
    assert "content-encoding" not in plain.headers and plain.headers["vary"] == "Accept-Encoding"

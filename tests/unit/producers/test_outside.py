"""Addresses outside: forty ways to spell an address that is not outside, and the addresses that are."""

import ipaddress

import pytest

from events.errors import InvalidRequest
from producers.outside import Answer, refusal, target

SPELLINGS = """
http://127.0.0.1/ http://127.1/ http://127.0.1/ http://2130706433/ http://0x7f000001/ http://0x7f.0.0.1/ http://0177.0.0.1/
http://017700000001/ http://127.0.0.1./ http://127。0。0。1/ http://①②⑦.⓪.⓪.①/ http://%31%32%37.0.0.1/ http://0/ http://0.0.0.0/
http://localhost/ http://LOCALHOST:8080/ http://localhost./ http://a.localhost/ http://printer.local/ http://db.internal/
http://metadata.google.internal/computeMetadata/v1/ http://169.254.169.254/latest/meta-data/ http://2852039166/ http://0xa9fea9fe/
http://0251.0376.0251.0376/ http://100.100.100.200/ http://168.63.129.16/ http://192.0.0.192/ http://10.0.0.1/ http://10.1/
http://172.16.0.1/ http://192.168.0.1/ http://192.168.257/ http://100.64.0.1/ http://198.18.0.1/ http://224.0.0.1/ http://240.0.0.1/
http://255.255.255.255/ http://[::1]/ http://[::]/ http://[0:0:0:0:0:0:0:1]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/
http://[::ffff:169.254.169.254]/ http://[::127.0.0.1]/ http://[64:ff9b::127.0.0.1]/ http://[64:ff9b::a9fe:a9fe]/
http://[64:ff9b:1::a00:1]/ http://[2002:7f00:1::]/ http://[2001:0:7f00:1::]/ http://[fe80::1]/ http://[fe80::1%25eth0]/
http://[fd00:ec2::254]/ http://[fc00::1]/ http://[fec0::1]/ http://[ff02::1]/
"""
NOT_OUTSIDE = SPELLINGS.split()
NOT_ADDRESSES = (
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org/",
    "//example.org/",
    "example.org",
    "http://",
    "http:///hook",
    "https://user@example.org/",
    "https://user:password@example.org/",
    "https://example.org\\@127.0.0.1/",
    "https://example.org/#part",
    "https://example.org:99999/",
    "https://exa mple.org/",
    "https://example.org/\nHost: other",
    "https://" + "a" * 2000 + ".org/",
    "https://-.example.org/",
    "https://[::1/",
)
OUTSIDE = (
    ("https://example.org/hook?key=1", "https://example.org"),
    ("http://example.org:8080/", "http://example.org:8080"),
    ("https://EXAMPLE.org./", "https://example.org"),
    ("https://bücher.example/", "https://xn--bcher-kva.example"),
    ("https://8.8.8.8/", "https://8.8.8.8"),
    ("https://[2606:4700::1111]/", "https://[2606:4700::1111]"),
    ("https://[64:ff9b::8.8.8.8]/", "https://[64:ff9b::808:808]"),
)


def test_at_least_forty_spellings_are_tried() -> None:
    assert len(set(NOT_OUTSIDE)) >= 40


@pytest.mark.parametrize("url", NOT_OUTSIDE)
def test_an_address_that_is_not_outside_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="webhook_networks"):
        target(url)


@pytest.mark.parametrize("url", NOT_ADDRESSES)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        target(url)


@pytest.mark.parametrize(("url", "origin"), OUTSIDE)
def test_other_addresses_are_accepted(url: str, origin: str) -> None:
    assert target(url).origin == origin


@pytest.mark.parametrize("url", ["http://127.0.0.1:81/", "http://127.1/", "http://[::ffff:127.0.0.1]/", "http://localhost/"])
def test_an_allowed_network_may_be_sent_to(url: str) -> None:
    assert target(url, [ipaddress.ip_network("127.0.0.0/8")]).origin.startswith("http://")
    with pytest.raises(InvalidRequest):
        target("http://10.0.0.1/", [ipaddress.ip_network("127.0.0.0/8")])


def test_a_wide_allowed_network_holds_addresses_of_its_own_version() -> None:
    assert refusal(ipaddress.ip_address("::1"), [ipaddress.ip_network("0.0.0.0/0")])
    assert refusal(ipaddress.ip_address("::1"), [ipaddress.ip_network("::/0")]) is None


@pytest.mark.parametrize(
    ("status", "taken", "away"),
    [
        *((None, False, True), (200, True, False), (204, True, False), (301, False, False), (400, False, False)),
        *((410, False, False), (429, False, True), (500, False, False), (502, False, True), (503, False, True)),
    ],
)
def test_an_answer_is_taken_refused_or_away(status: int | None, taken: bool, away: bool) -> None:
    answer = Answer(status)
    assert (answer.is_taken, answer.is_away) == (taken, away)

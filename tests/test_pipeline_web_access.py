"""Who is let in: pure decisions."""

import socket

import pytest

from configs.errors import UserError
from pipeline.web.access import Access, Right, cookie_value

TOKEN = "0123456789abcdef-token"


def access(host="127.0.0.1", **settings):
    return Access(TOKEN, host, **{"secure": False, **settings})


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8000", "localhost:8000", "LOCALHOST", "[::1]:8000", "localhost:9999"]
)
def test_names_of_this_machine_are_served_on_any_port_so_that_a_tunnel_works(host):
    assert access().host_allowed(host)


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "evil.example:8000", "127.0.0.1.evil.example", "a@b"]
)
def test_other_host_names_are_refused(host):
    assert not access().host_allowed(host)


@pytest.mark.parametrize("address", ["0.0.0.0", "203.0.113.7"])
def test_off_loopback_the_machine_is_reached_by_its_own_names_and_by_given_ones(address):
    door = access(address, names=["drive.lan"])
    assert door.host_allowed(f"{socket.gethostname()}:8000") and door.host_allowed("Drive.LAN:8000")
    assert not door.host_allowed("other.lan:8000")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:8000", True),
        ("http://localhost:8001", False),
        ("https://localhost:8000", False),
        ("http://127.0.0.1:8000", False),
        ("http://localhost", False),
        ("null", False),
        (None, False),
    ],
)
def test_the_origin_must_be_the_very_page_with_its_port(origin, allowed):
    assert access().origin_allowed(origin, "localhost:8000") is allowed


def test_a_proxy_with_a_given_name_may_speak_tls_for_us():
    door = access(names=["Drive.example.org"])
    assert door.origin_allowed("https://drive.example.org", "drive.example.org")
    assert door.origin_allowed("http://drive.example.org", "drive.example.org")
    assert not door.origin_allowed("https://localhost:8000", "localhost:8000")
    assert not door.origin_allowed("https://evil.example", "drive.example.org")


def test_cookies_are_named_after_the_port_and_derived_from_the_token():
    door = access()
    assert (
        door.cookie_name("localhost:8123") == "matrix_8123"
        and door.cookie_name("localhost") == "matrix_80"
    )
    assert cookie_value(TOKEN) == cookie_value(TOKEN) and TOKEN not in cookie_value(TOKEN)
    good = f"other=1; matrix_8123={cookie_value(TOKEN)}"
    assert door.admits({"host": "localhost:8123", "cookie": good})
    assert not door.admits({"host": "localhost:8124", "cookie": good})
    assert not door.admits({"host": "localhost:8123", "cookie": "matrix_8123=é"})


@pytest.mark.parametrize(
    "credential", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer ü"]
)
def test_wrong_credentials_are_refused(credential):
    assert not access().admits({"authorization": credential})
    assert access().admits({"authorization": f"Bearer {TOKEN}"})


@pytest.mark.parametrize(
    "token", ["", "short", "has spaces in it, quite some", "tokén-with-an-accent"]
)
def test_weak_tokens_are_refused_in_one_line(token):
    with pytest.raises(UserError, match="^access token: expected at least 16"):
        Access(token, "127.0.0.1", secure=False)


def test_the_links_of_a_world_open_that_world_alone_and_outlive_a_restart():
    one, other = access().of_world("a1"), access().of_world("b2")
    assert one.links == access().of_world("a1").links, "a page comes back after a restart"
    tokens = [*one.links.values(), *other.links.values(), TOKEN]
    assert len(set(tokens)) == 5 and all(len(token) >= 16 for token in tokens)
    for right, token in one.links.items():
        assert one.right_of(token) == right != Right.OWNER
        assert other.right_of(token) is None and access().right_of(token) is None
        cookie = {"host": "localhost:8123", "cookie": f"matrix_8123={cookie_value(token)}"}
        assert one.admits(cookie) and not other.admits(cookie) and not access().admits(cookie)
    assert one.right_of(TOKEN) is None and access().right_of(TOKEN) == Right.OWNER
    assert one.host_allowed("localhost:8000") and not one.host_allowed("evil.example")


def test_what_a_client_may_is_what_its_token_says():
    door = access().of_world("a1")
    watch = door.links[Right.WATCHER]
    assert door.proven({}, {"token": watch}) == Right.WATCHER
    assert door.proven({"authorization": f"Bearer {door.links[Right.DRIVER]}"}, {}) == Right.DRIVER
    for hello in ({}, {"token": TOKEN}, {"token": 5}, {"token": "ü"}):
        assert door.proven({}, hello) is None

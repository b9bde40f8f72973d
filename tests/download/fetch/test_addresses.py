"""Which addresses are asked: as a person means them, and none on this side of the router."""

from __future__ import annotations

import asyncio
import ipaddress
import pickle
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from download.fetch.addresses import (
    Access,
    BadURLError,
    RefusedError,
    Resolver,
    access,
    host_of,
    normal,
    patterns_of,
    public,
    shown,
)
from etl.errors import UserError

# --- as text ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("HTTP://Example.ORG", "http://example.org/"),
        (" http://example.org/a \n", "http://example.org/a"),
        ("http://example.org:80/a", "http://example.org/a"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("https://example.org:80/a", "https://example.org:80/a"),
        ("http://example.org:/a", "http://example.org/a"),
        ("http://example.org./a", "http://example.org/a"),
        ("http://example.org/a#b", "http://example.org/a"),
        ("http://example.org/a?b=c#d", "http://example.org/a?b=c"),
        ("http://example.org/a?", "http://example.org/a?"),
        ("http://example.org?b", "http://example.org/?b"),
        ("http://bücher.example/é?ü=ß", "http://xn--bcher-kva.example/%C3%A9?%C3%BC=%C3%9F"),
        ("http://example.org/a b[1]|2.jpg", "http://example.org/a%20b%5B1%5D%7C2.jpg"),
        ("http://example.org/100%.jpg", "http://example.org/100%25.jpg"),
        ("http://example.org/%e4%BD", "http://example.org/%e4%BD"),
        ("http://example.org/../a//b;c=1,2/(3)'!*", "http://example.org/../a//b;c=1,2/(3)'!*"),
        ("http://a_b.example.org/", "http://a_b.example.org/"),
        ("http://[2001:DB8::0:1]:8080/", "http://[2001:db8::1]:8080/"),
        ("http://example.org/\udce9.jpg", "http://example.org/%E9.jpg"),
    ],
)
def test_an_address_is_written_in_one_way(given: str, expected: str) -> None:
    assert normal(given) == expected
    assert normal(expected) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.jpg",
        "//example.org/a.jpg",
        "http:/example.org",
        "http://",
        "http:///a",
        "http://a b/",
        "http://exa\tmple.org/",
        "http://example.org/\x00",
        "http://example..org/",
        "http://-a.example/",
        "http://example.org:99999/",
        "http://example.org:x/",
        "http://example.org:0/",
        "http://somebody@example.org/",
        "http://somebody:secret@example.org/",
        "http://example.org\\@evil.example/",
        "http://example.org%2f.evil.example/",
        "http://999.1.1.1/",
        "http://1.2.3.4.5/",
        "http://[::1/",
        "http://[::g]/",
        "http://exa\u200bmple.org/",
        "http://example.org\uff0fevil.example/",
        "http://example.org/" + "a" * 8_000,
        "http://example.org/" + "ä" * 2_000,  # six bytes each
        "http://" + "a" * 64 + ".example/",
    ],
)
def test_what_is_no_address_of_the_web_is_told(url: str) -> None:
    with pytest.raises(BadURLError, match=r"^bad_url$"):
        normal(url)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.org/a", "data:,a", "javascript:alert(1)", "C:\\a"]
)
def test_other_schemes_are_told(url: str) -> None:
    with pytest.raises(BadURLError, match=r"^scheme$"):
        normal(url)


@given(st.integers(0, 2**32 - 1), st.data())
def test_an_ipv4_address_is_read_as_the_system_reads_it(number: int, data: st.DataObject) -> None:
    def written(value: int) -> str:
        return data.draw(
            st.sampled_from((f"{value}", f"0x{value:x}", f"0{value:o}", f"0X{value:X}"))
        )

    octets = number.to_bytes(4, "big")
    leading = data.draw(st.integers(0, 3))
    rest = int.from_bytes(octets[leading:], "big")
    host = ".".join((*(written(octet) for octet in octets[:leading]), written(rest)))
    read = host_of(normal(f"http://{host}/"))
    assert read == str(ipaddress.IPv4Address(number))
    (*_, (system, _)), *_ = socket.getaddrinfo(host, None, family=socket.AF_INET)
    assert read == system


_TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=30)


@given(_TEXT, _TEXT)
@example("%", "%%41%4")
def test_a_path_keeps_its_meaning(path: str, query: str) -> None:
    url = normal(f"http://example.org/{path.replace('#', '')}?{query.replace('#', '')}")
    assert url.isascii()
    assert url.isprintable()
    assert " " not in url
    assert normal(url) == url
    asked, _, wanted = f"{path}?{query}".replace("#", "").rstrip(" ").partition("?")
    assert unquote_to_bytes(urlsplit(url).path) == unquote_to_bytes(f"/{asked}")
    assert unquote_to_bytes(urlsplit(url).query) == unquote_to_bytes(wanted)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_told(text: str) -> None:
    for url in (text, f"http://{text}", f"http://example.org/{text}"):
        try:
            written = normal(url)
        except BadURLError:
            continue
        assert normal(written) == written
        assert written.isascii()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://somebody:secret@example.org/a", "http://example.org/a"),
        (
            "https://s3.example/a?X-Amz-Signature=ab12&w=3",
            "https://s3.example/a?X-Amz-Signature=…&w=3",
        ),
        ("https://a.example/?w=3&token=ab#x", "https://a.example/?w=3&token=…#x"),
        ("https://a.example/?api_key=ab;sig=cd", "https://a.example/?api_key=…;sig=…"),
        (
            "https://a.example/?monkey=1&design=2&passage=3",
            "https://a.example/?monkey=1&design=2&passage=3",
        ),
        ("https://a.example/a@b?c=d@e", "https://a.example/a@b?c=d@e"),
        ("file:///etc/passwd", "file:///etc/passwd"),
    ],
)
def test_what_may_let_somebody_in_is_not_recorded(url: str, expected: str) -> None:
    assert shown(url) == expected


def test_a_host_is_found_by_all_that_it_lies_below() -> None:
    assert list(patterns_of("a.b.example")) == ["a.b.example", "*.b.example", "*.example"]


# --- as numbers ---------------------------------------------------------------------------------

#: IANA's registries, copied by hand from the tables' "Globally Reachable: False" rows, and more.
_INSIDE = (
    "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 "
    "127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 "
    "192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 "
    "224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 "
    ":: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:8.8.8.8 64:ff9b::127.0.0.1 "
    "64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::1 100::1 2001::1 2001:2::1 2001:10::1 "
    "2001:20::1 2001:db8::1 2002:7f00:1:: 2002:808:808:: 3fff::1 5f00::1 fc00::1 fd00:ec2::254 "
    "fe80::1 fec0::1 ff02::1 2606:4700::1%eth0"
)
_OUTSIDE = (
    "1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 "
    "168.63.129.15 168.63.129.17 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 "
    "198.17.255.255 198.20.0.0 223.255.255.255 "
    "2001:200::1 2606:4700::1 2a00:1450::1 2003::1 64:ff9b::8.8.8.8"
)


@pytest.mark.parametrize("text", _INSIDE.split())
def test_an_address_inside_is_not_public(text: str) -> None:
    assert not public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", _OUTSIDE.split())
def test_an_address_outside_is_public(text: str) -> None:
    assert public(ipaddress.ip_address(text))


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_no_address_is_public_that_python_knows_to_be_special(
    address: ipaddress._BaseAddress,
) -> None:
    assert isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
    if public(address) and address not in ipaddress.ip_network("64:ff9b::/96"):
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_reserved


# --- looked up ----------------------------------------------------------------------------------

Lookup = Callable[[str], list[str]]


def look(
    host: str, lookup: Lookup, *, allowances: Access | None = None, port: int = 80
) -> tuple[str, ...] | str:
    """The addresses, or the reason."""

    async def main() -> tuple[str, ...] | str:
        resolver = Resolver(allowances, lookup=lookup)
        try:
            return await resolver.lookup(host, port)
        except RefusedError as error:
            return str(error)
        finally:
            await resolver.close()

    return asyncio.run(main())


def says(*found: str) -> Lookup:
    return lambda host: list(found)


def test_a_public_host_is_connected_to() -> None:
    assert look("a.example", says("1.1.1.1", "2606:4700::1")) == ("1.1.1.1", "2606:4700::1")


def test_one_address_inside_refuses_the_whole_host() -> None:
    assert look("a.example", says("1.1.1.1", "10.0.0.1")) == "address"
    assert look("a.example", says("1.1.1.1", "::1")) == "address"


def test_an_address_as_a_host_is_checked_without_a_name_server() -> None:
    assert look("127.0.0.1", says("1.1.1.1")) == "address"
    assert look("::1", says("1.1.1.1")) == "address"
    assert look("1.1.1.1", says("10.0.0.1")) == ("1.1.1.1",)


def test_other_services_ports_are_not_asked() -> None:
    for port in (22, 25, 53, 587):
        assert look("a.example", says("1.1.1.1"), port=port) == "port"
    for port in (80, 443, 1024, 8080):
        assert look("a.example", says("1.1.1.1"), port=port) == ("1.1.1.1",)
    assert look("a.example", says("1.1.1.1"), port=81, allowances=access(["a.example"])) == (
        "1.1.1.1",
    )


def test_what_a_name_server_does_has_its_reason() -> None:
    def raises(error: Exception) -> Lookup:
        def lookup(host: str) -> list[str]:
            raise error

        return lookup

    assert look("a.example", says()) == "no_such_host"
    assert look("a.example", raises(socket.gaierror(socket.EAI_NONAME, "no"))) == "no_such_host"
    assert look("a.example", raises(socket.gaierror(socket.EAI_AGAIN, "later"))) == "dns"
    assert look("a.example", raises(OSError("no network"))) == "dns"


def test_an_allowed_host_may_lie_inside_and_no_other() -> None:
    allowed = access(["img.corp.example", "*.lab.example", "10.0.0.9", "[fd00::9]"])
    for host in ("img.corp.example", "a.lab.example", "a.b.lab.example"):
        assert look(host, says("10.0.0.9"), allowances=allowed) == ("10.0.0.9",)
    assert look("10.0.0.9", says(), allowances=allowed) == ("10.0.0.9",)
    assert look("fd00::9", says(), allowances=allowed) == ("fd00::9",)
    for host in ("corp.example", "lab.example", "evil.example"):
        assert look(host, says("10.0.0.9"), allowances=allowed) == "address"
    assert look("10.0.0.8", says(), allowances=allowed) == "address"


def test_a_host_can_be_resolved_by_the_user_and_is_checked_as_ever() -> None:
    told = access(
        [], ["a.example:1.1.1.1:8080", "*.b.example:[2606:4700::1]", "c.example:10.0.0.1"]
    )
    assert look("a.example", says("9.9.9.9"), allowances=told) == ("1.1.1.1",)
    assert look("x.b.example", says("9.9.9.9"), allowances=told) == ("2606:4700::1",)
    assert look("b.example", says("9.9.9.9"), allowances=told) == ("9.9.9.9",)
    assert look("c.example", says("9.9.9.9"), allowances=told) == "address"
    assert pickle.loads(pickle.dumps(told)) == told


@pytest.mark.parametrize(
    "text",
    ["", "a.example", "a.example:", "a.example:b.example", "a.example:::1", "a:1.1.1.1:99999"],
)
def test_a_resolve_that_says_nothing_is_told(text: str) -> None:
    with pytest.raises(UserError, match="HOST:ADDR"):
        access([], [text])


def test_an_allow_that_says_nothing_is_told(tmp_path: Path) -> None:
    for text in ("*", "*.", "a b", "http://a.example/", "a.example:80"):
        with pytest.raises(UserError, match="--allow-host"):
            access([text])
    with pytest.raises(UserError, match="--ca-file"):
        access(ca_file=tmp_path / "none.pem")
    (tmp_path / "other.pem").write_text("no certificate")
    with pytest.raises(UserError, match="holds no certificates"):
        access(ca_file=tmp_path / "other.pem")


def test_a_name_that_changes_its_address_is_checked_again() -> None:
    """DNS rebinding: public when it is checked, inside when it is connected to."""
    answers = iter((["1.1.1.1"], ["127.0.0.1"], ["127.0.0.1"]))
    now = [0.0]

    async def main() -> list[str]:
        resolver = Resolver(lookup=lambda host: next(answers), clock=lambda: now[0])
        found = []
        for seconds in (0.0, 200.0, 200.0):
            now[0] += seconds
            try:
                given = await resolver.resolve("a.example", 80)
                found.append(given[0]["host"])
            except RefusedError as error:
                found.append(str(error))
        await resolver.close()
        return found

    # for some minutes the answer that was checked is the one that is used
    assert asyncio.run(main()) == ["1.1.1.1", "1.1.1.1", "address"]


def test_no_socket_is_made_for_an_address_that_was_not_let_through() -> None:
    async def main() -> None:
        resolver = Resolver(access(["a.example"]), lookup=says("127.0.0.1"))
        where = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))
        with pytest.raises(RefusedError, match=r"^address$"):
            resolver.make_socket(where)
        await resolver.lookup("a.example", 80)
        resolver.make_socket(where).close()
        await resolver.close()

    asyncio.run(main())


def test_a_host_is_looked_up_once_for_all_who_wait() -> None:
    asked: list[str] = []

    def lookup(host: str) -> list[str]:
        asked.append(host)
        return ["1.1.1.1"]

    async def main() -> None:
        resolver = Resolver(lookup=lookup)
        await asyncio.gather(*(resolver.lookup("a.example", 80) for _ in range(50)))
        await resolver.lookup("a.example", 443)
        await resolver.close()

    asyncio.run(main())
    assert asked == ["a.example"]


def test_a_name_server_that_sleeps_is_not_waited_for() -> None:
    awake = threading.Event()

    def lookup(host: str) -> list[str]:
        awake.wait(60)
        return ["1.1.1.1"]

    async def main() -> None:
        resolver = Resolver(lookup=lookup, patience=0.01)
        with pytest.raises(RefusedError, match=r"^dns$"):
            await resolver.lookup("a.example", 80)
        awake.set()
        await resolver.close()

    asyncio.run(main())

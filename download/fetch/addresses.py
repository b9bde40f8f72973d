"""Which addresses may be asked: http and https, at hosts of the public internet only.

    url = normal("HTTP://Bücher.example:80/Bild 1.jpg#top")   # http://xn--bcher-kva.example/Bild%201.jpg
    resolver = Resolver(access(allow_host=["*.corp.example"]))
    await resolver.lookup("img.corp.example", 80)

A list of addresses from the web is not to be trusted: it may name a printer, a router or a cloud's
metadata service beside the machine that runs this, by name or by number, at once or by a redirect.
So a host is looked up here, every address that it has must be public, and a connection goes to the
address that was checked, never to one that was looked up again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

if TYPE_CHECKING:
    from aiohttp.connector import AddrInfoType

from etl.errors import UserError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Characters of an address: longer ones are refused by servers (nginx and Apache take 8 kB).
LONGEST: Final = 8_000

_PORTS: Final = {"http": 80, "https": 443}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_BARE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\Z")
#: What may stand in a path and a query as it is (RFC 3986, 3.3 and 3.4), the percent sign included.
_SAFE: Final = "%!$&'()*+,;=:@/?-._~"

#: Names of parameters whose values let somebody in, as signed addresses of object stores have them.
_SECRET = re.compile(
    r"(?i)([?&;](?:[^=&;]*[-_.])?(?:sig(?:nature)?|token|(?:api|access)?key(?:-?pair)?(?:-?id)?"
    r"|credential|secret|pass(?:word|wd)?|pwd|auth|authorization|session|sid|policy|jwt|hmac)=)"
    r"[^&;#]*"
)

# IANA's registries of special-purpose addresses (RFC 6890 and what followed), and addresses at
# which clouds answer their own machines: Azure's 168.63.129.16; the others lie in these networks.
_NOT_PUBLIC_4: Final = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
#: All that is handed out to the public (RFC 4291, 2.4), with what of it isn't: the protocols' own
#: (Teredo, benchmarking, …), documentation, 6to4.
_PUBLIC_6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    ipaddress.IPv6Network(network)
    for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)
#: An IPv4 address as networks without IPv4 write it (RFC 6052): its last 32 bits.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")

_KEPT: Final = 300.0  # seconds that an answer of the DNS is used, or that there is none
_HOSTS: Final = 20_000  # hosts whose answers are kept
_THREADS: Final = (
    32  # lookups at once: each blocks a thread, for seconds where a name server sleeps
)


class BadURLError(ValueError):
    """An address that isn't asked; its text is the reason: ``bad_url`` or ``scheme``."""


class RefusedError(Exception):
    """A host that isn't asked; its text is the reason: ``address``, ``port``, ``dns`` …"""


# --- an address as text -------------------------------------------------------------------------


def normal(url: str) -> str:
    """An address as it is asked and compared.

    Scheme and host in lower case, the host in ASCII (IDNA) and without a final dot, an IPv4 address
    in its usual form whatever it was written in, no default port, no fragment, what can't stand in
    a request percent-encoded in UTF-8; nothing else is changed.

    Raises BadURLError, also for an address with a user's name: those were meant for one person.
    """
    url = url.strip(" \t\r\n")
    scheme = _SCHEME.match(url)
    if scheme is None:
        raise BadURLError("bad_url")
    if scheme[1].lower() not in _PORTS:
        raise BadURLError("scheme")
    if len(url) > LONGEST or _CONTROL.search(url):
        raise BadURLError("bad_url")
    try:
        parts = urlsplit(url)
        host, port = _host(parts.hostname or "", parts.netloc), parts.port
        path, query = _encoded(parts.path) or "/", _encoded(parts.query)
    except ValueError:  # UnicodeError is one
        raise BadURLError("bad_url") from None
    if "@" in parts.netloc or port == 0:
        raise BadURLError("bad_url")
    at = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    question = "?" if query or url.partition("#")[0].endswith("?") else ""
    made = f"{parts.scheme}://{at}{path}{question}{query}"
    if len(made) > LONGEST:
        raise BadURLError("bad_url")
    return made


def _encoded(text: str) -> str:
    """What may stand in a request; escapes that are there stay, a percent sign alone becomes one.

    A header's bytes that aren't UTF-8 come as surrogates and are encoded as the bytes they were.
    """
    if "%" in text:
        text = _BARE_PERCENT.sub("%25", text)
    return quote(text, _SAFE, errors="surrogateescape")


def _host(name: str, netloc: str) -> str:
    """A host in ASCII, an IPv6 address in brackets.

    Raises ValueError for what is no host.
    """
    if "[" in netloc:
        return f"[{ipaddress.IPv6Address(name)}]"
    if not name.isascii():
        name = URL.build(scheme="http", host=name).raw_host or ""
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.match(labels[-1]):  # no top-level domain is one: what inet_aton reads, or nothing
        return _ipv4(name)
    if len(name) > 253 or not all(map(_LABEL.match, labels)):
        raise ValueError(name)
    return name


def _ipv4(name: str) -> str:
    """An IPv4 address in any form that C's inet_aton takes, such as 2130706433 and 0x7f.1.

    Raises ValueError.
    """
    try:
        return socket.inet_ntoa(socket.inet_aton(name))
    except OSError:
        raise ValueError(name) from None


def host_of(url: str) -> str:
    """The host of an address, an IPv6 one without brackets; ``""`` where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def target_of(url: str) -> tuple[str, int]:
    """The host and the port that an address in its :func:`normal` form is asked at."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _PORTS[parts.scheme]


def origin_of(url: str) -> str:
    """Scheme, host and port of an address in its :func:`normal` form."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0]}"


def shown(url: str) -> str:
    """An address to record: without a user's name, and without values that may let somebody in."""
    before, slashes, rest = url.partition("//")
    at = re.match(r"[^/?#]*@", rest)
    if at:
        rest = rest[at.end() :]
    return before + slashes + _SECRET.sub(r"\1…", rest)


def patterns_of(host: str) -> Iterator[str]:
    """What a host is named by in a list: its name, then ``*.`` and what it lies below."""
    yield host
    _, dot, parent = host.partition(".")
    while dot:
        yield f"*.{parent}"
        _, dot, parent = parent.partition(".")


# --- an address as a number ---------------------------------------------------------------------


def address_of(text: str) -> IPAddress | None:
    """The address that a host is; None for a name."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def public(address: IPAddress) -> bool:
    """Whether an address is of the public internet.

    IPv4 in IPv6 is looked into only where a network without IPv4 needs it (NAT64); mapped,
    compatible, 6to4 and Teredo addresses are never what a public host has.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None:
        return False
    if address in _NAT64:
        return public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return address in _PUBLIC_6 and not any(address in network for network in _NOT_PUBLIC_6)


# --- what a user allows -------------------------------------------------------------------------


@dataclass(frozen=True)
class Access:
    """What a user allows besides the public internet; can be pickled. See :func:`access`."""

    allowed: frozenset[str] = frozenset()  # names, addresses, *.name
    resolved: tuple[tuple[str, str, int], ...] = ()  # name or *.name, address, port or 0
    ca_file: Path | None = None  # certificates to trust besides the system's

    def allows(self, host: str) -> bool:
        """Whether the host may have any address and port."""
        return bool(self.allowed) and any(name in self.allowed for name in patterns_of(host))

    @property
    def leads_here(self) -> bool:
        """Whether it leads hosts to this machine, as tests do."""
        told = (*self.allowed, *(address for _, address, _ in self.resolved))
        numbers = map(address_of, told)
        return "localhost" in told or any(one is not None and one.is_loopback for one in numbers)

    def instead(self, host: str) -> tuple[str, int] | None:
        """The address and the port, or 0, that are taken in place of the DNS's answer."""
        if not self.resolved:
            return None
        table = {name: (address, port) for name, address, port in self.resolved}
        return next((table[name] for name in patterns_of(host) if name in table), None)


def access(
    allow_host: Iterable[str] = (), resolve: Iterable[str] = (), ca_file: Path | None = None
) -> Access:
    """What ``--allow-host HOST``, ``--resolve HOST:ADDR[:PORT]`` and ``--ca-file`` say.

    HOST is a name, ``*.`` and a name for all below it, or (allowed) an address; ADDR is an address,
    an IPv6 one in brackets. A host that is resolved here is checked as any other is.

    Raises UserError for one that can't be read.
    """
    if ca_file is not None:
        _check_certificates(ca_file)
    allowed = frozenset(_allowed(host) for host in allow_host)
    return Access(allowed, tuple(_resolved(text) for text in resolve), ca_file)


def _check_certificates(path: Path) -> None:
    try:
        ssl.create_default_context().load_verify_locations(path)
    except ssl.SSLError as error:
        raise UserError(f"{path} holds no certificates in PEM (--ca-file).") from error
    except OSError as error:
        raise UserError(f"{path} can't be read: {error.strerror} (--ca-file).") from error


def _allowed(text: str) -> str:
    address = address_of(text.strip("[]"))
    return str(address) if address else _pattern(text, f"--allow-host {text}")


def _resolved(text: str) -> tuple[str, str, int]:
    option = f"--resolve {text}"
    found = re.fullmatch(r"([^:\[\]]+):(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?", text)
    address = address_of(found[2] or found[3]) if found else None
    if found is None or address is None or int(found[4] or 0) > 65_535:
        raise UserError(
            f"{option} isn't HOST:ADDR or HOST:ADDR:PORT, such as img.example.org:192.0.2.1:8080; "
            "an IPv6 address stands in brackets."
        )
    return _pattern(found[1], option), str(address), int(found[4] or 0)


def _pattern(text: str, option: str) -> str:
    star, name = ("*.", text[2:]) if text.startswith("*.") else ("", text)
    try:
        return star + _host(name, name)
    except ValueError:
        raise UserError(
            f"{option}: {text!r} is neither a host's name nor *. and a name for all below it."
        ) from None


# --- looking up ---------------------------------------------------------------------------------

Lookup = Callable[[str], list[str]]


class Resolver(AbstractResolver):
    """Hosts to addresses that may be connected to; aiohttp connects to nothing else.

    Answers are kept for minutes, up to a number of hosts; one that takes longer than ``patience``
    seconds isn't waited for. To be closed.
    """

    def __init__(
        self,
        allowances: Access | None = None,
        *,
        patience: float = 20.0,
        lookup: Lookup | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._access = allowances or Access()
        self._patience = patience
        self._lookup = lookup or system_lookup
        self._clock = clock
        self._threads = ThreadPoolExecutor(_THREADS, "dns")
        self._kept: dict[str, tuple[float, tuple[str, ...], str]] = {}  # until, addresses, reason
        self._under_way: dict[str, asyncio.Future[tuple[tuple[str, ...], str]]] = {}
        self._allowed: set[str] = set()  # addresses of hosts that are allowed to have any

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """For aiohttp: as :meth:`lookup`."""
        instead = self._access.instead(host)
        at = instead[1] if instead and instead[1] else port
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=at,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in await self.lookup(host, port)
        ]

    async def lookup(self, host: str, port: int) -> tuple[str, ...]:
        """The addresses of a host, a name or an address, that may be connected to.

        Raises RefusedError: ``address`` where one of them, any, isn't public, ``port`` for a port
        below 1024 other than the web's, ``no_such_host``, ``dns``.
        """
        allowed = self._access.allows(host)
        if port < 1024 and port not in (80, 443) and not allowed:  # mail servers and the like
            raise RefusedError("port")
        kept = self._kept.get(host)
        if kept is None or kept[0] < self._clock():
            addresses, reason = await self._asked(host, allowed)
        else:
            _, addresses, reason = kept
        if reason:
            raise RefusedError(reason)
        return addresses

    async def _asked(self, host: str, allowed: bool) -> tuple[tuple[str, ...], str]:
        """Asks once for all who wait for a host."""
        under_way = self._under_way.get(host)
        if under_way is None:
            under_way = asyncio.ensure_future(self._answer(host, allowed))
            self._under_way[host] = under_way
            under_way.add_done_callback(lambda _: self._under_way.pop(host, None))
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(under_way)
        except TimeoutError:
            return (), "dns"

    async def _answer(self, host: str, allowed: bool) -> tuple[tuple[str, ...], str]:
        addresses, reason = await self._of_host(host)
        if allowed:
            self._allowed.update(addresses)
        elif not all(map(_is_public, addresses)):
            addresses, reason = (), "address"
        if reason != "dns":
            self._kept.pop(host, None)
            while len(self._kept) >= _HOSTS:
                del self._kept[next(iter(self._kept))]
            self._kept[host] = self._clock() + _KEPT, addresses, reason
        return addresses, reason

    async def _of_host(self, host: str) -> tuple[tuple[str, ...], str]:
        instead = self._access.instead(host)
        if instead is not None:
            return (instead[0],), ""
        if address_of(host) is not None:
            return (host,), ""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, self._lookup, host)
        except (OSError, UnicodeError) as error:
            gone = isinstance(error, socket.gaierror) and error.errno in _NO_SUCH_HOST
            return (), "no_such_host" if gone else "dns"
        return tuple(dict.fromkeys(found)), "" if found else "no_such_host"

    def make_socket(self, where: AddrInfoType) -> socket.socket:
        """For aiohttp: a socket to connect to an address, unless that was never let through.

        It is the last thing between a mistake in what comes before and a machine nearby.

        Raises RefusedError.
        """
        family, kind, protocol, _, sockaddr = where
        address = str(sockaddr[0])
        if address not in self._allowed and not _is_public(address):
            raise RefusedError("address")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    async def close(self) -> None:
        """Waits for nothing that is under way."""
        for under_way in tuple(self._under_way.values()):
            under_way.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


_NO_SUCH_HOST: Final = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


def _is_public(address: str) -> bool:
    return public(ipaddress.ip_address(address))


def system_lookup(host: str) -> list[str]:
    """The addresses that the system gives for a name.

    Raises OSError, or UnicodeError for what can't be a name.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [str(sockaddr[0]) for *_, sockaddr in found]

"""One request to an OpenAI-compatible server, tried until there is an answer or no hope of one.

`POST {endpoint}/chat/completions`, which vLLM, llama.cpp, Ollama and most paid servers speak.  The
key goes into the header of the request and nowhere else: it is taken out of whatever a server sends
back, however that is escaped, before anybody reads it.
"""

from __future__ import annotations

import ipaddress
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import msgspec
import requests
from urllib3.exceptions import NewConnectionError, ReadTimeoutError

from etl.errors import UserError
from etl.remote import BROKEN, cause, public, retry_after
from etl.show import printable
from graph.enrich.pace import Pace
from graph.enrich.prompts import estimated_tokens, request_text

TRIES: Final = 6  # at a server that fails or can't be reached: half a minute in all
LIMITED_TRIES: Final = 10  # at one that says how often is too often (429): four minutes in all
COSTLY_TRIES: Final = 2  # where the server had begun to answer: each may be long, and is paid for
CONNECT_SECONDS: Final = 30.0
LONGEST_REPLY: Final = 4 << 20  # bytes; ten attributes in seven categories are some 10 kB

_BACKOFF, _LONGEST_BACKOFF = 1.0, 60.0  # seconds, doubled at each try
_LONGEST_WAIT = 900.0  # seconds; a longer Retry-After is for the user to decide
_PIECE = 64 << 10
_SHORTEST_SECRET = 8  # characters; what is shorter ("none", "x") is a dummy and stands in any text
_SAID = 200  # characters of a server's own words in a message

_BUSY: Final = (408, 409, 425, 429)  # and all from 500: a later try may succeed
# How servers name the field that they don't take, in a 400 or 422.
_SCHEMA_WORDS: Final = (b"response_format", b"json_schema", b"guided_json")


class UnansweredError(Exception):
    """There is no answer to this request, and others may still have one; the message says why."""


@dataclass(frozen=True)
class Server:
    """Where to ask, and how long to wait for an answer in seconds."""

    address: str  # of chat/completions
    key: str = field(default="", repr=False)
    timeout: float = 300.0

    @property
    def host(self) -> str:
        """Host and port: what of an address may be written down."""
        return urlsplit(self.address).netloc


@dataclass(frozen=True)
class Reply:
    """What a server answered; `problem` says why there is no `content` that could be read.

    `again`: asking once more may bring an answer.
    """

    content: str
    problem: str
    again: bool
    tokens_in: int
    tokens_out: int
    estimated: bool
    served_by: str


def completions_address(endpoint: str) -> str:
    """Return the address of chat completions below an endpoint.

    An endpoint without a path gets `/v1`: http://localhost:8000 is http://localhost:8000/v1.  Any
    other path is taken as it is.

    Raises
    ------
    UserError : it is no http(s) address, or has a user, a query or a fragment.
    """
    parts = urlsplit(endpoint)
    try:
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number
        known = False
    if not known or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise UserError(
            f"{printable(endpoint[:80])!r} is not the address of a server, such as "
            "http://localhost:8000/v1."
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise UserError(
            f"--endpoint {public(endpoint)}: give it without a user, `?` and `#`; the key comes "
            "from an environment variable (--key-env)."
        )
    path = parts.path.rstrip("/") or "/v1"
    if not path.endswith("/chat/completions"):
        path += "/chat/completions"
    return f"{parts.scheme}://{parts.netloc}{path}"


def server_at(endpoint: str, key: str, *, named: bool, timeout: float) -> Server:
    """Return the server at an endpoint.

    A key that stands in the environment for another server's sake is not sent where it could be
    read on its way (http, not to this machine): it has to be `named` for that.

    Raises
    ------
    UserError : the endpoint is no address.
    """
    address = completions_address(endpoint)
    return Server(address, key if named or not _goes_in_clear(address) else "", timeout)


def _goes_in_clear(address: str) -> bool:
    """Say whether a key sent to an address could be read on its way: http, not to this machine."""
    return urlsplit(address).scheme == "http" and not _is_here(address)


def _is_here(address: str) -> bool:
    """Say whether an address is one of this machine."""
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def session_for(server: Server) -> requests.Session:
    """Make a session; it belongs to one thread."""
    session = requests.Session()
    session.headers.update(
        {
            "User-Agent": f"sparqless/{version('sparqless')}",
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # so that the limit on a reply's size is one
        }
    )

    def authorize(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if server.key:
            request.headers["Authorization"] = f"Bearer {server.key}"
        return request

    if urlsplit(server.address).scheme == "http" and _is_here(server.address):
        session.trust_env = False  # a proxy of the environment's would see prompts and key
    session.auth = authorize  # also keeps requests from sending what ~/.netrc has for the host
    return session


def ask(session: requests.Session, server: Server, body: dict[str, Any], pace: Pace) -> Reply:
    """Send a request and return the reply; waits and tries again where that may help.

    Raises
    ------
    UnansweredError : this request has no answer: it was refused, or failed too often.
    UserError : no request will have one: no such server, model or key, or a wait that is too long.
    StoppedError : the run was ended while this one waited.
    """
    data = msgspec.json.encode(body)
    attempt = costly = 0
    while True:
        pace.turn()
        attempt += 1
        asked = 0.0  # seconds
        status = 0  # until the server has said one
        try:
            with _sent(session, server, data) as response:
                status = response.status_code
                text = _received(response, server)
            if status == 200:
                pace.answered = True
                return _read(text, body, server)
            if status not in _BUSY and status < 500:
                location = response.headers.get("Location", "")
                raise _refused(server, status, text, location, answered=pace.answered)
            reason = f"HTTP {status}{_said(text, server)}"
            if b"insufficient_quota" in text:
                raise UserError(f"{server.host}: the account has no credit left ({reason}).")
            asked = retry_after(response.headers.get("Retry-After")) or 0.0
            costly += status == 504  # a gateway's word for a timeout
        except requests.Timeout as error:
            costly += not isinstance(error, requests.ConnectTimeout)
            reason = f"no answer within {server.timeout:g} s"
        except BROKEN as error:
            costly += status != 0
            closed = _is_closed(error)
            what = "no connection" if closed else "the connection broke"
            reason = f"{what} ({_safe(cause(error), server)})"
            if closed and not pace.answered:
                raise _given_up(server, status, reason) from None
        if costly >= COSTLY_TRIES:
            raise UnansweredError(reason)
        if asked > _LONGEST_WAIT:
            raise UserError(
                f"{server.host} asks to wait {asked / 60:,.0f} minutes ({reason}); run the same "
                "command again then: what is answered is kept."
            )
        if attempt >= (LIMITED_TRIES if status == 429 else TRIES):
            raise _given_up(server, status, f"{reason}, {attempt} times")
        wait = min(_BACKOFF * 2 ** (attempt - 1), _LONGEST_BACKOFF)
        # what the server asks for, or means by a 429, is meant for all of us, not this thread alone
        pace.hold(asked or (wait / 2 if status == 429 else 0.0))
        pace.back_off(wait)


def _is_closed(error: BaseException) -> bool:
    """Say whether no connection came about: nobody listens there, or there is no such host."""
    inner = error.args[0] if error.args else None
    return isinstance(getattr(inner, "reason", None), NewConnectionError)


def _given_up(server: Server, status: int, reason: str) -> Exception:
    if status not in (0, 429):
        return UnansweredError(reason)  # it is there, and can't do this one
    advice = (
        "give a lower --rate"
        if status == 429
        else "see whether it is running and whether that is its address"
    )
    return UserError(
        f"{public(server.address)}: {reason}; {advice}, and run the same command again to go on."
    )


def _sent(session: requests.Session, server: Server, data: bytes) -> requests.Response:
    try:
        return session.post(
            server.address,
            data=data,
            stream=True,
            timeout=(min(CONNECT_SECONDS, server.timeout), server.timeout),
            allow_redirects=False,  # a redirect would take prompts and key elsewhere
        )
    except BROKEN:
        raise
    except (requests.RequestException, ValueError) as error:
        said = type(error).__name__  # its text may show the header
        raise UserError(f"{public(server.address)} can't be asked ({said}).") from None


def _received(response: requests.Response, server: Server) -> bytes:
    """Return the body without the key, should the server have sent it back.

    Raises requests.Timeout where all of it takes longer than the server's timeout (some send a
    blank now and then while they work), UnansweredError where it is too long.
    """
    until = time.monotonic() + server.timeout
    text = bytearray()
    while piece := _piece(response):
        text += piece
        if len(text) > LONGEST_REPLY:
            raise UnansweredError(f"the reply is longer than {LONGEST_REPLY >> 20} MB")
        if time.monotonic() > until:
            raise requests.ReadTimeout
    return bytes(text)


@lru_cache(4)
def _pattern(key: str) -> re.Pattern[str]:
    """Match a key in a text, in JSON within JSON and in an address: any character may be escaped.

    JSON has `/`, `\\/` and `\\u002f` for one character, with more backslashes further inside; an
    address has `%2f`.
    """
    return re.compile(
        "".join(
            rf"\\{{0,8}}(?:{re.escape(c)}|u00(?i:{ord(c):02x})|%(?i:{ord(c):02x}))" for c in key
        )
    )


def _without_key(text: str, server: Server) -> str:
    if len(server.key) < _SHORTEST_SECRET:
        return text
    return _pattern(server.key).sub("[key]", text)


def _safe(text: str, server: Server) -> str:
    """Return the beginning of a text for a message: printable, in one line, without the key."""
    return printable(" ".join(_without_key(text, server).split())[:_SAID])


def _piece(response: requests.Response) -> bytes:
    try:
        return bytes(response.raw.read1(_PIECE, decode_content=False))
    except ReadTimeoutError as error:
        raise requests.ReadTimeout from error


def _refused(
    server: Server, status: int, text: bytes, location: str, *, answered: bool
) -> Exception:
    """Say what a server means that will not answer, ever or just this once.

    One that has `answered` before takes a schema, whatever an error's words are.
    """
    where = f"{public(server.address)}: HTTP {status}"
    if 300 <= status < 400:
        target = public(urljoin(server.address, _without_key(location, server)))
        return UserError(
            f"{where}: it redirects to {_safe(target, server)}, which isn't followed: prompts "
            "and key would go there. Give that address as --endpoint if you trust it."
        )
    if status in (401, 403):
        had = "the key was not accepted" if server.key else "it wants a key, and none was sent"
        return UserError(
            f"{where}: {had}; put it into the environment variable that --key-env names."
        )
    if status == 402:
        return UserError(f"{where}: the account has no credit left.")
    if status in (404, 405):
        return UserError(
            f"{where}{_said(text, server)}: there is no such model, or it is not the address of an "
            "OpenAI-compatible server; check --model and --endpoint (many end with /v1)."
        )
    schema = any(word in text.lower() for word in _SCHEMA_WORDS)
    if status in (400, 422) and schema and not answered:
        return UserError(
            f"{where}{_said(text, server)}: this server or model takes no answer's JSON schema "
            "(response_format json_schema), without which answers can't be relied on; take another."
        )
    return UnansweredError(f"HTTP {status}{_said(text, server)}")


# --------------------------------------------------------------------------------------------------
# What a server says
# --------------------------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)
    finish_reason: str | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice] = msgspec.field(default_factory=list)
    usage: msgspec.Raw = msgspec.Raw(b"null")
    model: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


def _read(text: bytes, body: dict[str, Any], server: Server) -> Reply:
    try:
        completion = msgspec.json.decode(text, type=_Completion)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = _said(text, server)
        return Reply("", f"the server sent no completion{said}", True, 0, 0, False, "")
    choice = completion.choices[0] if completion.choices else _Choice()
    content = _without_key(choice.message.content or "", server)
    cut_off = choice.finish_reason == "length"  # and would be at the next try
    problem = ""
    if cut_off:
        problem = "the answer was cut off at max_tokens, which --parameters can raise"
    elif choice.message.refusal:
        problem = f"the model refused: {_safe(choice.message.refusal, server)}"
    elif not content.strip():
        said = "" if completion.choices else _said(text, server)
        problem = f"the reply holds no answer{said}"
    usage = _usage(completion.usage)
    tokens = usage or (estimated_tokens(request_text(body)), estimated_tokens(content))
    served_by = _safe(completion.model or "", server)
    return Reply(content, problem, not cut_off, *tokens, usage is None, served_by)


def _usage(text: msgspec.Raw) -> tuple[int, int] | None:
    try:
        usage = msgspec.json.decode(text, type=_Usage)
    except (msgspec.MsgspecError, RecursionError):
        return None
    counts = usage.prompt_tokens, usage.completion_tokens
    return counts if all(0 <= count < 1 << 31 for count in counts) else None


def _said(text: bytes, server: Server) -> str:
    """Quote the server's own words, where it has some."""
    words: Any = None
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        words = msgspec.json.decode(text)
        while isinstance(words, dict):
            words = words.get("error", words.get("message", words.get("detail")))
    if not isinstance(words, str):
        words = text.decode(errors="replace")
    words = _safe(words, server)
    return f" ({words})" if words else ""

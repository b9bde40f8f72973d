"""One request to an OpenAI-compatible server, tried until there is an answer or no hope of one.

`POST {endpoint}/chat/completions`, which vLLM, llama.cpp, Ollama and most paid servers speak.  The
key goes into the header of the request and nowhere else: it is taken out of whatever a server sends
back before anybody reads that.
"""

from __future__ import annotations

import ipaddress
import time
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import msgspec
import requests
from urllib3.exceptions import ReadTimeoutError

from etl.errors import UserError
from etl.remote import BROKEN, cause, public, retry_after
from etl.show import printable
from graph.enrich.pace import Pace
from graph.enrich.prompts import estimated_tokens, request_text

TRIES: Final = 6  # at a server that is too busy or can't be reached: half a minute in all
TIMEOUT_TRIES: Final = 2  # each may be long, and may be paid for
CONNECT_SECONDS: Final = 30.0
LONGEST_REPLY: Final = 4 << 20  # bytes; ten attributes in seven categories are some 10 kB

_BACKOFF, _LONGEST_BACKOFF = 1.0, 60.0  # seconds, doubled at each try
_LONGEST_WAIT = 900.0  # seconds; a longer Retry-After is for the user to decide
_PIECE = 64 << 10
_SHORTEST_SECRET = 8  # characters; what is shorter ("none", "x") is a dummy and stands in any text
_SAID = 200  # characters of a server's own words in a message

_BUSY: Final = (408, 409, 425, 429)  # and all from 500: a later try may succeed
# How servers name the field that they don't take, in a 400 or 422.
_SCHEMA_WORDS: Final = ("response_format", "json_schema", "guided", "grammar")


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
    """What a server answered; `problem` says why there is no `content` that could be read."""

    content: str
    problem: str
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
    parts = urlsplit(address)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        return not ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True


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
    attempt = timeouts = 0
    while True:
        pace.turn()
        attempt += 1
        asked = 0.0  # seconds
        try:
            with _sent(session, server, data) as response:
                text = _received(response, server)
                status = response.status_code
            if status == 200:
                return _read(text, body)
            if status not in _BUSY and status < 500:
                raise _refused(server, status, text, response.headers.get("Location", ""))
            reason = f"HTTP {status}{_said(text)}"
            if b"insufficient_quota" in text:
                raise UserError(f"{server.host}: the account has no credit left ({reason}).")
            asked = retry_after(response.headers.get("Retry-After")) or 0.0
        except requests.Timeout as error:
            timeouts += 1
            reason, status = f"no answer within {server.timeout:g} s", 0
            if timeouts >= TIMEOUT_TRIES and not isinstance(error, requests.ConnectTimeout):
                raise UnansweredError(reason) from None
        except BROKEN as error:
            reason = f"the connection broke ({printable(cause(error))[:_SAID]})"
            status = -1
        if asked > _LONGEST_WAIT:
            raise UserError(
                f"{server.host} asks to wait {asked / 60:,.0f} minutes ({reason}); run the same "
                "command again then: what is answered is kept."
            )
        if attempt >= TRIES:
            raise _given_up(server, status, f"{reason}, {attempt} times")
        pace.hold(asked)  # all of us, not this thread alone
        pace.back_off(min(_BACKOFF * 2 ** (attempt - 1), _LONGEST_BACKOFF))


def _given_up(server: Server, status: int, reason: str) -> Exception:
    if status >= 500 or status in (408, 409, 425):
        return UnansweredError(reason)  # it is there, and can't do this one
    advice = (
        "give a lower --rate"
        if status == 429
        else "see whether it is running and that is its address"
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
    return _without_key(bytes(text), server)


def _without_key(text: bytes, server: Server) -> bytes:
    if len(server.key) < _SHORTEST_SECRET:
        return text
    return text.replace(server.key.encode(), b"[key]")


def _piece(response: requests.Response) -> bytes:
    try:
        return bytes(response.raw.read1(_PIECE, decode_content=False))
    except ReadTimeoutError as error:
        raise requests.ReadTimeout from error


def _refused(server: Server, status: int, text: bytes, location: str) -> Exception:
    """Say what a server means that will not answer, ever or just this once."""
    where = f"{public(server.address)}: HTTP {status}"
    if 300 <= status < 400:
        location = _without_key(location.encode(errors="replace"), server).decode()
        target = public(urljoin(server.address, location))
        return UserError(
            f"{where}: it redirects to {printable(target[:_SAID])}, which isn't followed: prompts "
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
            f"{where}{_said(text)}: there is no such model, or it is not the address of an "
            "OpenAI-compatible server; check --model and --endpoint (many end with /v1)."
        )
    words = text.lower()
    if status in (400, 422) and any(word.encode() in words for word in _SCHEMA_WORDS):
        return UserError(
            f"{where}{_said(text)}: this server or model takes no answer's JSON schema "
            "(response_format json_schema), without which answers can't be relied on; take another."
        )
    return UnansweredError(f"HTTP {status}{_said(text)}")


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


def _read(text: bytes, body: dict[str, Any]) -> Reply:
    try:
        completion = msgspec.json.decode(text, type=_Completion)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        said = _said(text)
        return Reply("", f"the server sent no completion{said}", 0, 0, False, "")
    choice = completion.choices[0] if completion.choices else _Choice()
    content = choice.message.content or ""
    problem = ""
    if choice.finish_reason == "length":
        problem = "the answer was cut off at max_tokens"
    elif choice.message.refusal:
        problem = f"the model refused: {printable(choice.message.refusal)[:_SAID]}"
    elif not content.strip():
        problem = f"the reply holds no answer{_said(text) if not completion.choices else ''}"
    usage = _usage(completion.usage)
    tokens = usage or (estimated_tokens(request_text(body)), estimated_tokens(content))
    served_by = printable(completion.model or "")[:_SAID]
    return Reply(content, problem, *tokens, usage is None, served_by)


def _usage(text: msgspec.Raw) -> tuple[int, int] | None:
    try:
        usage = msgspec.json.decode(text, type=_Usage)
    except (msgspec.MsgspecError, RecursionError):
        return None
    counts = usage.prompt_tokens, usage.completion_tokens
    return counts if all(0 <= count < 1 << 31 for count in counts) else None


def _said(text: bytes) -> str:
    """Quote the server's own words, where it has some."""
    words: Any = None
    with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        words = msgspec.json.decode(text)
        while isinstance(words, dict):
            words = words.get("error", words.get("message", words.get("detail")))
    if not isinstance(words, str):
        words = text[: 4 * _SAID].decode(errors="replace")
    words = printable(" ".join(words.split()))
    return f" ({words[:_SAID]})" if words else ""

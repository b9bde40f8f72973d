"""What owners say to robots is understood, in all the ways in which they say it."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from download.fetch.robots import ALL, LONGEST, LONGEST_DELAY, parse, refusal

PAGE = "https://example.org"


def says(text: str, path: str = "/a.jpg") -> str:
    return parse(text.encode()).refusal(PAGE + path)


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("", "/a.jpg", ""),
        ("<html><p>no such page: sorry</html>", "/a.jpg", ""),
        ("User-agent: *\nDisallow: /", "/a.jpg", "robots"),
        ("User-agent: *\nDisallow:", "/a.jpg", ""),
        ("user-AGENT: sparqless\r\ndisallow: /", "/a.jpg", "robots"),
        ("User-agent: SPARQLESS\nDisallow: /", "/a.jpg", "robots"),
        # our group, not the one for all
        ("User-agent: *\nDisallow: /\n\nUser-agent: sparqless\nAllow: /", "/a.jpg", ""),
        ("User-agent: sparqless\nDisallow: /b\n\nUser-agent: *\nDisallow: /", "/a.jpg", ""),
        ("User-agent: other\nUser-agent: sparqless\nDisallow: /", "/a.jpg", "robots"),
        ("User-agent: img2dataset\nUser-agent: GPTBot\nDisallow: /", "/a.jpg", ""),
        # groups of one name are one (RFC 9309, 2.2.1)
        (
            "User-agent: sparqless\nDisallow: /a\n\nUser-agent: x\nDisallow: /\n\n"
            "User-agent: sparqless\nDisallow: /b",
            "/b.jpg",
            "robots",
        ),
        # the longest rule counts, and of two alike the one that allows (2.2.2)
        ("User-agent: *\nDisallow: /\nAllow: /pictures/", "/pictures/a.jpg", ""),
        (
            "User-agent: *\nAllow: /pictures/\nDisallow: /pictures/private",
            "/pictures/private/a",
            "robots",
        ),
        ("User-agent: *\nAllow: /a\nDisallow: /a", "/a.jpg", ""),
        # * and $ (2.2.3)
        ("User-agent: *\nDisallow: /*.jpg$", "/b/a.jpg", "robots"),
        ("User-agent: *\nDisallow: /*.jpg$", "/b/a.jpg?x", ""),
        ("User-agent: *\nDisallow: /a%20b", "/a%20b.jpg", "robots"),
        # by the letters that a name begins with (2.2.1)
        ("User-agent: sparqless/1.0 (all)\nDisallow: /", "/a.jpg", "robots"),
        ("User-agent sparqless\nDisallow: /", "/a.jpg", "robots"),
        ("User-agent: spar\nDisallow: /", "/a.jpg", ""),
        ("User-agent: spar\nAllow: /\n\nUser-agent: *\nDisallow: /", "/a.jpg", "robots"),
        ("User-agent:\nDisallow: /\n\nUser-agent: *\nDisallow: /b", "/a.jpg", ""),
        ("# all\nUser-agent: * # all\nDisallow: / # all", "/a.jpg", "robots"),
        ("\ufeffUser-agent: *\nDisallow: /", "/a.jpg", "robots"),
    ],
)
def test_robots_txt_is_read_by_the_standard(text: str, path: str, expected: str) -> None:
    assert says(text, path) == expected


def test_many_agents_with_many_rules_cost_no_more_than_their_lines() -> None:
    """Each rule kept for each agent would be 300 million of them, of half a megabyte of text."""
    agents = "".join(f"user-agent: a{n}\n" for n in range(14_000))
    rules = "".join(f"allow: /{n}\n" for n in range(17_000))
    text = f"User-agent: *\nDisallow: /a\n\n{agents}{rules}".encode()
    assert LONGEST - 50_000 < len(text) < LONGEST
    tracemalloc.start()
    try:
        found = parse(text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 30 << 20
    assert found.refusal(f"{PAGE}/a.jpg") == "robots"
    assert found.refusal(f"{PAGE}/b.jpg") == ""


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("User-agent: *\nContent-Signal: search=yes,ai-train=no\nAllow: /", "/a", "robots_usage"),
        ("User-agent: *\nContent-Signal: ai-train = no", "/a", ""),  # not as it is written
        ("User-agent: *\nContent-Signal: search=no, ai-input=no", "/a", ""),
        ("User-agent: *\nContent-Signal: ai-train=yes", "/a", ""),
        ("Content-Signal: ai-train=no", "/a", "robots_usage"),
        ("User-agent: GPTBot\nContent-Signal: ai-train=no", "/a", ""),
        ("User-agent: *\nContent-Signal: ai-train=no\n\nUser-agent: sparqless\nAllow: /", "/a", ""),
        ("User-agent: *\nAllow: /\nContent-Usage: train-ai=n", "/a", "robots_usage"),
        ("User-agent: *\nAllow: /\nContent-Usage: /b train-ai=n", "/a", ""),
        ("User-agent: *\nAllow: /\nContent-Usage: /b train-ai=n", "/b/a", "robots_usage"),
        ("User-agent: *\nContent-Usage: train-ai=n\nContent-Usage: /b train-ai=y", "/b/a", ""),
        ("User-agent: *\nDisallow: /\nContent-Signal: ai-train=no", "/a", "robots"),
    ],
)
def test_who_wants_no_model_trained_is_heard(text: str, path: str, expected: str) -> None:
    assert says(text, path) == expected


def test_a_delay_is_kept_up_to_a_limit() -> None:
    assert parse(b"User-agent: *\nCrawl-delay: 2.5").delay == 2.5
    assert parse(b"User-agent: *\nCrawl-delay: 3600").delay == LONGEST_DELAY
    assert parse(b"User-agent: other\nCrawl-delay: 2").delay == 0
    assert parse(b"User-agent: *\nCrawl-delay: soon").delay == 0
    assert ALL.delay == 0


def test_of_a_file_without_end_the_beginning_counts() -> None:
    start = b"User-agent: *\nDisallow: /private\n"
    assert parse(start + b"Disallow: /more\n" * 100_000).refusal(f"{PAGE}/private") == "robots"
    cut = b"User-agent: *\nDisallow: /private\n" + b"#" * LONGEST + b"\nDisallow: /\n"
    assert parse(cut).refusal(f"{PAGE}/a") == ""


def test_bytes_of_any_kind_are_read() -> None:
    assert (
        parse(b"User-agent: *\nDisallow: /\xff\n\0Disallow: /a\n").refusal(f"{PAGE}/a") == "robots"
    )
    assert parse("User-agent: *\nDisallow: /\n".encode("utf-16")).refusal(f"{PAGE}/a") == ""


def test_a_file_of_stars_takes_no_time() -> None:
    robots = parse(b"User-agent: *\nDisallow: /" + b"*a" * 2_000 + b"b$\n")
    start = time.process_time()
    assert robots.refusal(f"{PAGE}/{'a' * 4_000}") == ""
    assert time.process_time() - start < 5  # a pattern that tries all ways would take years


# --- headers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        (["noai"], "x_robots"),
        (["noimageai"], "x_robots"),
        (["noindex"], "x_robots"),
        (["noimageindex"], "x_robots"),
        (["none"], "x_robots"),
        (["NoAI , nofollow"], "x_robots"),
        (["nofollow, noai"], "x_robots"),
        (["nofollow"], ""),
        (["noarchive, nosnippet"], ""),
        (["noaix"], ""),
        (["all"], ""),
        (["index, follow"], ""),
        (["nofollow", "noai"], "x_robots"),
        (["googlebot: noindex"], ""),
        (["googlebot: noindex, nofollow, noai"], ""),
        (["googlebot: nofollow, sparqless: noai"], "x_robots"),
        (["Sparqless: noindex"], "x_robots"),
        (["sparqless: nofollow"], ""),
        (["*: noai"], "x_robots"),
        (["googlebot: noindex", "noindex"], "x_robots"),
        (["noai, googlebot: index"], "x_robots"),
        (["unavailable_after: 25 Jun 2035 15:00:00 PST"], ""),
        (["unavailable_after: Monday, 25-Jun-35 15:00:00 UTC, noai"], "x_robots"),
        (["max-snippet: 20, noai"], "x_robots"),
        (["max-image-preview:large"], ""),
        (["googlebot:noindex"], ""),
        ([""], ""),
    ],
)
def test_x_robots_tag(values: list[str], expected: str) -> None:
    assert refusal(CIMultiDict(("x-robots-tag", value) for value in values)) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("tdm-reservation", "1", "tdm"),
        ("TDM-Reservation", " 1 ", "tdm"),
        ("tdm-reservation", "0", ""),
        ("content-usage", "train-ai=n", "usage"),
        ("content-usage", "search=y, train-ai=n", "usage"),
        ("content-usage", "train-ai=y", ""),
        ("content-usage", "search=n", ""),
    ],
)
def test_other_reservations(name: str, value: str, expected: str) -> None:
    assert refusal(CIMultiDict({name: value})) == expected


_WORDS = st.sampled_from(
    ("noai", "NoIndex", "noimageindex", "none", "all", "nofollow", "noarchive")
)
_AGENTS = st.sampled_from(("", "googlebot", "sparqless", "SPARQLESS", "*", "bing.bot"))
_FORBID = {"noai", "noindex", "noimageindex", "none"}


@given(
    st.lists(st.tuples(_AGENTS, st.lists(_WORDS, min_size=1, max_size=3)), max_size=4), st.data()
)
def test_words_belong_to_the_agent_before_them(
    said: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    """In one header each, or one after the other; the plain ones first, as they'd change hands."""
    expected = any(
        agent.lower() in ("", "*", "sparqless") and _FORBID & {word.lower() for word in words}
        for agent, words in said
    )
    parts = [
        (f"{agent}: " if agent else "") + ", ".join(words)
        for agent, words in sorted(said, key=lambda one: one[0] != "")
    ]
    headers = [", ".join(parts)] if data.draw(st.booleans()) else parts
    found = refusal(CIMultiDict(("X-Robots-Tag", value) for value in headers))
    assert (found == "x_robots") == expected

"""Asking a model: every answer once, whatever the server does, and nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import urllib3.util.connection

from etl.errors import UserError
from etl.progress import Progress
from etl.verify import verify
from graph.build import build
from graph.enrich.asking import Options, parsed_parameters
from graph.enrich.client import (
    COSTLY_TRIES,
    LIMITED_TRIES,
    LONGEST_REPLY,
    TRIES,
    completions_address,
    server_at,
)
from graph.enrich.journal import Journal, cached_prompts, model_directory, model_of
from graph.enrich.pace import Pace, StoppedError
from graph.enrich.prompts import Candidate
from graph.enrich.report import described
from graph.enrich.run import Summary, enrich, estimate
from graph.enrich.sources import sources
from graph.recipe import load
from tests.console import ROOT, run
from tests.graph import model_server
from tests.graph.model_server import (
    TOKENS_IN,
    TOKENS_OUT,
    Answer,
    ModelServer,
    completion,
    content,
    error,
    good,
    properties,
)
from tests.graph.small_dump import entity, recipe_of, store_of

MODEL = "org/name:7b"
ANIMAL, UPPER, LOWER = "Q729", "Q9000000001", "Q9000000002"
#: Best known first; each has three classes above it.
MEMBERS = [f"Q{9000000010 + n}" for n in range(12)]
#: What is asked about for types: the rest has one class above it, or none.
ASKED = {*MEMBERS, LOWER}
ALL = {*ASKED, UPPER, ANIMAL}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store and a data set of 15 entities."""
    folder = tmp_path_factory.mktemp("enrich")
    entities = [
        entity(ANIMAL, label="animal", links=200),
        entity(UPPER, label="upper", links=150, claims={"P279": [ANIMAL]}),
        entity(LOWER, label="lower", links=100, claims={"P279": [UPPER]}),
    ]
    for number, id in enumerate(MEMBERS):
        links = 90 - number
        entities.append(entity(id, label=f"thing {number}", links=links, claims={"P279": [LOWER]}))
    store = store_of(folder, entities)
    text = 'name = "r"\nlabels = ["en"]\n[[root]]\nid = "Q729"\nany = [{ path = "P279*" }]\n'
    build(store, load(str(recipe_of(folder, text))), folder / "graph", quiet=True)
    return store, folder / "graph"


@pytest.fixture
def graph(built: tuple[Path, Path], tmp_path: Path) -> Path:
    """The data set, in a directory of the test's own."""
    copy = tmp_path / "graph"
    copy.mkdir()
    for file in built[1].iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with model_server.running() as made:
        yield made


class Clock:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []
        self.lock = threading.Lock()

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        with self.lock:
            self.slept.append(seconds)
            self.now += seconds


class Asker:
    """Runs `enrich` over the small data set; waits take no time."""

    def __init__(self, built: tuple[Path, Path], graph: Path, server: ModelServer) -> None:
        self.store, self.graph, self.server = built[0], graph, server
        self.clock = Clock()
        self.directory = model_directory(graph, MODEL)

    def __call__(
        self,
        task: str = "types",
        *,
        endpoint: str = "",
        key: str = "",
        timeout: float = 60,
        **options: Any,
    ) -> Summary:
        at = server_at(endpoint or self.server.endpoint, key, named=True, timeout=timeout)
        given = Options(**{"model": MODEL, "quiet": True, **options})
        pace = Pace(given.rate, clock=self.clock.time, sleep=self.clock.sleep)
        with sources(self.graph, self.store) as (candidates, hints):
            return enrich(self.graph, task, at, given, candidates, hints, pace=pace)

    def lines(self, name: str = "types.ndjson") -> list[dict[str, Any]]:
        file = self.directory / name
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.directory / "manifest.json").read_text())
        return found


@pytest.fixture
def ask(built: tuple[Path, Path], graph: Path, server: ModelServer) -> Asker:
    return Asker(built, graph, server)


# --------------------------------------------------------------------------------------------------
# A server that answers well
# --------------------------------------------------------------------------------------------------


def test_every_entity_is_asked_about_once_and_what_it_is_answered_stands_there(ask: Asker) -> None:
    summary = ask()
    assert Counter(ask.server.entities_asked()) == dict.fromkeys(ASKED, 1)
    assert len(ask.server.asked) == len(ASKED)
    lines = ask.lines()
    assert {line["entity"] for line in lines} == ASKED
    for line in lines:  # the first candidate is the one with most sitelinks
        assert line["answer"]["natural_type"] == ANIMAL
        assert line["answer"]["natural_type_name"] == "animal"
        assert line["served_by"] == "served-model"
    assert (summary.answered, summary.failed) == (13, 0)
    assert (summary.skipped.no_candidates, summary.skipped.one_candidate) == (1, 1)
    assert ask.lines("types.failed.ndjson") == []


def test_name_and_id_are_one_choice_of_the_schema(ask: Asker) -> None:
    ask()
    for body in ask.server.asked:
        ((id, schema),) = properties(body).items()
        expected = ["Q729 animal", f"{UPPER} upper", f"{LOWER} lower"]
        assert schema["properties"]["type"]["enum"] == (expected[:2] if id == LOWER else expected)
        assert body["response_format"]["json_schema"]["strict"] is True
        assert (body["temperature"], body["seed"]) == (0, 42)


def test_visuality_is_read_and_attributes_are(ask: Asker) -> None:
    assert ask("visuality").answered == len(ALL)
    assert {line["answer"]["visual"] for line in ask.lines("visuality.ndjson")} == {True}
    assert ask("attributes").answered == len(ALL)
    answer = ask.lines("attributes.ndjson")[0]["answer"]
    assert list(answer) == [
        "Color",
        "Pattern and texture",
        "Parts",
        "Behavior and movement",
        "Shape and size",
        "Environment",
        "Other",
    ]
    assert answer["Color"] == [{"attribute": "some attribute", "query": "some search_query"}]


def test_an_answer_that_stands_is_not_paid_for_again(ask: Asker) -> None:
    ask()
    again = ask()
    assert len(ask.server.asked) == len(ASKED)
    assert (again.answered, again.skipped.answered_before) == (0, 13)
    assert again.spent.tokens_in == 0
    assert again.total.tokens_in == 13 * TOKENS_IN


@pytest.mark.parametrize(
    "other",
    [{"model": "another"}, {"parameters": {"temperature": 0.5}}, {"parameters": {"seed": 1}}],
)
def test_another_question_is_asked_anew(ask: Asker, other: dict[str, Any]) -> None:
    ask()
    assert ask(**other).answered == 13
    assert len(ask.server.asked) == 26


def test_the_best_known_are_asked_about_first_and_a_limit_takes_them(ask: Asker) -> None:
    ask("visuality", limit=5, concurrency=1)
    assert ask.server.entities_asked() == [ANIMAL, UPPER, LOWER, *MEMBERS[:2]]
    assert ask("visuality", concurrency=1).answered == 10
    assert ask.server.entities_asked()[5:] == MEMBERS[2:]


def test_a_limit_is_of_those_that_there_is_something_to_ask_about(ask: Asker) -> None:
    """Of the five best known, two have no two classes above them."""
    options = Options(model=MODEL, limit=5)
    with sources(ask.graph, ask.store) as (candidates, hints):
        expected = estimate(ask.graph, "types", options, candidates, hints)
    assert expected.entities == 5
    assert ask(limit=5, concurrency=1).answered == 5
    assert ask.server.entities_asked() == [LOWER, *MEMBERS[:4]]
    # the same command asks about no others
    assert (again := ask(limit=5)).answered == 0
    assert again.skipped.answered_before == 5
    assert ask(limit=7).answered == 2


@pytest.mark.parametrize("limit", [4, 9, 13, 100])
def test_an_estimate_from_a_part_knows_how_far_a_limit_reaches(
    ask: Asker, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    monkeypatch.setattr("graph.enrich.run._PROBED", 3)
    options = Options(model=MODEL, limit=limit)
    with sources(ask.graph, ask.store) as (candidates, hints):
        found = estimate(ask.graph, "visuality", options, candidates, hints)
        types = estimate(ask.graph, "types", options, candidates, hints)
    assert found.entities == min(limit, 15)
    assert types.entities + types.skipped.no_candidates + types.skipped.one_candidate <= 15
    assert 0 < types.entities <= limit


def test_progress_counts_what_is_asked_about(ask: Asker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int | None]] = []

    class Seen(Progress):
        def add(self, amount: int) -> None:
            super().add(amount)
            seen.append((self.done, self.total))

    monkeypatch.setattr("graph.enrich.run.Progress", Seen)
    ask(limit=3, concurrency=1)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    seen.clear()
    ask()
    assert seen[-1] == (10, 10)


def test_several_entities_may_share_a_request_and_their_answers_count_alone(ask: Asker) -> None:
    summary = ask("visuality", batch=4)
    assert sorted(map(len, map(properties, ask.server.asked))) == [3, 4, 4, 4]
    assert {line["entity"] for line in ask.lines("visuality.ndjson")} == ALL
    # shares add up to what the server counted
    assert summary.spent.requests == 4
    assert summary.spent.tokens_in == 4 * TOKENS_IN
    assert summary.spent.tokens_out == 4 * TOKENS_OUT
    assert ask("visuality", batch=1).skipped.answered_before == len(ALL)
    assert len(ask.server.asked) == 4


def test_requests_go_out_together_but_no_more_than_allowed(ask: Asker) -> None:
    together = threading.Barrier(3)

    def behave(body: dict[str, Any], number: int) -> None:
        if number < 12:
            together.wait(timeout=60)  # breaks unless three are under way at once

    ask.server.behave = behave
    assert ask(concurrency=3).answered == 13
    assert ask.server.most_at_once == 3


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_an_endpoint_is_taken_with_and_without_its_end(ask: Asker, suffix: str) -> None:
    ask(endpoint=ask.server.endpoint + suffix, limit=2)
    assert set(ask.server.paths) == {"/v1/chat/completions"}


def test_another_path_is_taken_as_it_is() -> None:
    address = completions_address("https://example.org/v1beta/openai/")
    assert address == "https://example.org/v1beta/openai/chat/completions"


@pytest.mark.parametrize(
    "endpoint",
    ["example.org", "ftp://example.org", "http://", "http://a b", "http://u:p@a", "http://a?x=1"],
)
def test_what_is_no_endpoint_is_said(endpoint: str) -> None:
    with pytest.raises(UserError, match=r"address of a server|without a user"):
        completions_address(endpoint)


def test_parameters_are_sent_and_null_leaves_one_out(ask: Asker) -> None:
    ask(parameters=parsed_parameters('{"seed": null, "top_p": 0.9}'), limit=4)
    for body in ask.server.asked:
        assert "seed" not in body
        assert body["top_p"] == 0.9


@pytest.mark.parametrize("text", ["x", "[1]", '{"model": "y"}', '{"messages": []}', "{" * 5000])
def test_parameters_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="--parameters"):
        parsed_parameters(text)


# --------------------------------------------------------------------------------------------------
# A server that answers badly
# --------------------------------------------------------------------------------------------------

BAD: dict[str, Answer] = {
    "no JSON": completion("I'd say it is an animal."),
    "half of it": completion('{"Q9000000010": {"explanation": "'),
    "no entity": completion(json.dumps({"explanation": "x", "type": "Q5 human"})),
    "wrong choice": completion(
        json.dumps({"Q9000000010": {"explanation": "x", "type": "Q5 human"}})
    ),
    "no choices": completion("", choices=[]),
    "no content": completion("", choices=[{"message": {"content": None}}]),
    "cut off": completion(
        "{}", choices=[{"message": {"content": "{}"}, "finish_reason": "length"}]
    ),
    "refusal": completion("", choices=[{"message": {"content": None, "refusal": "I won't."}}]),
    "no completion": (200, {}, b"<html>welcome</html>"),
    "an error that says 200": (200, {}, b'{"error": {"message": "overloaded"}}'),
    "huge": (200, {}, b" " * (LONGEST_REPLY + 1)),
    "deep": completion("[" * 100_000),
    "a kind of its own": (200, {}, b'{"choices": 7}'),
}


@pytest.mark.parametrize("bad", BAD)
def test_an_answer_that_cannot_be_used_is_asked_for_again_then_recorded_as_failed(
    ask: Asker, bad: str
) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        return BAD[bad] if MEMBERS[0] in properties(body) else None

    ask.server.behave = behave
    summary = ask()
    assert (summary.answered, summary.failed) == (12, 1)
    (line,) = ask.lines("types.failed.ndjson")
    assert line["entity"] == MEMBERS[0]
    assert line["reason"]
    tries = ask.server.entities_asked().count(MEMBERS[0])
    assert tries == (1 if bad in ("huge", "cut off") else 3)
    assert ("max_tokens" in line["reason"]) == (bad == "cut off")
    assert ask.manifest()["tasks"]["types"]["counts"]["failed"] == 1
    # the next run asks again
    ask.server.behave = lambda body, number: None
    assert ask().answered == 1
    assert ask.manifest()["tasks"]["types"]["counts"]["failed"] == 0
    assert ask.manifest()["tasks"]["types"]["counts"]["answered"] == 13


def test_a_second_try_says_what_was_wrong_and_its_cost_counts(ask: Asker) -> None:
    seen: set[str] = set()

    def behave(body: dict[str, Any], number: int) -> Answer | None:
        (id,) = properties(body)
        first = id not in seen
        seen.add(id)
        wrong = {id: {"explanation": "x", "type": "Q5 human"}}
        return completion(json.dumps(wrong)) if first else None

    ask.server.behave = behave
    summary = ask(concurrency=1)
    assert (summary.answered, summary.failed) == (13, 0)
    assert summary.spent.tokens_in == 26 * TOKENS_IN
    first, second = ask.server.asked[:2]
    assert "'Q5 human' is not one of the candidates" in second["messages"][-1]["content"]
    assert second["seed"] != first["seed"]


def test_of_a_shared_answer_what_is_missing_is_asked_for_again_alone(ask: Asker) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        found = content(body)
        if len(found) > 1:
            found.pop(MEMBERS[3], None)
            found["Q1"] = {"explanation": "nobody asked", "class": "visual"}
        return completion(json.dumps(found))

    ask.server.behave = behave
    assert ask("visuality", batch=15).answered == len(ALL)
    assert [sorted(properties(body)) for body in ask.server.asked[1:]] == [[MEMBERS[3]]]
    assert {line["entity"] for line in ask.lines("visuality.ndjson")} == ALL


def test_more_than_ten_attributes_are_cut_and_unknown_categories_refused(ask: Asker) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        (id,) = properties(body)
        many = [{"attribute": f"a\u00a0{n}\n\x07", "search_query": f"q{n}"} for n in range(12)]
        category = "Colour" if id == MEMBERS[0] else "Color"
        return completion(json.dumps({id: {category: many}}))

    ask.server.behave = behave
    summary = ask("attributes")
    assert (summary.answered, summary.failed) == (14, 1)
    assert "'Colour' is not one of the categories" in summary.last_reason
    items = ask.lines("attributes.ndjson")[0]["answer"]["Color"]
    assert [item["attribute"] for item in items] == [f"a {n}" for n in range(10)]


def test_any_script_survives(ask: Asker) -> None:
    words = "grün-weiß 3½ می‌خواهم 犬 𐌷𐌿𐌽𐌳𐍃 🐕‍🦺"

    def behave(body: dict[str, Any], number: int) -> Answer:
        (id,) = properties(body)
        item = {"attribute": words, "search_query": words}
        return completion(json.dumps({id: {"Color": [item]}}))

    ask.server.behave = behave
    ask("attributes", limit=1)
    (line,) = ask.lines("attributes.ndjson")
    assert line["answer"] == {"Color": [{"attribute": words, "query": words}]}


def test_tokens_are_estimated_where_a_server_counts_none(ask: Asker) -> None:
    ask.server.behave = lambda body, number: completion(json.dumps(content(body)), usage=None)
    summary = ask(price_in=1.0, price_out=2.0)
    assert summary.spent.estimated == 13
    sent = sum(len(m["content"]) for body in ask.server.asked for m in body["messages"])
    assert sent / 5 < summary.spent.tokens_in < sent
    expected = summary.spent.tokens_in + 2 * summary.spent.tokens_out
    assert summary.cost == pytest.approx(expected / 1e6)


def test_a_run_ends_when_too_many_fail_and_keeps_what_it_has(ask: Asker) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        return completion("no") if set(MEMBERS[:3]) & set(properties(body)) else None

    ask.server.behave = behave
    with pytest.raises(UserError, match="more than --max-failures"):
        ask(max_failures=0, concurrency=1)
    kept = {line["entity"] for line in ask.lines()}
    assert LOWER in kept
    assert not (ask.directory / "manifest.json").exists()
    assert ask(max_failures=3).failed == 3


def test_a_model_that_knows_no_schema_is_given_up_before_it_costs_much(ask: Asker) -> None:
    ask.server.behave = lambda body, number: completion("```json\n{}\n```")
    with pytest.raises(UserError, match=f"none of the first 10 .*{MODEL}"):
        ask(concurrency=1)
    assert len(ask.server.asked) <= 3 * 11


# --------------------------------------------------------------------------------------------------
# A server that refuses, is slow, breaks off or isn't there
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "message", "sentence"),
    [
        (401, "Incorrect API key provided", "key was not accepted"),
        (403, "no", "key was not accepted"),
        (402, "", "no credit"),
        (404, "The model does not exist", r"does not exist.*check --model and --endpoint"),
        (400, "'response_format.type' must be 'text'", "takes no answer's JSON schema"),
        (422, "json_schema: extra fields not permitted", "takes no answer's JSON schema"),
        (429, "insufficient_quota", "no credit"),
    ],
)
def test_a_refusal_that_is_final_ends_the_run_at_once(
    ask: Asker, status: int, message: str, sentence: str
) -> None:
    ask.server.behave = lambda body, number: error(status, message)
    with pytest.raises(UserError, match=sentence):
        ask(key="sk-abcdefghij", concurrency=2)
    assert len(ask.server.asked) <= 2
    assert ask.clock.slept == []
    assert not list(ask.directory.glob("*.ndjson"))


def test_a_request_that_is_refused_for_itself_fails_alone(ask: Asker) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        return error(400, "content policy") if MEMBERS[0] in properties(body) else None

    ask.server.behave = behave
    assert ask().answered == 12
    (line,) = ask.lines("types.failed.ndjson")
    assert line["reason"] == "HTTP 400 (content policy)"
    assert ask.server.entities_asked().count(MEMBERS[0]) == 1


def test_a_redirect_is_not_followed(ask: Asker) -> None:
    with model_server.running() as other:
        target = f"{other.endpoint}/v1/sk-abcdefghij"
        ask.server.behave = lambda body, number: error(307, "", Location=target)
        with pytest.raises(UserError, match=r"redirects to .*/v1/\[key\], which isn't followed"):
            ask(key="sk-abcdefghij")
        assert other.asked == []


def test_retry_after_is_honoured_and_the_answer_comes(ask: Asker) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        return error(429, "slow down", Retry_After="7") if number == 0 else None

    ask.server.behave = behave
    assert ask(concurrency=1).answered == 13
    assert ask.clock.now >= 7
    assert len(ask.server.asked) == 14


def test_a_wait_that_is_too_long_is_the_users_to_decide(ask: Asker) -> None:
    ask.server.behave = lambda body, number: error(503, "", Retry_After="86400")
    with pytest.raises(UserError, match="asks to wait 1,440 minutes"):
        ask()


def test_errors_of_the_server_are_waited_out_longer_each_time(ask: Asker) -> None:
    ask.server.behave = lambda body, number: error(500, "oops") if number < 3 else None
    assert ask(concurrency=1).answered == 13
    first, second, third = ask.clock.slept
    assert 0.5 <= first <= 1 <= second <= 2 <= third <= 4


def test_a_server_that_is_always_too_busy_ends_the_run(ask: Asker) -> None:
    ask.server.behave = lambda body, number: error(429, "slow down")
    with pytest.raises(UserError, match=r"429.*lower --rate"):
        ask(concurrency=1)
    assert len(ask.server.asked) == LIMITED_TRIES
    assert 120 < ask.clock.now < 600


def test_words_about_a_schema_end_no_run_that_has_had_answers(ask: Asker) -> None:
    """A server may quote the prompt, which may speak of anything."""

    def behave(body: dict[str, Any], number: int) -> Answer | None:
        return error(400, "no: json_schema") if MEMBERS[0] in properties(body) else None

    ask.server.behave = behave
    summary = ask(concurrency=1)
    assert (summary.answered, summary.failed) == (12, 1)


@pytest.mark.parametrize("words", ["grammar of a language", "guided missile"])
def test_words_of_a_prompt_are_not_about_a_schema(ask: Asker, words: str) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        return error(400, f"bad prompt: {words}") if number == 0 else None

    ask.server.behave = behave
    summary = ask(concurrency=1)
    assert (summary.answered, summary.failed) == (12, 1)


@pytest.mark.parametrize("status", [200, 504])
def test_what_always_fails_after_it_was_paid_for_is_asked_twice_and_fails_alone(
    ask: Asker, status: int
) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        if MEMBERS[0] not in properties(body):
            return None
        if status != 200:
            return error(status, "upstream timed out")
        _, headers, text = good(body)
        return status, {**headers, "Content-Length": str(len(text) + 9)}, text[:-9]

    ask.server.behave = behave
    summary = ask()
    assert (summary.answered, summary.failed) == (12, 1)
    assert ask.server.entities_asked().count(MEMBERS[0]) == COSTLY_TRIES


def test_a_request_that_always_breaks_the_server_fails_alone(ask: Asker) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        return error(500, "oops") if MEMBERS[0] in properties(body) else None

    ask.server.behave = behave
    assert (ask().failed, len(ask.lines())) == (1, 12)
    assert ask.server.entities_asked().count(MEMBERS[0]) == TRIES


def test_a_server_that_is_too_slow_is_asked_twice_and_not_waited_for(ask: Asker) -> None:
    enough = threading.Event()

    def behave(body: dict[str, Any], number: int) -> Answer | None:
        enough.wait(60)
        return None

    ask.server.behave = behave
    try:
        summary = ask(timeout=0.5, limit=1)  # alone: any other might be too slow here, too
    finally:
        enough.set()
    assert (summary.answered, summary.failed) == (0, 1)
    assert summary.last_reason == f"{LOWER}: no answer within 0.5 s"
    assert ask.server.entities_asked() == [LOWER] * COSTLY_TRIES


def test_a_connection_that_breaks_in_the_middle_is_made_again(ask: Asker) -> None:
    def behave(body: dict[str, Any], number: int) -> Answer | None:
        if number:
            return None
        status, headers, text = good(body)
        return status, {**headers, "Content-Length": str(len(text) + 9)}, text[:-9]

    ask.server.behave = behave
    assert ask(concurrency=1).answered == 13
    assert len(ask.server.asked) == 14


def test_a_server_that_is_not_there_is_one_sentence(ask: Asker) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and never listens
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(UserError, match="see whether it is running and whether that is its"):
            ask(endpoint=endpoint)
    assert ask.clock.slept == []  # nobody has ever answered there: no use in waiting
    assert not (ask.graph / "enrich").exists()


def test_a_server_that_has_answered_is_waited_for_when_it_is_gone(
    ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is restarted, say: the connection is refused a few times."""
    connect, refusals = urllib3.util.connection.create_connection, iter(range(3))

    def refused_at_times(*arguments: Any, **more: Any) -> socket.socket:
        if ask.server.asked and next(refusals, None) is not None:
            raise ConnectionRefusedError
        return connect(*arguments, **more)

    def behave(body: dict[str, Any], number: int) -> Answer | None:
        status, headers, text = good(body)
        return status, {**headers, "Connection": "close"}, text

    monkeypatch.setattr("urllib3.util.connection.create_connection", refused_at_times)
    ask.server.behave = behave
    assert ask(concurrency=1).answered == 13
    assert len(ask.clock.slept) == 3


def test_a_record_that_cannot_be_read_ends_the_run_and_loses_no_answer(ask: Asker) -> None:
    server = server_at(ask.server.endpoint, "", named=True, timeout=60)
    options = Options(model=MODEL, quiet=True, concurrency=1)
    with sources(ask.graph, ask.store) as (candidates, hints):

        def broken(id: str) -> list[Candidate]:
            if id == MEMBERS[4]:
                raise UserError("what it has of it can't be read")
            return candidates(id)

        with pytest.raises(UserError, match="can't be read"):
            enrich(ask.graph, "types", server, options, broken, hints)
    assert [line["entity"] for line in ask.lines()] == [LOWER, *MEMBERS[: len(ask.lines()) - 1]]
    assert len(ask.server.asked) == len(ask.lines()) >= 1


def test_what_is_under_way_when_a_run_ends_is_kept(ask: Asker) -> None:
    """Two requests are out; one is refused for good, and the other's answer is paid for."""
    refused = threading.Event()

    def behave(body: dict[str, Any], number: int) -> Answer | None:
        if LOWER in properties(body):
            refused.wait(60)
            return None
        refused.set()
        return error(401, "no")

    ask.server.behave = behave
    with pytest.raises(UserError, match="401"):
        ask(concurrency=2)
    assert [line["entity"] for line in ask.lines()] == [LOWER]


# --------------------------------------------------------------------------------------------------
# The rate
# --------------------------------------------------------------------------------------------------


def test_a_rate_spaces_requests_of_all_threads(ask: Asker) -> None:
    ask(rate=2.0)
    assert ask.clock.now >= 12 / 2  # thirteen requests


def test_turns_come_at_the_rate_and_not_before_what_holds_them() -> None:
    clock = Clock()
    pace = Pace(4.0, clock=clock.time, sleep=clock.sleep)
    times = []
    for _ in range(3):
        pace.turn()
        times.append(clock.now)
    assert times == [0, 0.25, 0.5]
    pace.hold(10)
    pace.turn()
    assert clock.now == 10.5
    clock.now = 100.0  # a pause is not made up for
    for _ in range(2):
        pace.turn()
    assert clock.now == 100.25
    pace.stop()
    with pytest.raises(StoppedError):
        pace.turn()


def test_a_stop_ends_a_wait() -> None:
    pace, ended = Pace(), threading.Event()
    pace.hold(3600)

    def wait() -> None:
        with pytest.raises(StoppedError):
            pace.turn()
        ended.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    pace.stop()
    assert ended.wait(60)


# --------------------------------------------------------------------------------------------------
# On disk
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model", [MODEL, "gpt-4o", "..", ".", "../../x", "a b%2F", "模型/é", "c:\\x", "~", "A%"]
)
def test_a_models_directory_is_one_below_enrich_and_tells_its_name(model: str) -> None:
    directory = model_directory(Path("g"), model)
    assert directory.parent == Path("g/enrich")
    assert re.fullmatch(r"[A-Za-z0-9_~%-][A-Za-z0-9_.~%-]*", directory.name)
    assert model_of(directory) == unquote(directory.name) == model


@pytest.mark.parametrize("model", ["", "x" * 300, "a\nb", "\x00", "\ud800"])
def test_what_is_no_models_name_is_said(model: str) -> None:
    with pytest.raises(UserError, match="can't be a model's name"):
        model_directory(Path("g"), model)


def test_the_manifest_lists_what_has_ended_and_verify_agrees(ask: Asker) -> None:
    ask(price_in=1.0, price_out=2.0)
    ask("visuality")
    manifest = ask.manifest()
    assert manifest["model"] == MODEL
    assert set(manifest["tasks"]) == {"types", "visuality"}
    types = manifest["tasks"]["types"]
    assert types["host"] == ask.server.endpoint.removeprefix("http://")
    assert types["counts"]["tokens_in"] == 13 * TOKENS_IN
    assert types["cost"] == pytest.approx(13 * (TOKENS_IN + 2 * TOKENS_OUT) / 1e6)
    assert set(manifest["outputs"]) == {"types.ndjson", "visuality.ndjson"}
    assert not [check for check in verify(ask.directory) if check.problem]
    # while a task is under way, what stands there is still true of the other
    ask.server.behave = lambda body, number: error(401, "no")
    with pytest.raises(UserError):
        ask(parameters={"seed": 7})
    assert set(ask.manifest()["tasks"]) == {"visuality"}
    assert not [check for check in verify(ask.directory) if check.problem]


def test_a_cut_last_line_is_dropped_and_asked_for_again(ask: Asker) -> None:
    ask()
    file = ask.directory / "types.ndjson"
    whole = file.read_bytes()
    for cut in (1, 40, len(whole.splitlines()[-1])):
        file.write_bytes(whole[:-cut])
        assert ask().answered == 1
        assert sorted(file.read_bytes().splitlines()) == sorted(whole.splitlines())
    file.write_bytes(b'{"entity":"Q1"')
    assert ask().answered == 13


@pytest.mark.parametrize(
    "text", ["x", "[]", '{"entity":"dog","prompt":""}', '{"entity":"Q1","prompt":"00"}', "{" * 9999]
)
def test_a_damaged_line_is_named_and_nothing_is_asked(ask: Asker, text: str) -> None:
    ask()
    file = ask.directory / "types.ndjson"
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], text, *lines[1:]]) + "\n")
    asked = len(ask.server.asked)
    with pytest.raises(UserError, match=r"types\.ndjson, line 2"):
        ask()
    assert len(ask.server.asked) == asked


def test_two_runs_on_one_model_refuse_each_other(ask: Asker) -> None:
    with Journal(ask.directory, "visuality"), pytest.raises(UserError, match="another"):
        ask()
    assert ask().answered == 13


def test_a_data_set_that_is_built_again_keeps_its_answers(ask: Asker) -> None:
    ask()
    build(ask.store, load(str(ask.store.parent / "test.toml")), ask.graph, quiet=True)
    assert ask().skipped.answered_before == 13
    assert len(ask.server.asked) == 13


def test_answers_are_appended_and_never_rewritten(ask: Asker) -> None:
    sizes = []
    file = ask.directory / "types.ndjson"

    def behave(body: dict[str, Any], number: int) -> None:
        sizes.append((file.stat().st_ino, file.stat().st_size) if file.exists() else None)

    ask.server.behave = behave
    ask(concurrency=1)
    inodes, lengths = zip(*filter(None, sizes), strict=True)
    assert len(set(inodes)) == 1
    assert list(lengths) == sorted(lengths)
    assert lengths[-1] > 0  # on the disk before the run's end


def test_a_killed_run_goes_on_and_pays_for_no_answer_twice(
    built: tuple[Path, Path], graph: Path, server: ModelServer
) -> None:
    """SIGKILL while two requests are out: their answers are lost, the written ones are not."""
    reached, free = threading.Event(), threading.Event()

    def behave(body: dict[str, Any], number: int) -> None:
        if number == 7:
            reached.set()
        if number >= 6:
            free.wait(60)

    server.behave = behave
    words = f"enrich types --graph {graph} --store {built[0]} --endpoint {server.endpoint} "
    words += f"--model {MODEL} --concurrency 2 --json"
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", *words.split()],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    try:
        assert reached.wait(60)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        free.set()
    kept = len(cached_prompts(model_directory(graph, MODEL), "types"))
    assert 4 <= kept <= 6
    server.behave = lambda body, number: None
    done = run(words, graph)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["spent"]["answered"] == found["total"]["answered"] - kept == 13 - kept
    counted = Counter(server.entities_asked())
    assert set(counted) == ASKED
    assert sum(counted.values()) == 8 + 13 - kept


@pytest.mark.parametrize("patient", [True, False])
def test_an_interrupted_run_keeps_what_is_under_way_unless_it_is_interrupted_again(
    built: tuple[Path, Path], graph: Path, server: ModelServer, patient: bool
) -> None:
    reached, free = threading.Barrier(3), threading.Event()

    def behave(body: dict[str, Any], number: int) -> None:
        reached.wait(60)
        free.wait(60)

    server.behave = behave
    words = f"enrich types --graph {graph} --store {built[0]} --endpoint {server.endpoint} "
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "import cli; cli.main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words.split(), "--model", "m", "--concurrency", "2"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        reached.wait(60)
        process.send_signal(signal.SIGINT)
        said = process.stderr.readline()
        if patient:
            free.set()
        else:
            process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=60)
    finally:
        free.set()
        process.kill()
    assert process.returncode == 130
    assert said == "Waiting for answers that are on their way; Ctrl-C again ends at once.\n"
    assert "Run the same command again" in rest
    assert len(cached_prompts(model_directory(graph, "m"), "types")) == (2 if patient else 0)
    assert len(server.asked) == 2


# --------------------------------------------------------------------------------------------------
# The key, and the command
# --------------------------------------------------------------------------------------------------

KEY = "sk-VerySecret/Key+0123456789="


def escaped(key: str, how: str) -> str:
    """A key as it may stand in JSON: there are many ways to write a character."""
    return {
        "plain": key,
        "slash": key.replace("/", "\\/"),
        "all": "".join(f"\\u{ord(c):04X}" for c in key),
    }[how]


@pytest.mark.parametrize("how", ["plain", "slash", "all"])
def test_the_key_goes_to_the_server_and_nowhere_else(
    built: tuple[Path, Path],
    graph: Path,
    server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """Not even where the server sends it back, in an answer or an error, in whatever escapes."""
    monkeypatch.setenv("MY_KEY", KEY)

    def outside(answer: Answer) -> Answer:
        status, headers, text = answer
        return status, headers, text.replace(b"KEY", escaped(KEY, how).encode())

    def behave(body: dict[str, Any], number: int) -> Answer | None:
        (id,) = properties(body)
        if id == MEMBERS[0]:
            return outside(error(400, f"{'x' * 190} KEY"))  # where a message is cut
        if id == MEMBERS[1]:
            return outside(completion("not JSON KEY", model="KEY"))
        if id == MEMBERS[2]:
            return outside(completion(json.dumps({id: {"type": "KEY", "explanation": "x"}})))
        found = content(body)
        found[id]["explanation"] = "your key is KEY"
        inside = json.dumps(found).replace("KEY", escaped(KEY, how))  # JSON within JSON
        return completion(inside, model="KEY") if id == LOWER else outside(completion(inside))

    server.behave = behave
    words = f"enrich types --graph {graph} --store {built[0]} --endpoint {server.endpoint} "
    words += "--model m --key-env MY_KEY"
    done = run(words, graph)
    assert done.returncode == 0, done.stderr
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    server.behave = lambda body, number: outside(error(401, "Incorrect key KEY"))
    refused = run(f"{words} --parameters {{}} --batch 2", graph)
    assert refused.returncode == 1
    written = [file.read_text() for file in (graph / "enrich").rglob("*") if file.is_file()]
    lines = [line for text in written for line in text.splitlines() if text.count("\n") > 1]
    decoded = [str(json.loads(line)) for line in lines if line.startswith('{"')]
    assert len(decoded) == len(ASKED)
    for text in (done.stdout, done.stderr, refused.stdout, refused.stderr, *written, *decoded):
        for part in (KEY, KEY[:11], KEY[-11:], escaped(KEY, how)):
            assert part not in text
    assert any("[key]" in text for text in written)


def test_a_key_in_the_environment_is_not_sent_in_clear_unless_it_is_named() -> None:
    def key_for(endpoint: str, *, named: bool) -> str:
        return server_at(endpoint, KEY, named=named, timeout=1).key

    assert key_for("https://api.example.org", named=False) == KEY
    assert key_for("http://localhost:8000", named=False) == KEY
    assert key_for("http://127.0.0.1:8000", named=False) == KEY
    assert key_for("http://[::1]:8000", named=False) == KEY
    assert key_for("http://gpu.example.org:8000", named=False) == ""
    assert key_for("http://gpu.example.org:8000", named=True) == KEY
    assert KEY not in repr(server_at("https://api.example.org", KEY, named=True, timeout=1))


def test_netrc_is_not_asked_for_a_password(
    ask: Asker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    ask(limit=4)
    assert all("Authorization" not in headers for headers in ask.server.headers)


def test_a_proxy_does_not_see_what_goes_to_this_machine(
    ask: Asker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with model_server.running() as proxy:
        monkeypatch.setenv("http_proxy", proxy.endpoint)
        monkeypatch.setenv("no_proxy", "")
        assert ask(limit=4, key=KEY).failed == 0
        assert proxy.asked == []


def test_settings_stand_in_for_options_and_the_table_says_what_was_done(
    built: tuple[Path, Path], graph: Path, server: ModelServer
) -> None:
    folder = graph.parent
    words = f"enrich types --graph {graph} --store {built[0]}"
    for missing in ("--model", "--endpoint"):
        given = "" if missing == "--model" else "--model m"
        done = run(f"{words} {given}", folder)
        assert done.returncode == 1
        assert f"give {missing}" in done.stderr
    (folder / "sparqless.toml").write_text(
        f'endpoint = "{server.endpoint}"\nmodel = "m"\nkey_env = "NOT_SET"\n'
    )
    done = run(words, folder)
    assert done.returncode == 1
    assert "NOT_SET (--key-env) is not set" in done.stderr
    (folder / "sparqless.toml").write_text(f'endpoint = "{server.endpoint}"\nmodel = "m"\n')
    done = run(f"{words} --price-in 1000000", folder)
    assert done.returncode == 0, done.stderr
    host = server.endpoint.removeprefix("http://")
    assert f"Asking {host}, the endpoint of sparqless.toml." in done.stderr
    assert re.search(r"^answered +13  13 in all$", done.stdout, re.MULTILINE)
    assert re.search(r"^cost +1,313\.00", done.stdout, re.MULTILINE)
    assert server.asked[0]["model"] == "m"


def test_a_store_of_another_data_set_is_refused(graph: Path, tmp_path: Path) -> None:
    other = store_of(tmp_path / "other", [entity("Q1")])
    done = run(f"enrich types --graph {graph} --store {other} --model m --dry-run", tmp_path)
    assert done.returncode == 1
    assert "was not built from" in done.stderr


def test_a_dry_run_shows_prompts_sends_nothing_and_estimates_what_a_run_takes(ask: Asker) -> None:
    options = Options(model=MODEL, batch=2, price_in=1.0, price_out=1.0)
    with sources(ask.graph, ask.store) as (candidates, hints):
        expected = estimate(ask.graph, "types", options, candidates, hints)
    assert (expected.entities, expected.requests) == (13, 7)
    assert "Q9000000010: thing 0" in expected.prompts[1]
    *_, told = described(expected, options)
    assert told.startswith(
        "Would ask about 13 entities (left out: 1 without a class above them, 1 with one class "
        "above them) in 7 requests, about "
    )
    assert ask.server.asked == []
    assert not (ask.graph / "enrich").exists()
    ask(batch=2)
    sent = sum(len(json.dumps(body)) for body in ask.server.asked)
    assert sent / 8 < expected.tokens_in < sent / 2
    assert expected.cost == pytest.approx((expected.tokens_in + expected.tokens_out) / 1e6)
    with sources(ask.graph, ask.store) as (candidates, hints):
        left = estimate(ask.graph, "types", options, candidates, hints)
    assert (left.entities, left.skipped.answered_before) == (0, 13)

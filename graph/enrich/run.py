"""Ask a model about the entities of a data set, many at once, and write down what it answers.

    sparqless enrich types --graph data/graph/living --store data/store \\
        --endpoint http://localhost:8000/v1 --model Qwen/Qwen2.5-7B-Instruct

Prompts are made and answers written by the thread that calls :func:`enrich`; the others only talk
to the server.  An entity whose prompt has been answered before is not asked about again, and one
that is answered is done: one request an entity where all goes well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from etl.batches import batched
from etl.manifest import MANIFEST, digests, flush, read_manifest, tool_versions, write_manifest
from etl.progress import Progress
from graph.enrich.asking import Asked, Asking, Options, body_about
from graph.enrich.client import Server
from graph.enrich.journal import (
    Journal,
    Line,
    Tally,
    answers_file,
    cached_prompts,
    failures_file,
    model_directory,
    tally,
)
from graph.enrich.pace import Pace
from graph.enrich.prompts import (
    ATTRIBUTES,
    DEFAULT_PARAMETERS,
    TASKS,
    TYPES,
    VISUALITY,
    Candidate,
    Hint,
    Question,
    Subject,
    Task,
    attributes_question,
    estimated_tokens,
    expected_answer,
    prompt_hash,
    request_text,
    type_question,
    visuality_question,
)
from graph.enrich.sources import Subjects
from graph.read import manifest_of

ENRICH_FORMAT: Final = 1  # version of what stands in a model's directory

_PROBED = 1000  # entities that an estimate is made from
_SHOWN = 2  # of their prompts

Candidates = Callable[[str], list[Candidate]]
Hints = Callable[[str], list[Hint]]


@dataclass
class Skipped:
    """Entities that are not asked about, by the reason."""

    answered_before: int = 0
    no_candidates: int = 0
    one_candidate: int = 0  # nothing to choose: the graph's own rule takes it too
    not_visual: int = 0


@dataclass(frozen=True)
class Summary:
    """What a run did, and what stands in the files after it."""

    directory: Path
    task: str
    skipped: Skipped
    spent: Tally  # by this run
    total: Tally  # by all runs
    cost: float  # of `spent`
    total_cost: float  # of `total`, at this run's prices
    last_reason: str  # of a failure

    @property
    def answered(self) -> int:
        """Entities that this run got an answer about."""
        return self.spent.answered

    @property
    def failed(self) -> int:
        """Entities that this run asked about in vain."""
        return self.spent.failed


@dataclass(frozen=True)
class Estimate:
    """What a run would take, from a look at some of its entities."""

    entities: int  # that would be asked about
    skipped: Skipped
    requests: int
    tokens_in: int
    tokens_out: int
    cost: float
    prompts: tuple[str, ...]  # what all requests begin with, then the first requests' own texts


# --------------------------------------------------------------------------------------------------
# What is asked
# --------------------------------------------------------------------------------------------------


def _question(
    task: Task, subject: Subject, candidates: Candidates, hints: Hints, skipped: Skipped
) -> Question | None:
    """Put an entity into words; None where there is nothing to ask, which `skipped` counts."""
    if task is TYPES:
        found = candidates(subject.id)
        if not found:
            skipped.no_candidates += 1
        elif len(found) == 1:
            skipped.one_candidate += 1
        else:
            return type_question(subject, found)
        return None
    if task is VISUALITY:
        return visuality_question(subject, candidates(subject.id))
    return attributes_question(subject, hints(subject.id))


def _to_ask(
    task: Task,
    subjects: Iterable[Subject],
    candidates: Candidates,
    hints: Hints,
    options: Options,
    answered: set[bytes],
    skipped: Skipped,
) -> Iterator[Asked]:
    """Yield what is to be asked about the first `options.limit` that there is a question about."""
    questions = 0
    for subject in subjects:
        if questions == options.limit:
            return
        question = _question(task, subject, candidates, hints, skipped)
        if question is None:
            continue
        questions += 1
        prompt = prompt_hash(task, question, options.model, options.parameters)
        if bytes.fromhex(prompt) in answered:
            skipped.answered_before += 1
        else:
            yield Asked(question, prompt)


def _subjects(graph: Path, task: Task, options: Options) -> Subjects:
    # no image is looked for of what can't be seen, so its attributes would be paid for in vain
    return Subjects(graph, limit=options.limit, visible=task is ATTRIBUTES)


def _left(subjects: Subjects, options: Options, skipped: Skipped) -> int:
    """Return how many are asked about at the most, given what was left out so far."""
    questions = len(subjects) - skipped.no_candidates - skipped.one_candidate
    return min(questions, options.limit or questions) - skipped.answered_before


def estimate(
    graph: Path, task_name: str, options: Options, candidates: Candidates, hints: Hints
) -> Estimate:
    """Say what :func:`enrich` would ask and what it would cost; nothing is sent or written.

    Exact in the number of entities up to 1,000 of them, or with a limit up to that; of more, as
    many are looked at.  Tokens are estimated from the length of the texts.
    """
    task = TASKS[task_name]
    subjects = _subjects(graph, task, options)
    answered = cached_prompts(model_directory(graph, options.model), task.name)
    skipped = Skipped(not_visual=subjects.not_visual)
    exact = options.limit is not None and options.limit <= _PROBED
    probed = subjects if exact else subjects.spread(_PROBED, options.limit)
    asked = list(_to_ask(task, probed, candidates, hints, options, answered, skipped))
    batches = list(batched(asked, options.batch))
    bodies = [body_about(task, batch, options) for batch in batches]
    questions = len(asked) + skipped.answered_before
    scale = 1.0 if exact else _scale(subjects, options, questions)
    for reason in ("answered_before", "no_candidates", "one_candidate"):
        setattr(skipped, reason, round(getattr(skipped, reason) * scale))
    entities = round(len(asked) * scale)
    sums = Tally(
        tokens_in=round(sum(estimated_tokens(request_text(body)) for body in bodies) * scale),
        tokens_out=entities * expected_answer(task),
    )
    return Estimate(
        entities,
        skipped,
        -(-entities // options.batch),
        sums.tokens_in,
        sums.tokens_out,
        sums.cost(options.price_in, options.price_out),
        tuple(_shown(bodies[:_SHOWN])),
    )


def _scale(subjects: Subjects, options: Options, questions: int) -> float:
    """Return how many entities a run would go through for each that was probed."""
    looked_at = min(_PROBED, len(subjects), options.limit or _PROBED)
    reach = len(subjects)
    if options.limit is not None and questions:
        reach = min(reach, round(options.limit * looked_at / questions))
    return reach / max(looked_at, 1)


def _shown(bodies: list[dict[str, Any]]) -> Iterator[str]:
    for body in bodies[:1]:
        *shared, _ = body["messages"]
        yield "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in shared)
    for body in bodies:
        yield f"[user]\n{body['messages'][-1]['content']}"


# --------------------------------------------------------------------------------------------------
# The run
# --------------------------------------------------------------------------------------------------


def enrich(
    graph: Path,
    task_name: str,
    server: Server,
    options: Options,
    candidates: Candidates,
    hints: Hints,
    *,
    pace: Pace | None = None,
    say: Callable[[str], object] = lambda text: None,
) -> Summary:
    """Ask a model about every entity that has no answer yet.

    `candidates` gives the classes that may be an entity's natural type, `hints` what is known of
    its looks; both are called by this thread only.  `say` gets what the user should know on the
    way, a sentence at a time.  `pace` is there to be replaced in tests.

    Raises
    ------
    UserError : no data set, or another run is at this model; the server can't be asked, or more
        than `options.max_failures` entities failed.  What was answered until then is kept.
    """
    task = TASKS[task_name]
    source = manifest_of(graph)["outputs"]["entities.parquet"]
    subjects = _subjects(graph, task, options)
    directory = model_directory(graph, options.model)
    run = Asking(task, options, server, pace or Pace(options.rate))
    skipped = Skipped(not_visual=subjects.not_visual)
    with Journal(directory, task.name) as journal:
        _take_back(directory, task)
        asked = _to_ask(task, subjects, candidates, hints, options, journal.answered, skipped)
        most = _left(subjects, options, skipped)
        with Progress("asking", most, unit=" entities", quiet=options.quiet) as progress:

            def write(lines: list[Line]) -> None:
                journal.append(lines)
                progress.note = f"{run.spent.failed} failed" if run.spent.failed else ""
                progress.total = _left(subjects, options, skipped)
                progress.add(len(lines))

            run.ask_all(batched(asked, options.batch), write, say)
        total = tally(directory, task.name)
        _finish(directory, task, server, options, source, skipped, total)
    prices = options.price_in, options.price_out
    return Summary(
        directory,
        task.name,
        skipped,
        run.spent,
        total,
        run.spent.cost(*prices),
        total.cost(*prices),
        run.last_reason,
    )


# --------------------------------------------------------------------------------------------------
# The manifest
# --------------------------------------------------------------------------------------------------


def _files(task: str) -> tuple[str, ...]:
    return answers_file(task), failures_file(task)


def _earlier(directory: Path) -> dict[str, Any]:
    """Return the manifest of the tasks that have come to their end with this model."""
    if not (directory / MANIFEST).exists():
        return {"tasks": {}, "outputs": {}}
    return read_manifest(directory, "enrich")


def _take_back(directory: Path, task: Task) -> None:
    """Take a task out of the manifest before its files change: what it lists is always true."""
    manifest = _earlier(directory)
    if task.name not in manifest["tasks"]:
        return
    del manifest["tasks"][task.name], manifest["manifest_sha256"]
    for name in _files(task.name):
        manifest["outputs"].pop(name, None)
    if manifest["tasks"]:
        write_manifest(directory, manifest)
    else:
        (directory / MANIFEST).unlink()


def _finish(
    directory: Path,
    task: Task,
    server: Server,
    options: Options,
    source: dict[str, Any],
    skipped: Skipped,
    total: Tally,
) -> None:
    """Write the manifest: this task beside those that ended before."""
    earlier = _earlier(directory)
    files = (directory / name for name in _files(task.name))
    names = [file.name for file in files if file.stat().st_size]
    flush(directory, names)
    entry = {
        "version": task.version,
        "host": server.host,
        "parameters": {**DEFAULT_PARAMETERS, "max_tokens": task.max_tokens, **options.parameters},
        "batch": options.batch,
        "limit": options.limit,
        "entities.parquet": source,
        "counts": asdict(total),
        "skipped": asdict(skipped),
        "price": {"in": options.price_in, "out": options.price_out},
        "cost": round(total.cost(options.price_in, options.price_out), 6),
    }
    manifest = {
        "step": "enrich",
        "format": ENRICH_FORMAT,
        "versions": tool_versions(),
        "model": options.model,
        "tasks": dict(sorted({**earlier["tasks"], task.name: entry}.items())),
        "outputs": earlier["outputs"] | digests(directory, names, quiet=True),
    }
    write_manifest(directory, manifest)

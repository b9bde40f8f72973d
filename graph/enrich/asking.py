"""Threads that put questions to a server until each has an answer, or has failed too often."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final

import msgspec
import requests

from etl.errors import UserError
from graph.enrich.client import Reply, Server, UnansweredError, ask, session_for
from graph.enrich.journal import Line, Tally
from graph.enrich.pace import Pace, StoppedError
from graph.enrich.prompts import DEFAULT_PARAMETERS, FIXED, Question, Task, request_body
from graph.enrich.replies import answers_in

ATTEMPTS: Final = 3  # at an answer that can be used; a model that fails thrice fails again
HOPELESS: Final = 10  # failures before the first answer: something else is wrong, and may cost


@dataclass(frozen=True)
class Options:
    """How to ask; prices are for a million tokens, the rate in requests a second (0: no limit).

    `limit`: of the entities that there is something to ask about, the best known, whether they
    have been answered before or not.
    """

    model: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    concurrency: int = 8
    rate: float = 0.0
    batch: int = 1
    limit: int | None = None
    price_in: float = 0.0
    price_out: float = 0.0
    max_failures: int = 100
    quiet: bool = False


def parsed_parameters(text: str | None) -> dict[str, Any]:
    """Read the fields of a request that a user sets, a JSON object; `{}` where there are none.

    Raises
    ------
    UserError : it is no JSON object, or sets what isn't the user's to set.
    """
    try:
        parameters = msgspec.json.decode(text or "{}", type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UserError(f"--parameters is not a JSON object ({error}).") from None
    for name in FIXED:
        if name in parameters:
            raise UserError(f"--parameters can't set {name!r}: answers are read by it.")
    return parameters


@dataclass(frozen=True)
class Asked:
    """A question and the hash that its answer is cached by."""

    question: Question
    prompt: str


def body_about(
    task: Task, batch: list[Asked], options: Options, attempt: int = 0, remark: str = ""
) -> dict[str, Any]:
    """Write the request about some entities; a later attempt has another seed."""
    parameters = dict(options.parameters)
    seed = parameters.get("seed", DEFAULT_PARAMETERS["seed"])
    if attempt and isinstance(seed, int):
        parameters["seed"] = seed + attempt  # or the same answer comes back
    questions = [asked.question for asked in batch]
    return request_body(task, questions, options.model, parameters, remark)


class Asking:
    """The threads that ask, and what has come of it so far."""

    def __init__(self, task: Task, options: Options, server: Server, pace: Pace) -> None:
        self._task, self._options, self._server, self._pace = task, options, server, pace
        self._under_way = 0  # batches
        self.spent = Tally()
        self.last_reason = ""

    def ask_all(
        self,
        batches: Iterator[list[Asked]],
        write: Callable[[list[Line]], None],
        say: Callable[[str], object],
    ) -> None:
        """Have every batch answered; `write` gets the lines of each as they come.

        When the run can't go on, or at Ctrl-C, nothing new is asked; what is under way is waited
        for and written, since it is paid for.  `say` tells the user so, who may press it again.

        Raises
        ------
        UserError : the server can't be asked, or too many entities failed.
        KeyboardInterrupt : after the first Ctrl-C at the end, after another one at once.
        """
        end: BaseException | None = None
        with closing(self._outcomes(batches)) as outcomes:  # stops asking, whatever happens here
            for found in outcomes:
                if isinstance(found, list):
                    write(self._counted(found))
                    end = end or self._too_many_failures()
                elif not isinstance(found, StoppedError):
                    end = end or found
                if end is not None:
                    self._pace.stop()
                if found is end and isinstance(found, KeyboardInterrupt):
                    # said when nothing new begins any more
                    say("Waiting for answers that are on their way; Ctrl-C again ends at once.")
        if end is not None:
            raise end

    def _outcomes(
        self, batches: Iterator[list[Asked]]
    ) -> Generator[list[Line] | BaseException, None, None]:
        """Yield what becomes of every batch, in the order they end; none begins after a stop."""
        todo: queue.SimpleQueue[list[Asked] | None] = queue.SimpleQueue()
        done: queue.SimpleQueue[list[Line] | BaseException] = queue.SimpleQueue()
        count = self._options.concurrency
        for _ in range(count):
            threading.Thread(target=self._work, args=(todo, done), daemon=True).start()
        try:
            with self._interrupts_into(done):
                while True:
                    # a second one for each thread, lest it wait for this one
                    while self._under_way < 2 * count and not self._pace.is_stopped():
                        try:
                            batch = next(batches, [])
                        except UserError as error:  # a record of the store that can't be read, say
                            yield error
                            break
                        if not batch:
                            break
                        todo.put(batch)
                        self._under_way += 1
                    if not self._under_way:
                        return
                    found = done.get()
                    self._under_way -= not isinstance(found, KeyboardInterrupt)
                    yield found
        finally:
            self._pace.stop()
            for _ in range(count):
                todo.put(None)

    @contextmanager
    def _interrupts_into(
        self, done: queue.SimpleQueue[list[Line] | BaseException]
    ) -> Iterator[None]:
        """Have the first Ctrl-C stand in the queue, where no work of this thread is cut by it.

        It is raised at once while nothing is under way, and so is every other one.  Not so where
        a program has given Ctrl-C a meaning of its own, or in another thread than the main one.
        """
        default = signal.default_int_handler
        main = threading.current_thread() is threading.main_thread()
        if not main or signal.getsignal(signal.SIGINT) is not default:
            yield
            return

        def interrupted(number: int, frame: FrameType | None) -> None:
            signal.signal(signal.SIGINT, default)
            if not self._under_way:
                raise KeyboardInterrupt
            done.put(KeyboardInterrupt())  # of all queues, this kind may be put into from here

        signal.signal(signal.SIGINT, interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, default)

    def _counted(self, lines: list[Line]) -> list[Line]:
        for line in lines:
            self.spent.add_cost(line)
            if line.answer is None:
                self.spent.failed += 1
                self.last_reason = f"{line.entity}: {line.reason}"
            else:
                self.spent.answered += 1
        return lines

    def _too_many_failures(self) -> UserError | None:
        answered, failed = self.spent.answered, self.spent.failed
        if not answered and failed >= HOPELESS:
            return UserError(
                f"none of the first {failed} entities got an answer that can be used "
                f"(the last, {self.last_reason}); see whether {self._options.model} on "
                f"{self._server.host} is a model that follows a JSON schema."
            )
        if failed > self._options.max_failures:
            return UserError(
                f"{failed} entities failed, more than --max-failures allows (the last, "
                f"{self.last_reason}); the other {answered:,} answers are kept."
            )
        return None

    def _work(
        self,
        todo: queue.SimpleQueue[list[Asked] | None],
        done: queue.SimpleQueue[list[Line] | BaseException],
    ) -> None:
        session: requests.Session | None = None
        while (batch := todo.get()) is not None:
            try:
                session = session or session_for(self._server)
                done.put(self._lines(batch, session))
            except Exception as error:  # for the main thread to raise
                self._pace.stop()  # before another thread is refused the same
                done.put(error)
        if session is not None:
            session.close()

    def _lines(self, batch: list[Asked], session: requests.Session) -> list[Line]:
        """Ask about some entities until each has an answer, or has failed too often."""
        lines = {a.question.entity: Line(a.question.entity, a.prompt) for a in batch}
        left, remark = batch, ""
        for attempt in range(ATTEMPTS):
            body = body_about(self._task, left, self._options, attempt, remark)
            try:
                reply = ask(session, self._server, body, self._pace)
            except (UnansweredError, UserError, StoppedError) as error:
                if not attempt and not isinstance(error, UnansweredError):
                    raise
                # what the first reply cost, or answered, is not to be lost
                for asked in left:
                    lines[asked.question.entity].reason = str(error) or "the run ended first"
                break
            _share(reply, [lines[asked.question.entity] for asked in left])
            left = self._unanswered(reply, left, lines)
            if not left or not reply.again:
                break
            remark = _remark(lines[asked.question.entity] for asked in left)
        return list(lines.values())

    def _unanswered(self, reply: Reply, batch: list[Asked], lines: dict[str, Line]) -> list[Asked]:
        """Put the answers of a reply into their lines; return those that it doesn't answer."""
        questions = [asked.question for asked in batch]
        found = {} if reply.problem else answers_in(self._task, questions, reply.content)
        for entity in (question.entity for question in questions):
            answer = found.get(entity, reply.problem)
            if isinstance(answer, dict):
                lines[entity].answer, lines[entity].reason = answer, ""
            else:
                lines[entity].reason = str(answer)
        return [asked for asked in batch if lines[asked.question.entity].answer is None]


def _share(reply: Reply, lines: list[Line]) -> None:
    """Divide what a request cost among the entities it asked about; the first take the rest."""
    for number, line in enumerate(lines):
        line.requests += number == 0
        line.tokens_in += _part(reply.tokens_in, number, len(lines))
        line.tokens_out += _part(reply.tokens_out, number, len(lines))
        line.estimated |= reply.estimated
        line.served_by = reply.served_by


def _part(whole: int, number: int, count: int) -> int:
    return whole // count + (number < whole % count)


def _remark(lines: Iterable[Line]) -> str:
    reasons = "; ".join(f"{line.entity}: {line.reason}" for line in lines)
    return f"(An earlier answer could not be used. {reasons})"

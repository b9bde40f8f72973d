"""What people see of a run that asked a model, and of what one would take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from etl.show import counted, printable
from graph.enrich.asking import Options
from graph.enrich.run import Estimate, Skipped, Summary

Row = tuple[str, str, str]

_REASONS = {
    "answered_before": "answered before",
    "no_candidates": "without a class above them",
    "one_candidate": "with one class above them",
    "not_visual": "not visual",
}


def rows(summary: Summary, options: Options) -> list[Row]:
    """Return the table at the end of a run."""
    spent, total = summary.spent, summary.total
    asked, left_out = summary.answered + summary.failed, _left_out(summary.skipped)
    table = [("entities", f"{asked + sum(count for _, count in left_out):,}", "")]
    table += [
        (f"  {what}", f"{count:,}", "") for what, count in (("asked about", asked), *left_out)
    ]
    table += [
        ("answered", f"{summary.answered:,}", f"{total.answered:,} in all"),
        (
            "failed",
            f"{summary.failed:,}",
            f"the last: {summary.last_reason}" * bool(summary.failed),
        ),
        ("requests", f"{spent.requests:,}", f"{total.requests:,} in all"),
        ("tokens in", f"{spent.tokens_in:,}", f"{total.tokens_in:,} in all"),
        ("tokens out", f"{spent.tokens_out:,}", f"{total.tokens_out:,} in all"),
    ]
    if spent.estimated:
        table.append(("  estimated for", f"{spent.estimated:,}", "the server didn't count"))
    if options.price_in or options.price_out:
        table.append(("cost", _money(summary.cost), f"{_money(summary.total_cost)} in all"))
    table.append(("files", "", str(summary.directory)))
    return [(name, figure, printable(remark)) for name, figure, remark in table]


def as_plain(found: Summary | Estimate) -> dict[str, Any]:
    """Return a summary or an estimate as plain data, for JSON."""
    plain = asdict(found)
    if isinstance(found, Summary):
        plain["directory"] = str(found.directory)
    return plain


def warning(summary: Summary) -> str | None:
    """Say what a run that came to its end has left out."""
    if not summary.failed:
        return None
    return printable(
        f"{_entities(summary.failed)} got no answer that can be used (the "
        f"last, {summary.last_reason}); the same command asks about them again."
    )


def described(expected: Estimate, options: Options) -> Iterator[str]:
    """Return the lines of a dry run: the first prompts, then what all would take."""
    for prompt in expected.prompts:
        for line in prompt.split("\n"):
            yield printable(line)
        yield ""
    left_out = ", ".join(f"{count:,} {what}" for what, count in _left_out(expected.skipped))
    yield (
        f"Would ask about {_entities(expected.entities)}{left_out and f' (left out: {left_out})'} "
        f"in {counted(expected.requests, 'request')}, about {expected.tokens_in:,} tokens in and "
        f"{expected.tokens_out:,} out" + _price(expected, options)
    )


def _money(amount: float) -> str:
    return f"{amount:,.{2 if amount >= 1 else 4}f}"


def _entities(count: int) -> str:
    return f"{count:,} {'entity' if count == 1 else 'entities'}"


def _price(expected: Estimate, options: Options) -> str:
    if options.price_in or options.price_out:
        return f", {_money(expected.cost)} at the given prices. Nothing was sent."
    return "; --price-in and --price-out say what they cost. Nothing was sent."


def _left_out(skipped: Skipped) -> list[tuple[str, int]]:
    return [(_REASONS[name], count) for name, count in asdict(skipped).items() if count]

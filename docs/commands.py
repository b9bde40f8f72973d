"""Writes docs/commands.md from the commands' own help: ``python docs/commands.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from cli import cli

TARGET = Path(__file__).with_name("commands.md")


def commands() -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command by its full name, those of a group after the group, with its context."""
    # with the settings that it runs with: click keeps the first help option it is asked for
    root = click.Context(
        cli,
        info_name="sparqless",
        terminal_width=100,
        max_content_width=100,
        **cli.context_settings,
    )
    yield from _below(cli, root, "")


def _below(
    group: click.Group, parent: click.Context, prefix: str
) -> Iterator[tuple[str, click.Command, click.Context]]:
    for name, command in group.commands.items():
        context = click.Context(
            command, info_name=name, parent=parent, terminal_width=100, max_content_width=100
        )
        yield prefix + name, command, context
        if isinstance(command, click.Group):
            yield from _below(command, context, f"{prefix}{name} ")


def reference() -> str:
    """The help of every command, as Markdown."""
    parts = [
        "# Commands",
        "",
        "Made from the commands' own help by `docs/commands.py`; a test keeps the two together.",
    ]
    for name, command, context in commands():
        parts += ["", f"## sparqless {name}", "", "```", command.get_help(context), "```"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")

"""Writes docs/commands.md from the commands' own help: ``python docs/commands.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from cli import cli

TARGET = Path(__file__).with_name("commands.md")


def commands(
    group: click.Group = cli, above: click.Context | None = None
) -> Iterator[tuple[str, click.Context]]:
    """Name and context of every command, those inside groups too: ``export table``."""
    context = click.Context(
        group,
        info_name=group.name if above else "sparqless",
        parent=above,
        terminal_width=100,
        max_content_width=100,
    )
    for name in group.list_commands(context):
        command = group.commands[name]
        if isinstance(command, click.Group):
            for inner, found in commands(command, context):
                yield f"{name} {inner}", found
        else:
            yield (
                name,
                click.Context(
                    command,
                    info_name=name,
                    parent=context,
                    terminal_width=100,
                    max_content_width=100,
                ),
            )


def reference() -> str:
    """The help of every command, as Markdown."""
    parts = [
        "# Commands",
        "",
        "Made from the commands' own help by `docs/commands.py`; a test keeps the two together.",
    ]
    for name, context in commands():
        parts += ["", f"## sparqless {name}", "", "```", context.get_help(), "```"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")

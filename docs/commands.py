"""Writes docs/commands.md from the commands' own help: ``python docs/commands.py``."""

from __future__ import annotations

from pathlib import Path

import click

from cli import cli

TARGET = Path(__file__).with_name("commands.md")


def reference() -> str:
    """The help of every command, as Markdown."""
    parts = [
        "# Commands",
        "",
        "Made from the commands' own help by `docs/commands.py`; a test keeps the two together.",
    ]
    parent = click.Context(cli, info_name="sparqless", terminal_width=100, max_content_width=100)
    for name, command in cli.commands.items():
        context = click.Context(
            command, info_name=name, parent=parent, terminal_width=100, max_content_width=100
        )
        parts += ["", f"## sparqless {name}", "", "```", command.get_help(context), "```"]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    TARGET.write_text(reference(), encoding="utf-8")

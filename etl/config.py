"""Settings that are about the person, from sparqless.toml: contact, server of a model."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Final

from etl.errors import UserError

_FILE: Final = "sparqless.toml"
_KNOWN: Final = ("contact", "endpoint", "model", "key_env")
_CONTACT = re.compile(r"[^\s@<>()]+@[^\s@<>()]+\.[^\s@<>()]+\Z|https?://[A-Za-z0-9][^\s<>()]*\Z")
#: Names that nobody can have (RFC 2606).
_NOBODYS: Final = ("example", "invalid", "test", "localhost")
_EXAMPLES: Final = ("example.com", "example.net", "example.org")


def setting(name: str) -> str | None:
    """A setting from the working directory's sparqless.toml, else from the user's, else None.

    Raises UserError where a file can't be read, isn't TOML or has a setting that nobody knows.
    """
    found = _found(name)
    return None if found is None else found[0]


def file_of(name: str) -> Path | None:
    """The file that a setting comes from.

    Raises UserError as :func:`setting`.
    """
    found = _found(name)
    return None if found is None else found[1]


def _found(name: str) -> tuple[str, Path] | None:
    # unlike Path.home, expanduser takes a user of whom the machine knows no home
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    user = Path(home) / "sparqless"
    for folder in (Path(), user):
        value = _read(folder / _FILE).get(name)
        if value is not None:
            return str(value), folder / _FILE
    return None


def _read(path: Path) -> dict[str, object]:
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"{path}: can't be read ({error}).") from error
    for name in data:
        if name not in _KNOWN:
            raise UserError(f"{path}: unknown setting {name!r}; known are {', '.join(_KNOWN)}.")
    return data


def contact(option: str | None, *, here: bool = False) -> str:
    """Who asks: ``--contact`` or the setting ``contact``, an e-mail address or a URL.

    Wikimedia's User-Agent policy wants it in every request, and blocks clients without one.
    ``here``: what is asked is on this machine, where the contact of an example will do.

    Raises UserError where there is none, it is neither, or nobody can be reached by it.
    """
    found = option if option is not None else setting("contact")
    if found is None:
        raise UserError(
            "downloads need a contact, so that a server's operators can reach you: give --contact "
            f'you@example.org, or put contact = "you@example.org" into {_FILE}.'
        )
    if not _CONTACT.match(found) or not found.isascii() or not found.isprintable():
        raise UserError(f"{found!r} is neither an e-mail address nor a URL to reach you by.")
    if _is_nobodys(found) and not here:
        raise UserError(
            f"{found!r} is an example, by which nobody can reach you: give an e-mail address or a "
            f"URL of your own with --contact, or put it into {_FILE}."
        )
    return found


def _is_nobodys(contact: str) -> bool:
    """Whether a contact is at a host that nobody can have."""
    found = re.search(r"://(?:[^/?#]*@)?([^/?#:]*)|@(.*)", contact)
    host = ((found[1] or found[2] or "") if found else "").lower().removesuffix(".").split(".")
    return host[-1] in _NOBODYS or ".".join(host[-2:]) in _EXAMPLES


def required(name: str, option: str | None, example: str) -> str:
    """``--NAME`` or the setting of that name.

    Raises UserError where there is neither.
    """
    found = option if option is not None else setting(name)
    if not found:
        raise UserError(f'give --{name} {example}, or put {name} = "{example}" into {_FILE}.')
    return found


def key_from(environment: str | None) -> tuple[str, bool]:
    """A server's key and whether its variable was named: by the option or the setting ``key_env``.

    Else it is OPENAI_API_KEY's, which the field's tools read. ``""`` where there is none.

    Raises UserError where the named variable is not set, or holds what no header can carry.
    """
    named = environment if environment is not None else setting("key_env")
    name = named or "OPENAI_API_KEY"
    key = os.environ.get(name, "").strip()
    if named and not key:
        raise UserError(f"the environment variable {named} (--key-env) is not set.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"the environment variable {name} holds what can't be a key.")
    return key, bool(named)

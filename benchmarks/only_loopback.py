"""Keeps the Python processes of a command on the loopback interface, and notes where else they
would have gone.

Probes of a downloader lead to addresses of strangers, clouds and private networks, and one that
doesn't refuse them would ask there. This module is imported by itself in processes of any
environment: it needs nothing but Python.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from pathlib import Path
from typing import Any, Final

#: Names that are on loopback here, and one that leads into a private network.
_LOCAL: Final = ".test"
_PRIVATE: Final = {"private.example": "10.1.2.3"}


def environment(folder: Path) -> dict[str, str]:
    """Variables for a command that is to be kept; ``folder`` is made, and has its notes."""
    folder.mkdir(parents=True)
    code = (
        "import importlib.util\n"
        f"spec = importlib.util.spec_from_file_location('only_loopback', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        f"module.keep({str(folder / 'notes')!r})\n"
    )
    (folder / "sitecustomize.py").write_text(code)  # Python's site imports it at the start
    return {"PYTHONPATH": str(folder)}


def noted(folder: Path) -> list[str]:
    """Addresses, and names without one, that were asked for outside of loopback."""
    path = folder / "notes"
    return path.read_text().split() if path.exists() else []


def keep(notes: str) -> None:
    """Keeps this process; ``notes`` is the file to append to."""

    def note(what: str) -> None:
        out = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(out, f"{what}\n".encode())  # one write is not torn
        os.close(out)

    really_connect, really_look_up = socket.socket.connect, socket.getaddrinfo

    def connect(self: socket.socket, address: Any, /) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
            note(address[0])
            raise OSError(errno.ENETUNREACH, "kept on loopback")
        really_connect(self, address)

    def look_up(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None:
            name = "127.0.0.1" if name.endswith(_LOCAL) else _PRIVATE.get(name, name)
            if not _is_number(name, really_look_up) and name != "localhost":
                note(name)
                raise socket.gaierror(socket.EAI_NONAME, "kept on loopback")
        return really_look_up(name, port, *rest, **named)

    socket.socket.connect = connect  # type: ignore[assignment, method-assign]
    socket.getaddrinfo = look_up


def _is_number(name: str, look_up: Any) -> bool:
    """Whether a name is an address in some notation, for which nobody is asked."""
    with contextlib.suppress(OSError, UnicodeError):
        look_up(name, None, flags=socket.AI_NUMERICHOST)
        return True
    return False


def _is_local(address: str) -> bool:
    """Whether a connection stays on this machine; 0.0.0.0 does."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address == "localhost"
    mapped = getattr(found, "ipv4_mapped", None) or found
    return mapped.is_loopback or mapped.is_unspecified

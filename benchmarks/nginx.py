"""A local nginx that serves a folder: what a downloader's speed is measured on.

One process, over one port of several addresses of this machine alone, from the page cache, with
keep-alive for who wants it. Its processor time can be told, so that it can be taken off.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from etl.errors import UserError

_PATIENCE: Final = 10.0  # seconds in which it has to answer
_PERIOD: Final = 0.02
_HOSTS: Final = 16  # addresses that it answers at

# One process without a master beside it, which also keeps it the user's who started it.
_CONFIGURATION: Final = """
daemon off;
master_process off;
pid {work}/pid;
error_log {work}/error.log;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    open_file_cache max=20000 inactive=600s;
    types {{ image/jpeg jpg; }}
    client_body_temp_path {work}/body;
    proxy_temp_path {work}/proxy;
    fastcgi_temp_path {work}/fastcgi;
    uwsgi_temp_path {work}/uwsgi;
    scgi_temp_path {work}/scgi;
    server {{
        {listens}
        root {root};
    }}
}}
"""

#: Its names. Images come from many hosts, and who is polite to each can ask several at a time.
HOSTS: Final = tuple(f"127.0.0.{number}" for number in range(1, 1 + _HOSTS))


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    port: int
    pid: int

    def url(self, name: str, host: int = 0) -> str:
        """The address of a file in its folder, at one of its hosts: any number will do."""
        return f"http://{HOSTS[host % len(HOSTS)]}:{self.port}/{name}"

    def cpu_seconds(self) -> float:
        """Processor seconds that it has taken until now (Linux)."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def found() -> str | None:
    """Where nginx is; Debian has it where only root looks."""
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@contextmanager
def serving(root: Path, work: Path) -> Iterator[Server]:
    """Serves the folder ``root``; ``work`` is for nginx's own files, and gone at the end.

    Raises UserError where there is no nginx or it doesn't start.
    """
    program = found()
    if program is None:
        raise UserError("the speed is measured on a local nginx: apt install nginx-light")
    work = work.resolve()
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    port = free_port()
    configuration = work / "nginx.conf"
    listens = " ".join(f"listen {host}:{port};" for host in HOSTS)
    text = _CONFIGURATION.format(work=work, root=root.resolve(), listens=listens)
    configuration.write_text(text)
    process = subprocess.Popen(
        [program, "-p", str(work), "-c", str(configuration), "-e", str(work / "error.log")],
        stdin=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process, work / "error.log")
        yield Server(port, process.pid)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(work, ignore_errors=True)


def free_port() -> int:
    """A port of the loopback interface that nobody has now."""
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        port: int = held.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(_PERIOD)
        else:
            return
    said = log.read_text() if log.exists() else ""
    raise UserError(f"nginx did not start: {said.strip() or 'it gave no reason'}")

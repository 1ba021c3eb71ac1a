"""A PostgreSQL server of a test's own: in a folder that goes with it, on a socket and nothing else."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

NOBODY = "postgres"  # whom Debian's package adds; the server refuses to run as root
DEBIAN = Path("/usr/lib/postgresql")


def programs() -> Path | None:
    """Where initdb and pg_ctl are; None where PostgreSQL is not installed."""
    found = shutil.which("initdb")
    folders = sorted(DEBIAN.glob("*/bin"), key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    places = [*reversed(folders), *([Path(found).parent] if found else [])]
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


@dataclass
class Server:
    """A server that can be stopped and started again."""

    folder: Path
    bin: Path
    user: str | None

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=20"
        self._run("pg_ctl", "-D", self._data, "-l", f"{self.folder}/log", "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "-w", "stop")

    def database(self, name: str) -> str:
        """The URL of a new empty database."""
        self._run("createdb", "-h", str(self.folder), "-U", "takt", name)
        return f"postgresql://takt@/{name}?host={quote(str(self.folder))}"

    def make(self) -> None:
        options = ["-U", "takt", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        self._run("initdb", "-D", self._data, *options)

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.bin / program), *arguments]
        done = subprocess.run(
            command, user=self.user, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def running() -> Iterator[Server]:
    """A new server."""
    found = programs()
    assert found is not None
    folder = Path(tempfile.mkdtemp(prefix="takt-pg-", dir="/tmp"))  # a socket's path is short
    user = NOBODY if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    server = Server(folder, found, user)
    try:
        server.make()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)

"""CURVE keys of a line: who may come in where. Nothing but loopback is bound without them.

    <state>/keys/curve/server.key, server.key_secret     of every socket that the line binds
    <state>/keys/curve/stages/NAME.key, NAME.key_secret  of the line's own stages: control and images
    <state>/keys/curve/clients/NAME.key, ...             of third parties: outcomes, and nothing else

The files are ZeroMQ's certificates, which its libraries in any language read. Who is listed is who has a `.key` in
the folder; a client's secret need not be there, and what is taken away is out after the next start.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from re import fullmatch

import zmq
from zmq.auth import load_certificate
from zmq.utils import z85

from pipeline.config import LineConfig
from pipeline.errors import ConfigError
from pipeline.log import logger

LOG = logger("curve")
STAGES, CLIENTS = "stages", "clients"  # ZAP domains; the trap: a domain here and "*" there refuses everybody
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
PUBLIC, SECRET = ".key", ".key_secret"
MOST_SOURCES = 64  # told apart in logs and counts; a flood of others is counted as one


@dataclass(frozen=True)
class Pair:
    """A key pair in Z85; `secret` is empty where only the public half is here."""

    public: bytes
    secret: bytes


@dataclass(frozen=True)
class Curve:
    """What one stage needs to bind and to connect."""

    server: Pair
    own: Pair | None
    domains: Mapping[str, str]  # endpoint -> which list opens it; other endpoints are plain
    listed: Mapping[str, Mapping[bytes, str]]  # domain -> public key -> name

    def bind(self, socket: zmq.Socket, endpoint: str) -> bool:
        """Make `socket` the server of `endpoint`; False where that is not secured."""
        domain = self.domains.get(endpoint)
        if domain is None:
            return False
        if not self.server.secret:
            raise ConfigError(f"{endpoint}: server{SECRET} is missing here: copy it from where takt keys was run")
        socket.curve_server = True
        socket.curve_publickey, socket.curve_secretkey = self.server.public, self.server.secret
        socket.zap_domain = domain.encode()
        return True

    def connect(self, socket: zmq.Socket, endpoint: str, stage: str) -> bool:
        """Give `socket` this stage's key; False where `endpoint` is not secured."""
        if endpoint not in self.domains:
            return False
        if self.own is None or not self.own.secret:
            raise ConfigError(f"{endpoint}: {stage} has no key here: takt keys makes one")
        socket.curve_publickey, socket.curve_secretkey = self.own.public, self.own.secret
        socket.curve_serverkey = self.server.public
        return True


def is_local(endpoint: str) -> bool:
    """True if nothing but this host can reach it."""
    host = endpoint.removeprefix("tcp://").rpartition(":")[0]
    return not endpoint.startswith("tcp://") or host in LOOPBACK


def folder_of(config: LineConfig) -> Path:
    return config.state / "keys" / "curve"


def has_keys(config: LineConfig) -> bool:
    return (folder_of(config) / f"server{PUBLIC}").is_file()


def curve_of(config: LineConfig, stage: str) -> Curve | None:
    """The keys as `stage` needs them; None where the line has none.

    Raises:
        ConfigError: a key file cannot be read.
    """
    if not has_keys(config):
        return None
    folder, bus = folder_of(config), config.bus
    domains = {endpoint: STAGES for endpoint in (bus.control, bus.images) if endpoint and endpoint.startswith("tcp:")}
    if not is_local(bus.outcomes):
        domains[bus.outcomes] = CLIENTS
    own = _pair(folder / STAGES, stage) if (folder / STAGES / f"{stage}{PUBLIC}").is_file() else None
    return Curve(_pair(folder, "server"), own, domains, {name: _listed(folder / name) for name in (STAGES, CLIENTS)})


def create(config: LineConfig, stages: Iterable[str], client: str | None = None) -> list[tuple[str, Path, str]]:
    """Make what is missing, and list everything: what for, public file, public key.

    Raises:
        ConfigError: the client's name cannot be a file's, or the folder cannot be written.
    """
    folder = folder_of(config)
    if client is not None and not fullmatch(r"[A-Za-z0-9_-]{1,64}", client):
        raise ConfigError(f"--add-client {client}: letters, digits, - and _ only: it becomes a file's name")
    wanted = [(folder, "server"), *((folder / STAGES, name) for name in stages)]
    wanted += [(folder / CLIENTS, client)] if client else []
    try:
        for place in (folder, folder / STAGES, folder / CLIENTS):
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
        for place, name in wanted:
            if not (place / f"{name}{PUBLIC}").exists():
                _make(place, name)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}: the line's keys are kept there") from None
    rows = [("server", folder / f"server{PUBLIC}")]
    rows += [(domain[:-1], path) for domain in (STAGES, CLIENTS) for path in sorted((folder / domain).glob("*.key"))]
    return [(what, path, _pair(path.parent, path.stem).public.decode()) for what, path in rows]


def _make(folder: Path, name: str) -> None:
    """The secret first: a public key without it would lock the stage out."""
    public, secret = (key.decode() for key in zmq.curve_keypair())
    for suffix, mode, lines in ((SECRET, 0o600, [public, secret]), (PUBLIC, 0o644, [public])):
        text = "".join(f'    {half}-key = "{key}"\n' for half, key in zip(("public", "secret"), lines, strict=False))
        descriptor = os.open(folder / f"{name}{suffix}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"#   ZeroMQ CURVE certificate of {name}, made by takt keys\nmetadata\ncurve\n{text}")


def _pair(folder: Path, name: str) -> Pair:
    secret = folder / f"{name}{SECRET}"
    path = secret if secret.is_file() else folder / f"{name}{PUBLIC}"
    try:
        public, private = load_certificate(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no CURVE certificate ({error}): delete it and run takt keys") from None
    if len(public) != 40 or len(private or b"") not in (0, 40):
        raise ConfigError(f"{path}: a CURVE key has 40 characters: delete it and run takt keys")
    return Pair(public, private or b"")


def _listed(folder: Path) -> dict[bytes, str]:
    return {_pair(folder, path.stem).public: path.stem for path in sorted(folder.glob(f"*{PUBLIC}"))}


@dataclass
class Doorkeeper:
    """Answers ZeroMQ when a client shows its key (ZAP, RFC 27); `lists` are by domain.

    It needs no thread: `answer` is called when its socket can be read. What it does not know it refuses.
    """

    socket: zmq.Socket
    lists: Mapping[str, Mapping[bytes, str]]
    refused: dict[str, int] = field(default_factory=dict)  # by address

    def __post_init__(self) -> None:
        self.socket.bind("inproc://zeromq.zap.01")

    def answer(self) -> None:
        while self.socket.poll(0):
            parts = self.socket.recv_multipart()
            if len(parts) < 6:
                self.socket.send_multipart([b"1.0", b"", b"400", b"", b"", b""])
                continue
            known = self._knows(parts)
            said = (b"200", b"OK") if known else (b"400", b"not listed")
            self.socket.send_multipart([b"1.0", parts[1], *said, known, b""])
            if not known:
                self._count(parts[3].decode(errors="replace"))

    def _knows(self, parts: list[bytes]) -> bytes:
        """The client's name, empty for whom nobody listed."""
        version, _, domain, _, _, mechanism, *keys = parts
        if version != b"1.0" or mechanism != b"CURVE" or len(keys) != 1 or len(keys[0]) != 32:
            return b""
        listed = self.lists.get(domain.decode(errors="replace"), {})
        return listed.get(z85.encode(keys[0]), "").encode()

    def _count(self, address: str) -> None:
        address = address if address in self.refused or len(self.refused) < MOST_SOURCES else "others"
        if address not in self.refused:
            LOG.warning("client refused: its key is not listed", extra={"address": address})
        self.refused[address] = self.refused.get(address, 0) + 1

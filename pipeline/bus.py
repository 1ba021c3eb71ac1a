"""Typed messages over ZeroMQ, MessagePack on the wire; what does not follow the schema is dropped and counted."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import msgpack
import zmq
from pydantic import ValidationError

from pipeline.curve import MOST_SOURCES, Curve, Doorkeeper, is_local
from pipeline.errors import MessageError, StageError, TaktError
from pipeline.log import logger
from pipeline.messages import FORMAT, TOPICS, Envelope, Message
from pipeline.reconnect import Connections, monitor_of

LOG = logger("bus")
ROOM = 4  # times a topic's limit: what is larger ends the connection unread, what is smaller is counted
LARGEST_FRAME = 1 << 28
LARGEST_HEARD = 1 << 26  # where we connect: ZeroMQ ends the connection at more, and it must be made anew
Tracker = zmq.MessageTracker  # tells when ZeroMQ is done with pixels that were sent uncopied


@dataclass(frozen=True)
class Received:
    """One valid message, who sent it, and the pixels behind it."""

    topic: str
    source: str
    sequence: int
    message: Message
    behind: tuple[memoryview, ...] = ()


def encode(topic: str, source: str, sequence: int, message: Message) -> bytes:
    """The envelope's bytes."""
    envelope = {
        "format": FORMAT,
        "topic": topic,
        "source": source,
        "sequence": sequence,
        "sent_ns": time.monotonic_ns(),
        "body": message.model_dump(),
    }
    return bytes(msgpack.packb(envelope) or b"")


def decode(data: bytes | memoryview, accepts: frozenset[str]) -> Received:
    """The message inside `data`.

    Raises:
        MessageError: not an envelope, another format, a topic not accepted here, or a body that breaks the schema.
    """
    if len(data) > max(TOPICS[topic].max_bytes for topic in accepts):
        raise MessageError(f"oversize: {len(data)} bytes")
    try:
        raw = msgpack.unpackb(data, strict_map_key=True)
        if isinstance(raw, dict) and raw.get("format") != FORMAT:
            raise MessageError(f"format {raw.get('format')!r}, this is {FORMAT}")
        envelope = Envelope.model_validate(raw)
        if envelope.topic not in accepts:
            raise MessageError(f"topic {envelope.topic!r} is not for this socket")
        if len(data) > TOPICS[envelope.topic].max_bytes:
            raise MessageError(f"oversize: {len(data)} bytes of {envelope.topic}")
        message = TOPICS[envelope.topic].type.model_validate(envelope.body)
    except MessageError:
        raise
    except (ValidationError, ValueError, TypeError, msgpack.UnpackException) as error:
        # MessagePack's own errors may say nothing at all
        raise MessageError(f"broken: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    return Received(envelope.topic, envelope.source, envelope.sequence, message)


@dataclass
class Port:
    """One socket. Never blocks: what cannot be sent at once is refused, what cannot be read is dropped."""

    socket: zmq.Socket
    source: str
    accepts: frozenset[str]
    peers: frozenset[str] | None = None  # who may speak on a ROUTER; None: anybody
    secured: bool = False  # peers have shown a key that is listed under their name
    dropped: Counter[str] = field(default_factory=Counter)
    lost: Counter[str] = field(default_factory=Counter)
    _sent: Counter[tuple[str | None, str]] = field(default_factory=Counter)  # peer, topic: each peer counts gaps
    _next: dict[tuple[str, str], int] = field(default_factory=dict)

    def send(
        self, topic: str, message: Message, *, to: str | None = None, behind: Sequence[memoryview] = ()
    ) -> Tracker | bool:
        """True (or a tracker, when pixels travel) if it left; False when the peer is absent or its queue full."""
        parts: list[bytes | memoryview] = [encode(topic, self.source, self._sent[to, topic], message), *behind]
        if to is not None:
            parts.insert(0, to.encode())
        elif self.socket.type == zmq.PUB:
            parts.insert(0, topic.encode())
        try:
            tracker = self.socket.send_multipart(parts, zmq.NOBLOCK, copy=not behind, track=bool(behind))
        except zmq.ZMQError as error:
            if error.errno in (zmq.EAGAIN, zmq.EHOSTUNREACH):
                return False
            raise
        self._sent[to, topic] += 1
        return tracker if tracker is not None else True

    def reachable(self) -> bool:
        """True when a message could leave now; asked of a PUSH: its peer is there."""
        return bool(self.socket.poll(0, zmq.POLLOUT))

    def drain(self, limit: int = 256) -> list[Received]:
        """Every valid message that is there now, at most `limit`."""
        found = []
        for _ in range(limit):
            try:
                parts = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            received = self._parse(parts)
            if received is not None:
                found.append(received)
        return found

    def _parse(self, parts: list[zmq.Frame]) -> Received | None:
        peer = bytes(parts[0].buffer).decode(errors="replace") if self._addressed() else ""
        body = parts[1:] if self._addressed() else parts
        try:
            if not body:
                raise MessageError("empty")
            received = decode(body[0].buffer, self.accepts)
            self._check_sender(received, peer, body[0])
            if len(body) - 1 > TOPICS[received.topic].behind:
                raise MessageError(f"{len(body) - 1} frames behind {received.topic}")
        except MessageError as error:
            self._drop(peer, str(error))
            return None
        self._count_gap(received)
        behind = tuple(part.buffer for part in body[1:])
        return Received(received.topic, received.source, received.sequence, received.message, behind)

    def _addressed(self) -> bool:
        return self.socket.type in (zmq.ROUTER, zmq.SUB)

    def _check_sender(self, received: Received, peer: str, frame: zmq.Frame) -> None:
        if self.socket.type == zmq.ROUTER and received.source != peer:
            raise MessageError(f"says it is {received.source!r}")
        if self.peers is not None and received.source not in self.peers:
            raise MessageError(f"{received.source!r} is no stage of this line")
        if self.secured and frame.get("User-Id") != received.source:
            raise MessageError(f"says it is {received.source!r} with the key of {frame.get('User-Id')!r}")

    def refuse(self, received: Received, why: str) -> None:
        """Count a message that follows the schema and still cannot be meant."""
        self._drop(received.source if self._addressed() else "", why)

    def ended(self, endpoint: str) -> None:
        """Count a connection that ZeroMQ gave up for what came over it."""
        self._drop(endpoint, "too large or not ZeroMQ's: the connection was ended, and is made again")

    def _drop(self, peer: str, why: str) -> None:
        peer = peer if peer in self.dropped or len(self.dropped) < MOST_SOURCES else "others"
        if peer not in self.dropped:
            LOG.warning("message dropped", extra={"peer": peer or "a peer", "why": why})
        self.dropped[peer] += 1

    def _count_gap(self, received: Received) -> None:
        key = (received.source, received.topic)
        expected = self._next.get(key, received.sequence)
        if received.sequence > expected:
            self.lost[received.topic] += received.sequence - expected
        if key in self._next or len(self._next) < MOST_SOURCES:
            self._next[key] = received.sequence + 1


class Bus:
    """The sockets of one stage, closed together. What reaches beyond this host is bound and connected with keys only.

    Raises (from the methods that make ports):
        StageError: an address cannot be bound, or needs keys that are not there.
    """

    def __init__(self, stage: str, curve: Curve | None = None) -> None:
        self._stage, self._curve = stage, curve
        self._context = zmq.Context()
        self._ports: list[Port] = []
        self._poller = zmq.Poller()
        self._connected: list[Connections] = []
        self.door: Doorkeeper | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.destroy(linger=200)  # also a socket that never became a port: it would keep the end waiting

    def router(self, endpoint: str, accepts: Sequence[str], peers: frozenset[str] | None = None) -> Port:
        """Binds. Peers are addressed by stage name; an absent peer is known at once. `peers`: nobody else is heard."""
        socket = self._socket(zmq.ROUTER, accepts)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a restarted stage takes its name back
        port = self._bind(socket, endpoint, accepts)
        port.peers = peers
        return port

    def dealer(self, endpoint: str, accepts: Sequence[str]) -> Port:
        """Connects under this stage's name."""
        socket = self._socket(zmq.DEALER, accepts)
        socket.setsockopt(zmq.IDENTITY, self._stage.encode())
        return self._connect(socket, [endpoint], accepts)

    def push(self, endpoint: str, topic: str, keep: int = 0) -> Port:
        """Connects; sends only to a peer that is there, or keeps so many messages for one that is not."""
        socket = self._socket(zmq.PUSH, [topic])
        if keep:
            socket.setsockopt(zmq.SNDHWM, keep)
        else:
            socket.setsockopt(zmq.IMMEDIATE, 1)
        return self._connect(socket, [endpoint], [topic])

    def pull(self, endpoint: str, topic: str, queue: int | None = None, frame_bytes: int = LARGEST_FRAME) -> Port:
        """Binds. `queue`: messages of one peer that may wait here, where it is not the topic's own; `frame_bytes`:
        the largest frame of pixels that may follow one, where the topic has such.
        """
        socket = self._socket(zmq.PULL, [topic], frame_bytes)
        if queue is not None:
            socket.setsockopt(zmq.RCVHWM, queue)
        return self._bind(socket, endpoint, [topic])

    def pub(self, endpoint: str, topic: str) -> Port:
        """Binds."""
        return self._bind(self._socket(zmq.PUB, [topic]), endpoint, [topic])

    def sub(self, endpoints: Sequence[str], topic: str) -> Port:
        """Connects to all of them."""
        socket = self._socket(zmq.SUB, [topic])
        socket.setsockopt(zmq.SUBSCRIBE, topic.encode())
        return self._connect(socket, endpoints, [topic])

    def counted(self) -> dict[str, float | dict[tuple[str, ...], float]]:
        """For metrics: what was dropped and lost on all ports, and who was refused at the door."""
        lost: Counter[tuple[str, ...]] = Counter()
        for port in self._ports:
            lost.update({(topic,): float(count) for topic, count in list(port.lost.items())})
        refused = sum(self.door.refused.values()) if self.door else 0
        dropped = sum(port.dropped.total() for port in self._ports)
        return {"messages_dropped": dropped, "messages_lost": dict(lost), "clients_refused": refused}

    def watch(self, descriptor: int) -> None:
        """Let `poll` wake up for a file descriptor too."""
        self._poller.register(descriptor, zmq.POLLIN)

    def poll(self, timeout_ms: int) -> None:
        """Sleep until something can be read on any socket, or the time is over; then look after connections."""
        self._poller.poll(max(timeout_ms, 0))
        if self.door is not None:
            self.door.answer()
        now_ns = time.monotonic_ns()
        for connections in self._connected:
            connections.mend(now_ns)

    def _socket(self, kind: int, topics: Sequence[str], frame_bytes: int = 0) -> zmq.Socket:
        socket = self._context.socket(kind)
        frames = frame_bytes if any(TOPICS[topic].behind for topic in topics) else 0
        largest = max(ROOM * max(TOPICS[topic].max_bytes for topic in topics), frames)
        if kind in (zmq.DEALER, zmq.SUB):
            largest = LARGEST_HEARD
        socket.setsockopt(zmq.MAXMSGSIZE, largest)
        queue = max(TOPICS[topic].queue for topic in topics)
        socket.setsockopt(zmq.SNDHWM, queue)
        socket.setsockopt(zmq.RCVHWM, queue)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 200)
        return socket

    def _bind(self, socket: zmq.Socket, endpoint: str, accepts: Sequence[str]) -> Port:
        if endpoint.startswith("ipc://"):
            Path(endpoint[6:]).unlink(missing_ok=True)
        secured = self._secure(socket, endpoint, lambda curve: curve.bind(socket, endpoint))
        if secured:
            self._open_door()
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            socket.close(linger=0)
            raise StageError(f"{endpoint} cannot be bound ({error.strerror}): free it or name another") from None
        port = self._port(socket, accepts)
        port.secured = secured
        return port

    def _connect(self, socket: zmq.Socket, endpoints: Sequence[str], accepts: Sequence[str]) -> Port:
        def connect(endpoint: str) -> None:
            self._secure(socket, endpoint, lambda curve: curve.connect(socket, endpoint, self._stage))
            socket.connect(endpoint)

        monitor = monitor_of(self._context, socket)
        try:
            for endpoint in endpoints:
                connect(endpoint)
        except TaktError:
            monitor.close(linger=0)
            raise
        port = self._port(socket, accepts)
        self._poller.register(monitor, zmq.POLLIN)
        self._connected.append(Connections(socket, monitor, frozenset(endpoints), connect, port.ended))
        return port

    def _secure(self, socket: zmq.Socket, endpoint: str, use: Callable[[Curve], bool]) -> bool:
        """True if the keys are in use; what is neither secured nor loopback is refused."""
        try:
            secured = self._curve is not None and use(self._curve)
            if not secured and not is_local(endpoint):
                raise StageError(f"{endpoint} is not loopback and the line has no keys: make them with takt keys")
        except TaktError:
            socket.close(linger=0)
            raise
        return secured

    def _open_door(self) -> None:
        if self.door is None and self._curve is not None:
            self.door = Doorkeeper(self._context.socket(zmq.REP), self._curve.listed)
            self._poller.register(self.door.socket, zmq.POLLIN)

    def _port(self, socket: zmq.Socket, accepts: Sequence[str]) -> Port:
        if socket.type not in (zmq.PUSH, zmq.PUB):
            self._poller.register(socket, zmq.POLLIN)
        self._ports.append(Port(socket, self._stage, frozenset(accepts)))
        return self._ports[-1]

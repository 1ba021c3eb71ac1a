"""Free ports for real sockets."""

import socket

import pytest


@pytest.fixture
def port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

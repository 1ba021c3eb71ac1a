"""CURVE: nothing but loopback is bound without keys, and with them only who is listed gets in, under its own name."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq
from station_parts import settings, until
from wire_parts import CAPTURED, HERE, TRIGGER
from zmq.auth import load_certificate

from pipeline.bench.storm import free_port
from pipeline.bus import Bus, Port
from pipeline.config import LineConfig
from pipeline.curve import CLIENTS, STAGES, create, curve_of, folder_of
from pipeline.errors import ConfigError, StageError
from pipeline.messages import FinalOutcome, Outcome
from pipeline.stages import connecting

OUTCOME = FinalOutcome(
    station="cell_1",
    token="0" * 32,
    seq=1,
    panel_id="p",
    outcome=Outcome.REJECT,
    fault=None,
    acknowledged=True,
    score=0.1,
    limit=0.5,
    defects=(),
    recipe="r",
    calibration="c",
    engine="e",
    latency_ms=1.0,
)


@pytest.fixture
def config(tmp_path: Path) -> LineConfig:
    """Outcomes on every address, control on the loopback, both over TCP."""
    plain = settings(tmp_path)
    addresses = {"outcomes": f"tcp://0.0.0.0:{free_port()}", "control": f"tcp://127.0.0.1:{free_port()}"}
    return plain.model_copy(update={"bus": plain.bus.model_copy(update=addresses)})


@pytest.fixture
def bus(config: LineConfig) -> Iterator[Callable[[str], Bus]]:
    """A stage's bus with the keys that it has."""
    with ExitStack() as stack:
        yield lambda stage: stack.enter_context(Bus(stage, curve_of(config, stage)))


def listening(endpoint: str, server: Path, secret: Path | None, stack: ExitStack) -> zmq.Socket:
    """A subscriber that uses nothing of ours; without `secret` it does not even try to show a key."""
    context = zmq.Context()
    subscriber = context.socket(zmq.SUB)
    stack.callback(context.term)
    stack.callback(subscriber.close, linger=0)
    if secret is not None:
        public, private = load_certificate(secret)
        subscriber.curve_publickey, subscriber.curve_secretkey = public, private or b""
        subscriber.curve_serverkey = load_certificate(server)[0]
    subscriber.setsockopt(zmq.SUBSCRIBE, b"outcomes")
    subscriber.connect(endpoint.replace("0.0.0.0", "127.0.0.1"))
    return subscriber


def heard(here: Bus, port: Port, subscriber: zmq.Socket, patience_s: float = 5.0) -> bool:
    """True once `subscriber` gets what `port` sends."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        port.send("outcomes", OUTCOME)
        here.poll(5)
        if subscriber.poll(5):
            return True
    return False


# --- without keys ---


@pytest.mark.parametrize("endpoint", ["tcp://0.0.0.0:0", "tcp://*:0", "tcp://[::]:0", "tcp://192.0.2.7:5570"])
def test_nothing_but_loopback_is_bound_or_connected_to_without_keys(endpoint: str) -> None:
    with Bus("plc_bridge") as plain:
        for call in (
            lambda: plain.pub(endpoint, "outcomes"),
            lambda: plain.router(endpoint, ["captured"]),
            lambda: plain.pull(endpoint, "images"),
            lambda: plain.dealer(endpoint, ["triggers"]),
            lambda: plain.push(endpoint, "images"),
        ):
            with pytest.raises(StageError, match="is not loopback and the line has no keys: make them with takt keys"):
                call()


def test_loopback_stays_plain_with_keys_or_without(tmp_path: Path) -> None:
    plain = settings(tmp_path)
    config = plain.model_copy(
        update={"bus": plain.bus.model_copy(update={"outcomes": f"tcp://127.0.0.1:{free_port()}"})}
    )
    create(config, connecting(config))
    with Bus("plc_bridge", curve_of(config, "plc_bridge")) as here, ExitStack() as stack:
        port = here.pub(config.bus.outcomes, "outcomes")
        assert heard(here, port, listening(config.bus.outcomes, tmp_path, None, stack))


# --- outcomes for third parties ---


def test_listed_clients_hear_outcomes_and_nobody_else_does(config: LineConfig, bus: Any, caplog: Any) -> None:
    create(config, connecting(config), "mes")
    folder = folder_of(config)
    here = bus("plc_bridge")
    port = here.pub(config.bus.outcomes, "outcomes")
    stranger = config.model_copy(update={"state_dir": config.state.parent / "stranger"})
    create(stranger, [], "mes")
    with ExitStack() as stack, caplog.at_level(logging.WARNING, "takt.curve"):
        listed = listening(config.bus.outcomes, folder / "server.key", folder / CLIENTS / "mes.key_secret", stack)
        assert heard(here, port, listed)
        same_name = folder_of(stranger) / CLIENTS / "mes.key_secret"
        for secret in (None, same_name, folder / STAGES / "capture_top.key_secret"):  # a stage is no third party
            outside = listening(config.bus.outcomes, folder / "server.key", secret, stack)
            assert not heard(here, port, outside, 0.5)
        assert heard(here, port, listed)
        until(lambda: here.poll(5) or sum(here.door.refused.values()) >= 2)
    assert list(here.door.refused) == ["127.0.0.1"]
    assert [record.getMessage() for record in caplog.records] == ["client refused: its key is not listed"]


def test_a_client_that_is_taken_off_the_list_is_out_after_a_start(config: LineConfig, bus: Any) -> None:
    create(config, connecting(config), "mes")
    folder = folder_of(config)
    (folder / CLIENTS / "mes.key").unlink()
    here = bus("plc_bridge")
    port = here.pub(config.bus.outcomes, "outcomes")
    with ExitStack() as stack:
        outside = listening(config.bus.outcomes, folder / "server.key", folder / CLIENTS / "mes.key_secret", stack)
        assert not heard(here, port, outside, 0.5)


# --- the line's own stages on another host ---


def test_stages_talk_both_ways_under_their_own_keys(config: LineConfig, bus: Any) -> None:
    create(config, connecting(config))
    here, there = bus("plc_bridge"), bus("capture_top")
    router = here.router(config.socket("control"), ["captured"])
    dealer = there.dealer(config.socket("control"), ["triggers"])
    assert dealer.send("captured", CAPTURED)
    [received] = until(lambda: here.poll(5) or router.drain())
    assert (received.source, received.message) == ("capture_top", CAPTURED)
    assert router.send("triggers", TRIGGER, to="capture_top")
    assert until(lambda: there.poll(5) or dealer.drain())[0].message == TRIGGER


def test_a_stage_with_its_key_cannot_speak_for_another(config: LineConfig, bus: Any) -> None:
    """A camera's host was taken over: it may say what it likes, but not that it is the inspector."""
    create(config, connecting(config))
    here = bus("plc_bridge")
    router = here.router(config.socket("control"), ["presence", "captured"])
    curve = curve_of(config, "capture_top")
    with Bus("inspector", curve) as liar:
        liar.dealer(config.socket("control"), ["triggers"]).send("presence", HERE)
        until(lambda: here.poll(5) or router.drain() or router.dropped["inspector"])
    assert router.dropped == {"inspector": 1}


def test_a_third_partys_key_opens_no_control_socket(config: LineConfig, bus: Any) -> None:
    create(config, connecting(config), "mes")
    here = bus("plc_bridge")
    router = here.router(config.socket("control"), ["presence", "captured"])
    folder = folder_of(config)
    with Bus("capture_top", curve_of(config, "capture_top")) as known, zmq.Context() as context:
        outside = context.socket(zmq.DEALER)
        outside.curve_publickey, secret = load_certificate(folder / CLIENTS / "mes.key_secret")
        outside.curve_secretkey, outside.curve_serverkey = secret or b"", load_certificate(folder / "server.key")[0]
        outside.setsockopt(zmq.LINGER, 0)
        outside.connect(config.socket("control"))
        outside.send(b"x")
        known.dealer(config.socket("control"), ["triggers"]).send("captured", CAPTURED)
        assert until(lambda: here.poll(5) or router.drain())[0].source == "capture_top"
        until(lambda: here.poll(5) or here.door.refused)
        assert router.dropped == {}
        outside.close()


def test_a_stage_without_its_key_is_told_so(config: LineConfig, bus: Any) -> None:
    create(config, ["inspector"])
    with pytest.raises(ConfigError, match="capture_top has no key here: takt keys makes one"):
        bus("capture_top").dealer(config.socket("control"), ["triggers"])
    (folder_of(config) / "server.key_secret").unlink()
    with pytest.raises(ConfigError, match=r"server\.key_secret is missing here"):
        bus("plc_bridge").router(config.socket("control"), ["captured"])


# --- the files ---


def test_keys_are_made_once_and_secrets_are_their_owners_alone(config: LineConfig) -> None:
    first = create(config, connecting(config), "mes")
    assert create(config, connecting(config)) == first
    assert [(what, path.name) for what, path, _ in first] == [
        ("server", "server.key"),
        ("stage", "capture_top.key"),
        ("stage", "inspector.key"),
        ("client", "mes.key"),
    ]
    for secret in folder_of(config).rglob("*.key_secret"):
        assert secret.stat().st_mode & 0o077 == 0
        assert load_certificate(secret)[0] == load_certificate(secret.with_suffix(".key"))[0]
    assert all(b"secret" not in path.read_bytes() for path in folder_of(config).rglob("*.key"))


@pytest.mark.parametrize("name", ["../evil", "", "a b", "a/b", "x" * 65, "mes.key"])
def test_a_clients_name_must_be_a_files_name(config: LineConfig, name: str) -> None:
    with pytest.raises(ConfigError, match="letters, digits, - and _ only"):
        create(config, [], name)


def test_a_certificate_that_is_none_is_said(config: LineConfig) -> None:
    create(config, connecting(config), "mes")
    for content in (b"", b'public-key = "short"\n', b"\xff\xfe"):
        (folder_of(config) / CLIENTS / "mes.key").write_bytes(content)
        (folder_of(config) / CLIENTS / "mes.key_secret").unlink(missing_ok=True)
        with pytest.raises(ConfigError, match=r"mes\.key") as error:
            curve_of(config, "plc_bridge")
        assert "\n" not in str(error.value)

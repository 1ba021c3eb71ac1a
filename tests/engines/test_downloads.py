"""Weights from a server are used whole and as pinned, or not at all; every failure is one line that says what to do."""

import hashlib
import socket
import subprocess
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from served_files import Server, respond, serving

torch = pytest.importorskip("torch", reason="needs the extra [teach]")

from engines.backbones import TEACHERS, download, load_weights  # noqa: E402
from engines.backbones.download import BLOCK, Published, cache, fetch, kept  # noqa: E402
from engines.errors import UsageError  # noqa: E402

CONTENT = bytes(range(256)) * 4096  # 1 MiB
FILE = Published("net-00000000.pth", hashlib.sha256(CONTENT).hexdigest(), mib=1.0)


def whole(handler: BaseHTTPRequestHandler) -> None:
    respond(handler, CONTENT, len(CONTENT))


def unannounced(handler: BaseHTTPRequestHandler) -> None:
    respond(handler, CONTENT, None)


def cut(handler: BaseHTTPRequestHandler) -> None:
    respond(handler, CONTENT[: BLOCK + 5], len(CONTENT))


def cut_unannounced(handler: BaseHTTPRequestHandler) -> None:
    respond(handler, CONTENT[: BLOCK + 5], None)


def other(handler: BaseHTTPRequestHandler) -> None:
    respond(handler, b"<html>please log in</html>", 26)


def endless(handler: BaseHTTPRequestHandler) -> None:
    respond(handler, CONTENT * 3, None)


def absent(handler: BaseHTTPRequestHandler) -> None:
    handler.send_error(404, "Not Found")


def gibberish(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n\r\n")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(whole) as made:
        yield made


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.parametrize("answer", [whole, unannounced])
def test_the_pinned_file_is_kept_and_asked_for_once(server: Server, answer: Callable, tmp_path: Path) -> None:
    server.answer = answer
    told: list[tuple[int, int]] = []
    path = fetch(FILE, tmp_path / "cache", server.url, lambda phase, done, total: told.append((done, total)))
    assert path.read_bytes() == CONTENT and path.stat().st_mode & 0o777 == 0o644
    assert len(told) > 1 and all(done < total for done, total in told)
    assert fetch(FILE, tmp_path / "cache", server.url) == path
    assert server.asked == ["/models/net-00000000.pth"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (other, r"is not the pinned file \(SHA-256 [0-9a-f]{8}\.\.\., not [0-9a-f]{8}\.\.\.\); nothing was kept"),
        (cut, r"broke off after \d+ of 1048576 bytes; try again"),
        (cut_unannounced, r"is not the pinned file"),
        (endless, r"sends more than net-00000000\.pth has \(1 MiB\)"),
        (absent, r"the server answers 404 Not Found"),
        (gibberish, r"cannot be reached \("),
    ],
)
def test_anything_else_is_one_line_and_leaves_nothing(
    server: Server, answer: Callable, says: str, tmp_path: Path
) -> None:
    server.answer = answer
    with pytest.raises(UsageError, match=says) as caught:
        fetch(FILE, tmp_path, server.url)
    assert "--teacher-weights" in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_connection_and_an_unknown_host_are_one_line(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        refusing = f"http://127.0.0.1:{closed.getsockname()[1]}/models"
        with pytest.raises(UsageError, match=r"cannot be reached \(.*refused.*\); .*--teacher-weights"):
            fetch(FILE, tmp_path, refusing)
    with pytest.raises(UsageError, match=r"cannot be reached \("):
        fetch(FILE, tmp_path, "http://weights.invalid/models")
    with pytest.raises(UsageError, match=r"cannot be reached \(unknown url type"):
        fetch(FILE, tmp_path, "weights")


def test_a_file_that_was_changed_since_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / FILE.name).write_bytes(CONTENT[:-1])
    assert kept(FILE, tmp_path) is None
    assert fetch(FILE, tmp_path, server.url).read_bytes() == CONTENT


def test_a_cache_that_cannot_be_written_is_one_line(server: Server, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    with pytest.raises(UsageError, match=r"cannot be written \(.*\); .*--teacher-weights"):
        fetch(FILE, tmp_path / "cache", server.url)


def test_a_full_disk_is_one_line_and_leaves_nothing(server: Server, tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", place], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root and CAP_SYS_ADMIN")
    try:
        with pytest.raises(UsageError, match=r"cannot take net-00000000\.pth \(No space left on device\); make room"):
            fetch(FILE, place, server.url)
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", place], check=True)


def test_the_cache_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache() == tmp_path / "takt" / "weights"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache() == tmp_path / ".cache" / "takt" / "weights"


def test_without_being_asked_nothing_is_downloaded_and_a_file_in_the_cache_is_used_only_as_pinned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    trunk = TEACHERS["resnet18"].trunk()
    needs = r"needs its weights: give --teacher-weights DIR with resnet18\*\.pth, or --download-weights \(45 MiB\)"
    with pytest.raises(UsageError, match=needs):
        load_weights(trunk, "resnet18", None)
    cache().mkdir(parents=True)
    torch.save(trunk.state_dict(), cache() / "resnet18-f37072fd.pth")  # fits, but is not the pinned one
    with pytest.raises(UsageError, match=needs):
        load_weights(trunk, "resnet18", None)


def test_a_teacher_asks_the_server_for_its_published_file(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server.answer = absent
    published = {kind: teacher for kind, teacher in TEACHERS.items() if teacher.published}
    for kind in published:
        with pytest.raises(UsageError, match="404"):
            download(kind, server.url)
    assert server.asked == [f"/models/{one.published.name}" for one in published.values() if one.published]
    download("takt", server.url)  # it ships: nothing to ask for
    with pytest.raises(UsageError, match=r"pdn_small cannot be downloaded: give --teacher-weights DIR"):
        download("pdn_small", server.url)
    assert len(server.asked) == len(published)


def test_pins_are_whole_digests_that_begin_as_the_published_names_say() -> None:
    for teacher in TEACHERS.values():
        if teacher.published:
            stated = teacher.published.name.removesuffix(".pth").rpartition("-")[2]
            assert len(stated) == 8 and teacher.published.sha256.startswith(stated)
            assert len(teacher.published.sha256) == 64

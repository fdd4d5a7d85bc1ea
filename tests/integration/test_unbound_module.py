"""The parts of Unbound's module that need no Unbound: settings, breaker, connection."""

import ast
import importlib.util
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.servers.fronts import INTEGRATIONS

SOURCE = INTEGRATIONS / "unbound/meshd_unbound.py"


@pytest.fixture
def module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("meshd_unbound", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_standard_library_only() -> None:
    """Unbound 1.17 goes down with C extensions of others on its first reload."""
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SOURCE.read_text()))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [str(node.module)]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported
    assert imported <= set(sys.stdlib_module_names)


def test_settings(module: ModuleType) -> None:
    shipped = module.Settings(SOURCE.with_suffix(".toml").read_text())
    assert (shipped.names, shipped.timeout_s) == ({"mesh.internal."}, 0.05)
    assert module.Settings('names = ["API.My.example."]').names == {"api.my.example."}


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("", ["names must be a list"]),
        ("names = []", ["names must be a list"]),
        ('names = "mesh.internal"', ["names must be a list"]),
        (
            'socket = 5\nnames = [1]\ntimeout-ms = 0\nnme = "x"',
            ["nme is no setting", "socket", "names", "timeout-ms"],
        ),
        ('names = ["a."]\ntimeout-ms = 2001', ["timeout-ms"]),
    ],
)
def test_wrong_settings_are_all_said(module: ModuleType, text: str, faults: list[str]) -> None:
    with pytest.raises(ValueError, match="must be") as caught:
        module.Settings(text)
    for fault in faults:
        assert fault in str(caught.value)


def test_which_names_are_meshds(module: ModuleType) -> None:
    mesh = module.Mesh(module.Settings('names = ["mesh.internal", "api.my.example"]'))
    for name in (
        "mesh.internal.",
        "a.b.MESH.internal.",
        "api.my.example.",
        r"x\046y.mesh.internal.",
    ):
        assert mesh.holds(name), name
    for name in (".", "internal.", "xmesh.internal.", "my.example.", "api.my.example.org."):
        assert not mesh.holds(name), name


def test_the_breaker(module: ModuleType) -> None:
    breaker = module.Breaker()
    assert [breaker.failed(at) for at in (0.0, 0.1)] == [False, False]
    assert breaker.allows(0.2)
    assert breaker.failed(0.2)
    assert not breaker.allows(1.1)
    # One in a pause tries, the others do not wait.
    assert [breaker.allows(at) for at in (1.3, 1.3, 2.2, 2.4, 2.4)] == [
        True, False, False, True, False,
    ]  # fmt: skip
    assert breaker.succeeded()
    assert breaker.allows(2.5)
    assert not breaker.succeeded()
    # One failure alone is none to give up for.
    assert not breaker.failed(3.0)
    assert breaker.allows(3.0)


@pytest.mark.parametrize(
    ("data", "prefix"),
    [
        (b"\0\1\x18\0\x0a\1\2", "10.1.2.0/24"),
        (b"\0\1\x10\0\x0a\1\2\3", "10.1.0.0/16"),
        (b"\0\1\0\0", "0.0.0.0/0"),
        (b"\0\2\x38\0\x20\1\x0d\xb8\0\1\0", "2001:db8:1::/56"),
    ],
)
def test_client_subnets(module: ModuleType, data: bytes, prefix: str) -> None:
    assert module._prefix(data) == prefix


def test_names_in_presentation_form(module: ModuleType) -> None:
    assert module._presented(b"\3a.b\2*_\3A-1\0") == r"a\046b.*_.A-1."
    assert module._presented(b"\2\0\xff\0") == r"\000\255."
    assert module._presented(b"\0") == "."


class Responder:
    """A bridge whose connections are served by `serve`, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.accepted: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()

    def accept(self) -> socket.socket:
        connection, _ = self._listener.accept()
        connection.settimeout(5)
        self.accepted.append(connection)
        return connection

    def stop(self) -> None:
        for each in (self._listener, *self.accepted):
            each.close()
        self.path.unlink()


@pytest.fixture
def responder(tmp_path: Path) -> Iterator[Responder]:
    made = Responder(tmp_path / "bridge.sock")
    yield made
    made.stop()


def test_a_reply_in_parts(module: ModuleType, responder: Responder) -> None:
    def serve() -> None:
        connection = responder.accept()
        assert connection.recv(100) == b"question\n"
        for part in (b"first ", b"second ", b"last\n"):
            connection.sendall(part)
            time.sleep(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    connection = module.Connection(str(responder.path), 2.0)
    assert connection.ask(b"question\n") == b"first second last\n"
    thread.join(5)
    connection.close()


def test_a_late_reply_is_nobodys(module: ModuleType, responder: Responder) -> None:
    connection = module.Connection(str(responder.path), 0.05)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        connection.ask(b"first\n")
    assert time.monotonic() - began < 0.5
    late = responder.accept()

    def serve() -> None:
        again = responder.accept()
        assert again.recv(100) == b"second\n"
        again.sendall(b"to the second\n")

    thread = threading.Thread(target=serve)
    thread.start()
    # The module gave that connection up, so this reaches nobody.
    assert late.recv(100) == b"first\n"
    assert late.recv(100) == b""
    assert connection.ask(b"second\n") == b"to the second\n"
    thread.join(5)
    connection.close()


def test_drops_do_not_outlast_the_deadline(module: ModuleType, responder: Responder) -> None:
    stop = threading.Event()

    def drip() -> None:
        connection = responder.accept()
        while not stop.wait(0.02):
            try:
                connection.sendall(b".")
            except OSError:
                return

    thread = threading.Thread(target=drip)
    thread.start()
    connection = module.Connection(str(responder.path), 0.1)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        connection.ask(b"question\n")
    assert time.monotonic() - began < 1
    stop.set()
    thread.join(5)


def test_meshd_restarted(module: ModuleType, responder: Responder) -> None:
    """One silent second try on a connection that was closed in between."""

    def serve() -> None:
        first = responder.accept()
        first.recv(100)
        first.sendall(b"one\n")
        first.close()
        second = responder.accept()
        second.recv(100)
        second.sendall(b"two\n")

    thread = threading.Thread(target=serve)
    thread.start()
    connection = module.Connection(str(responder.path), 2.0)
    assert connection.ask(b"1\n") == b"one\n"
    assert connection.ask(b"2\n") == b"two\n"
    thread.join(5)
    connection.close()


def test_no_meshd(module: ModuleType, tmp_path: Path) -> None:
    connection = module.Connection(str(tmp_path / "none.sock"), 0.05)
    with pytest.raises(FileNotFoundError):
        connection.ask(b"question\n")


def test_a_reply_without_end(module: ModuleType, responder: Responder) -> None:
    def serve() -> None:
        connection = responder.accept()
        try:
            while True:
                connection.sendall(bytes(1 << 16))
        except OSError:
            return

    thread = threading.Thread(target=serve)
    thread.start()
    connection = module.Connection(str(responder.path), 2.0)
    with pytest.raises(ConnectionError, match="no end"):
        connection.ask(b"question\n")
    thread.join(5)

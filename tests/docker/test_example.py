"""The example as a user starts it, with docker's own compose; what its page says comes true."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest
import yaml

from tests.docker.cluster import EXAMPLE
from tests.docker.containers import free_subnets
from tests.docker.images import TAG
from tests.servers.fronts import INTEGRATIONS
from tests.servers.install import find
from tests.servers.processes import wait_until

_PAGE = (EXAMPLE / "README.md").read_text()
_SERVERS = ("unbound", "powerdns", "dnsdist")
_WAIT_S = 60.0
# Server -> what is shipped for it, where that stands, and what is changed.
_PATIENCE = {
    "unbound": ("unbound/meshd_unbound.toml", "/etc/unbound/meshd_unbound.toml",
                "timeout-ms = 50", "timeout-ms = 1000"),
    "powerdns": ("powerdns/meshd.conf", "/etc/powerdns/pdns.d/meshd.conf",
                 "timeout=200", "timeout=1000"),
}  # fmt: skip
_END = "docker compose down --volumes --timeout 1"


def compose_command() -> list[str]:
    """How compose is called here; skipped where it is not."""
    plugin = find("docker")
    if plugin is not None:
        done = subprocess.run([plugin, "compose", "version"], capture_output=True, check=False)
        if done.returncode == 0:
            return [plugin, "compose"]
    program = find("docker-compose")
    if program is None:
        pytest.skip("neither docker's compose plugin nor docker-compose is installed")
    return [program]


class Example:
    """A copy of the folder, on networks of its own, in which the page's commands are run."""

    def __init__(self, folder: Path, subnets: str) -> None:
        self.folder = folder
        self.subnets = subnets
        self._changes = 0
        files = [f"--file={folder / name}" for name in ("compose.yaml", "patience.yaml")]
        self._command = [*compose_command(), "--project-name", "meshd-example", *files]
        for file in EXAMPLE.iterdir():
            text = file.read_text().replace("10.213.", subnets)
            # Its ports may be those of another one here.
            (folder / file.name).write_text(re.sub(r"127\.0\.0\.1:\d+:", "127.0.0.1::", text))
        self._be_patient()
        self.eu, self.us = (
            {f"{subnets}3.{host}" for host in hosts} for hosts in (("51", "52"), ("151", "152"))
        )

    def _be_patient(self) -> None:
        """Let DNS servers wait longer for meshd than shipped, as a busy machine needs."""
        services = {}
        for server, (shipped, place, old, new) in _PATIENCE.items():
            text = (INTEGRATIONS / shipped).read_text()
            assert old in text
            name = Path(shipped).name
            (self.folder / name).write_text(text.replace(old, new))
            services[server] = {"volumes": [f"./{name}:{place}:ro"]}
        (self.folder / "patience.yaml").write_text(yaml.safe_dump({"services": services}))

    def run(self, line: str) -> str:
        """What a line of the page says, `docker compose ...`; AssertionError if it fails."""
        code, said = self.attempt(line)
        assert code == 0, f"{line}: {said}"
        return said

    def attempt(self, line: str) -> tuple[int, str]:
        """Exit code and output of a line."""
        assert line.startswith("docker compose "), line
        words = shlex.split(line, comments=True)[2:]
        if words[0] == "exec":
            # There is no terminal.
            words.insert(1, "-T")
        done = subprocess.run(
            [*self._command, *words], cwd=self.folder, capture_output=True, text=True, check=False,
            env={**os.environ, "TAG": TAG}, timeout=180,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def answer(self, server: str, *options: str) -> set[str]:
        """What a server answers the client; nothing if it fails."""
        words = ["dig", f"@{server}", "api.mesh.internal", "+short", "+tries=1", *options]
        code, said = self.attempt(shlex.join(["docker", "compose", "exec", "client", *words]))
        return set(said.split()) if code == 0 else set()

    def wait_complete(self, *servers: str) -> None:
        """Wait until servers answer with all instances of the client's pop."""
        for server in servers:
            self.wait(server, lambda answer: answer == self.eu)

    def wait(self, server: str, check: Callable[[set[str]], bool]) -> None:
        """Wait for an answer of a server."""
        wait_until(f"{server} says so", lambda: check(self.answer(server)), _WAIT_S)

    def change(self) -> tuple[int, str]:
        """Exit code and output of a change that no client here sees."""
        self._changes += 1
        verb = ("up", "clear")[self._changes % 2]
        return self.attempt(f"docker compose exec core3 meshctl instance {verb} api-us-1")


def lines(section: str) -> list[str]:
    """The commands of a section of the page, those that run for ever left out."""
    part = _PAGE.split(f"## {section}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if "while" not in line]


def rows() -> list[str]:
    """What the page does to break it, in order."""
    return re.findall(r"^\| `(docker compose [^`]+)` \|", _PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def example(
    engine: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Example]:
    made = Example(tmp_path_factory.mktemp("example"), free_subnets(engine))
    # Of a run that crashed.
    made.run(_END)
    try:
        # The images are there; to build them here would need a registry and PyPI.
        made.run("docker compose up -d")
        made.wait_complete(*_SERVERS)
        yield made
    finally:
        made.run(_END)


def test_look_at_it(example: Example) -> None:
    here, far, ordered, called, top, nodes, history, *changes = (
        example.run(line) for line in lines("Look at it")
    )
    assert set(here.split()) == example.eu
    assert set(far.split()) == example.us
    assert len(ordered.splitlines()) == 4
    assert "Directory listing" in called
    assert "api-us-2" in top
    assert "core3" in nodes
    assert "api-us-2" in history
    _, without, _ = changes
    assert set(without.split()) & example.eu == {f"{example.subnets}3.52"}
    example.wait_complete(*_SERVERS)


def test_break_it(example: Example) -> None:
    """Each row of the page, in its order."""
    assert list(_SEEN) == rows()
    for line, seen in _SEEN.items():
        print(line)  # noqa: T201 - shown if it fails
        example.run(line)
        seen(example)


def answers_go_on(example: Example, *servers: str) -> None:
    """Servers answer for some time with all instances of the client's pop, and nothing else."""
    asked = " ".join(servers or _SERVERS)
    dig = "dig @$s api.mesh.internal +noall +comments +answer +tries=1"
    show = "grep -oE 'status: [A-Z]+|[0-9]+[.][0-9.]+$|timed out' | sort | xargs"
    script = f"for n in $(seq 10); do for s in {asked}; do {dig} | {show}; sleep 0.1; done; done"
    said = example.run(f'docker compose exec client sh -c "{script}"').splitlines()
    right = " ".join([*sorted(example.eu), "status: NOERROR"])
    assert said == [right] * len(said)


def writes_go_on(example: Example) -> None:
    """A core takes changes, and nobody saw them wait."""
    wait_until("core3 takes a change", lambda: example.change()[0] == 0, _WAIT_S)
    answers_go_on(example)


def writes_are_refused(example: Example) -> None:
    """A core says that it has no store, and answers go on."""
    code, said = example.change()
    assert code != 0
    assert "etcd cannot be reached" in said
    answers_go_on(example)


def one_server_fails(example: Example) -> None:
    """A server without meshd says that it failed; the others do not notice."""
    code, said = example.attempt("docker compose exec client dig @powerdns api.mesh.internal")
    assert code or "SERVFAIL" in said
    answers_go_on(example, "unbound", "dnsdist")


def one_instance_is_out(example: Example) -> None:
    """An instance goes from all answers."""
    gone = f"{example.subnets}3.52"
    for server in _SERVERS:
        example.wait(server, lambda answer: bool(answer) and gone not in answer)


def all_is_well(example: Example) -> None:
    """All servers answer with all instances, some time after."""
    example.wait_complete(*_SERVERS)


_SEEN: dict[str, Callable[[Example], None]] = {
    "docker compose kill etcd1": writes_go_on,
    "docker compose kill etcd2": writes_are_refused,
    "docker compose start etcd1 etcd2": writes_go_on,
    "docker compose kill core1": answers_go_on,
    "docker compose start core1": answers_go_on,
    "docker compose pause answer1": one_server_fails,
    "docker compose unpause answer1": all_is_well,
    "docker compose kill api-eu-2": one_instance_is_out,
    "docker compose start api-eu-2": all_is_well,
}

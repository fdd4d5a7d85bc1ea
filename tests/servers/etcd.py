"""An etcd cluster on loopback: members that are killed, paused, wiped and restored."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import trustme

from tests.servers.install import find
from tests.servers.processes import Server, free_port, wait_until

_MEMORY = Path("/dev/shm")
# What a cluster of three takes to elect a leader, on a machine that does other things.
_READY_S = 60.0
_ROOT_PASSWORD = "root"


def program(name: str, binaries: Path | None = None) -> str | None:
    """Where etcd, etcdctl or etcdutl is, in a folder of binaries or as installed."""
    if binaries is None:
        return find(name)
    return shutil.which(name, path=str(binaries))


class Certificates:
    """A CA with certificates for the members and for a client of the name `meshd`.

    `stranger` is another CA that signed nothing here.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1", "localhost")
        client = authority.issue_cert("meshd@example.com", common_name="meshd")
        self.ca = folder / "ca.pem"
        self.stranger = folder / "stranger.pem"
        self.server, self.server_key = folder / "server.pem", folder / "server.key"
        self.client, self.client_key = folder / "client.pem", folder / "client.key"
        authority.cert_pem.write_to_path(self.ca)
        trustme.CA().cert_pem.write_to_path(self.stranger)
        for issued, chain, key in (
            (server, self.server, self.server_key),
            (client, self.client, self.client_key),
        ):
            chain.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
            issued.private_key_pem.write_to_path(key)
            key.chmod(0o600)


class Member(Server):
    """One member; its data outlives it."""

    def __init__(self, name: str, folder: Path, data: Path) -> None:
        self.endpoint = f"127.0.0.1:{free_port()}"
        self.peer = f"http://127.0.0.1:{free_port()}"
        self.data = data / name
        self.is_paused = False
        # Health and metrics, without certificates and without a login.
        self._monitor = f"http://127.0.0.1:{free_port()}"
        super().__init__(name, [], folder)
        self._environment = {
            name: value for name, value in self._environment.items() if name[:4] != "ETCD"
        }

    def configure(self, etcd: str, tls: Certificates | None, more: Sequence[str]) -> None:
        """Say what it is started with."""
        url = f"http{'s' if tls else ''}://{self.endpoint}"
        self._command = [
            etcd, "--name", self.name, "--data-dir", str(self.data),
            "--listen-client-urls", url, "--advertise-client-urls", url,
            "--listen-peer-urls", self.peer, "--initial-advertise-peer-urls", self.peer,
            "--listen-metrics-urls", self._monitor, "--logger", "zap", "--log-outputs", "stderr",
            *more,
        ]  # fmt: skip
        if tls:
            self._command += [
                "--cert-file", str(tls.server), "--key-file", str(tls.server_key),
                "--trusted-ca-file", str(tls.ca), "--client-cert-auth",
            ]  # fmt: skip

    def signal(self, number: int) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """Let it hang until `resume`."""
        self.signal(signal.SIGSTOP)
        self.is_paused = True

    def resume(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)
        self.is_paused = False

    def kill(self) -> None:
        """End it as a crash would."""
        super().kill()
        self.is_paused = False

    def stop(self) -> int:
        """End it in order."""
        if self.is_paused:
            self.resume()
        # A second is usual; while watches are open, etcd 3.5 takes up to eight.
        return super().stop()

    @property
    def is_live(self) -> bool:
        """True if it runs and does not hang."""
        return self.is_running and not self.is_paused

    def is_healthy(self) -> bool:
        """True if it has a leader and answers."""
        if not self.is_running:
            raise RuntimeError(f"{self.name} ended: {self.tail()}")
        return '"true"' in self._get("health")

    def is_leader(self) -> bool:
        """True if it says that it leads."""
        return "\netcd_server_is_leader 1\n" in self._get("metrics")

    def _get(self, path: str) -> str:
        if not self.is_live:
            return ""
        try:
            with urllib.request.urlopen(f"{self._monitor}/{path}", timeout=2) as reply:
                return str(reply.read().decode())
        except OSError:
            return ""


class Etcd:
    """A cluster of one member or more; `binaries` is the folder of another version.

    With `tls`, clients need a certificate. `flags` go to each member, as in
    `--quota-backend-bytes=20000000`.
    """

    def __init__(
        self,
        folder: Path,
        size: int = 1,
        *,
        binaries: Path | None = None,
        tls: bool = False,
        flags: Sequence[str] = (),
    ) -> None:
        self._binaries = binaries
        self._flags = list(flags)
        self._made = 0
        self._is_auth_on = False
        folder.mkdir(parents=True, exist_ok=True)
        self.tls = Certificates(folder / "tls") if tls else None
        # On a disk that others use too, each write of a test would wait for theirs.
        where = _MEMORY if os.access(_MEMORY, os.W_OK) else folder
        self._data = Path(tempfile.mkdtemp(prefix="meshd-etcd-", dir=where))
        self.members = [Member(f"etcd{n}", folder, self._data) for n in range(1, size + 1)]
        self._configure()

    def _program(self, name: str) -> str:
        found = program(name, self._binaries)
        assert found is not None, f"{name}: asked for only where it is installed"
        return found

    def _configure(self) -> None:
        more = [*self._initial, "--initial-cluster-state", "new", *self._flags]
        for member in self.members:
            member.configure(self._program("etcd"), self.tls, more)

    @property
    def _initial(self) -> list[str]:
        peers = ",".join(f"{member.name}={member.peer}" for member in self.members)
        token = f"{self._data.name}-{self._made}"
        return ["--initial-cluster", peers, "--initial-cluster-token", token]

    @property
    def endpoints(self) -> tuple[str, ...]:
        """host:port of each member, for clients."""
        return tuple(member.endpoint for member in self.members)

    def start(self) -> None:
        """Start each member that does not run."""
        for member in self.members:
            if not member.is_running:
                member.start()

    def wait_ready(self, timeout_s: float = _READY_S) -> None:
        """Wait until every member that runs has a leader and answers."""
        for member in self.members:
            if member.is_live:
                wait_until(f"{member.name} is healthy", member.is_healthy, timeout_s)

    def start_ready(self) -> None:
        """Start it and wait until it is ready."""
        self.start()
        self.wait_ready()

    def stop(self) -> None:
        """End it and throw its data away."""
        self._kill_all()
        shutil.rmtree(self._data, ignore_errors=True)

    def _kill_all(self) -> None:
        # SIGKILL ends a paused one too.
        for member in self.members:
            member.kill()

    def leader(self, timeout_s: float = _READY_S) -> Member:
        """The member that leads, waited for."""
        found: list[Member] = []

        def look() -> bool:
            found[:] = [member for member in self.members if member.is_leader()]
            return len(found) == 1

        wait_until("etcd has one leader", look, timeout_s)
        return found[0]

    def followers(self) -> list[Member]:
        """The members that run and do not lead."""
        leader = self.leader()
        return [member for member in self.members if member.is_live and member is not leader]

    def wipe(self) -> None:
        """Start anew with empty disks, as another cluster at the same addresses."""
        self._renew()
        self.start_ready()

    def _renew(self) -> None:
        self._kill_all()
        for member in self.members:
            shutil.rmtree(member.data, ignore_errors=True)
        self._made += 1
        self._is_auth_on = False
        self._configure()

    def save(self, path: Path) -> None:
        """A snapshot of the data, to a file."""
        # Of one member, whichever: each has all.
        member = next(member for member in self.members if member.is_live)
        self.etcdctl("snapshot", "save", str(path), endpoints=(member.endpoint,))

    def restore(self, path: Path) -> None:
        """Start anew with what a snapshot holds."""
        self._renew()
        # The other program since 3.5; 3.6 has only that.
        tool = program("etcdutl", self._binaries) or self._program("etcdctl")
        for member in self.members:
            peer = ["--initial-advertise-peer-urls", member.peer]
            command = [tool, "snapshot", "restore", str(path), "--name", member.name]
            self._run([*command, *self._initial, *peer, "--data-dir", str(member.data)])
        self.start_ready()

    def revision(self) -> int:
        """The newest revision."""
        return int(json.loads(self.etcdctl("get", "-", "-w", "json"))["header"]["revision"])

    def compact(self) -> int:
        """Forget all history; the revision that is left."""
        revision = self.revision()
        self.etcdctl("compact", str(revision))
        return revision

    def enable_auth(self, user: str, password: str, prefix: str = "/meshd/") -> None:
        """Let in only who has a login; this one may read and write the prefix and nothing else."""
        for command in (
            ["user", "add", f"root:{_ROOT_PASSWORD}"],
            ["user", "grant-role", "root", "root"],
            ["role", "add", "meshd"],
            ["role", "grant-permission", "meshd", "--prefix=true", "readwrite", prefix],
            ["user", "add", f"{user}:{password}"],
            ["user", "grant-role", user, "meshd"],
            ["auth", "enable"],
        ):
            self.etcdctl(*command)
        self._is_auth_on = True

    def etcdctl(self, *arguments: str, endpoints: Sequence[str] = ()) -> str:
        """What etcdctl says, run against the members that are live."""
        asked = endpoints or [member.endpoint for member in self.members if member.is_live]
        options = [f"--endpoints={','.join(asked)}", "--command-timeout=10s"]
        if self.tls:
            options += [
                f"--cacert={self.tls.ca}", f"--cert={self.tls.client}",
                f"--key={self.tls.client_key}",
            ]  # fmt: skip
        if self._is_auth_on:
            options.append(f"--user=root:{_ROOT_PASSWORD}")
        return self._run([self._program("etcdctl"), *options, *arguments])

    def _run(self, command: Sequence[str]) -> str:
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stderr.strip()[-1000:]}")
        return done.stdout

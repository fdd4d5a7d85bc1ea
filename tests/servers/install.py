"""Installs the system packages that tests need, where that is possible; says so where it is not.

`python -m tests.servers.install demo|test|bench`
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Program to look for -> Debian packages that bring it.
FOR_DEMO = {
    # The bind backend serves the benchmarks: LUA records come from a zone file.
    "pdns_server": ("pdns-server", "pdns-backend-remote", "pdns-backend-bind"),
    "dig": ("bind9-dnsutils",),
}
FOR_TESTS = {
    **FOR_DEMO,
    "unbound": ("unbound", "python3-unbound"),
    "dnsdist": ("dnsdist",),
    "named": ("bind9",),
    "pdns_recursor": ("pdns-recursor",),
    "kresd": ("knot-resolver",),
    "dnsmasq": ("dnsmasq-base",),
    "node": ("nodejs",),
    "etcd": ("etcd-server",),
    "etcdctl": ("etcd-client",),
}
FOR_CONTAINERS = {
    **FOR_TESTS,
    "dockerd": ("docker.io",),
    # Makes the base image where no registry can be reached.
    "debootstrap": ("debootstrap",),
    "docker-compose": ("docker-compose",),
    "ip": ("iproute2",),
    "iptables": ("iptables",),
    "faketime": ("faketime",),
}
FOR_BENCH = {
    **FOR_TESTS,
    "gdnsd": ("gdnsd",),
    "cc": ("gcc", "libc6-dev"),
}
# While packages are installed: their services must not start and take port 53.
_POLICY = Path("/usr/sbin/policy-rc.d")


def find(program: str) -> str | None:
    """Where a program is, the system directories included that a user's path may lack.

    MESHD_DEMO_WITHOUT (names with commas) makes it overlook some, to try what happens then.
    """
    if program in os.environ.get("MESHD_DEMO_WITHOUT", "").split(","):
        return None
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def missing(wanted: dict[str, tuple[str, ...]]) -> list[str]:
    """Packages of the programs that are not there."""
    return [name for program, names in wanted.items() if not find(program) for name in names]


def install(packages: list[str]) -> str:
    """Install packages with apt; returns why not, or nothing."""
    if os.geteuid() != 0:
        return "not root"
    if shutil.which("apt-get") is None:
        return "no apt-get here"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    fetch = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    with _no_services():
        for command in (["apt-get", "update", "-qq"], fetch):
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            if done.returncode:
                return done.stderr.decode(errors="replace").strip()[-300:]
    return ""


@contextmanager
def _no_services() -> Iterator[None]:
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def main(arguments: list[str]) -> int:
    """Install what is missing; never fails: what cannot run then says why it is skipped."""
    (purpose,) = arguments
    packages = missing({"demo": FOR_DEMO, "test": FOR_CONTAINERS, "bench": FOR_BENCH}[purpose])
    if packages:
        sys.stderr.write(f"installing {' '.join(packages)}\n")
        reason = install(packages)
        if reason:
            sys.stderr.write(f"not installed ({reason}): {' '.join(packages)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

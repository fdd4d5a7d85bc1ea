"""Installs the system packages that tests need, where that is possible; says so where it is not.

`python -m tests.servers.install [--bench]`
"""

import os
import shutil
import subprocess
import sys

# Program to look for -> Debian package that brings it.
FOR_TESTS = {
    "pdns_server": ("pdns-server", "pdns-backend-remote"),
    "dig": ("bind9-dnsutils",),
}
FOR_BENCH = {
    "gdnsd": ("gdnsd",),
    "cc": ("gcc", "libc6-dev"),
}


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
    # Packages must not start their services: tests start what they need.
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *packages]):
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        if done.returncode:
            return done.stderr.decode(errors="replace").strip()[-300:]
    return ""


def main(arguments: list[str]) -> int:
    """Install what is missing; never fails: what cannot run then says why it is skipped."""
    wanted = {**FOR_TESTS, **(FOR_BENCH if "--bench" in arguments else {})}
    packages = missing(wanted)
    if packages:
        sys.stderr.write(f"installing {' '.join(packages)}\n")
        reason = install(packages)
        if reason:
            sys.stderr.write(f"not installed ({reason}): {' '.join(packages)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

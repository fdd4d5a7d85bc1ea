"""A newer etcd than the one installed: unpacked from Debian's archive, nothing gets installed."""

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

_SUITE = "trixie"
_SOURCE = "deb [signed-by={keys}] http://deb.debian.org/debian {suite} main\n"
_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_PACKAGES = ("etcd-server", "etcd-client")
_FETCH_S = 90
# Once for all runs.
_KEPT = Path(sys.prefix) / f"etcd-{_SUITE}"


@cache
def fetch() -> tuple[Path | None, str]:
    """The folder with its programs, or None and why it cannot be had."""
    if not (_KEPT / "etcd").exists():
        if shutil.which("apt-get") is None or not _KEYS.exists():
            return None, "no apt-get with Debian's keys here"
        try:
            _unpack()
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            return None, f"etcd of Debian {_SUITE} cannot be had: {said.strip()[-200:]}"
    return _KEPT, ""


def _unpack() -> None:
    with tempfile.TemporaryDirectory(dir=sys.prefix) as name:
        folder = Path(name)
        for part in ("state/lists/partial", "cache/archives/partial", "out"):
            (folder / part).mkdir(parents=True)
        source = folder / "sources.list"
        source.write_text(_SOURCE.format(keys=_KEYS, suite=_SUITE))
        options = {
            "Dir::Etc::sourcelist": source,
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State": folder / "state",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": folder / "cache",
            "Acquire::Languages": "none",
            "Acquire::Retries": 1,
            "Acquire::http::Timeout": 10,
            "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
        _run([*apt, "-oAPT::Update::Error-Mode=any", "update"], folder)
        _run([*apt, "download", *_PACKAGES], folder)
        for package in folder.glob("*.deb"):
            _run(["dpkg-deb", "-x", str(package), "out"], folder)
        if not _KEPT.exists():
            (folder / "out/usr/bin").rename(_KEPT)


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, timeout=_FETCH_S
    )

"""The images of examples/cluster, built here also where no registry can be reached."""

import hashlib
import io
import platform
import socket
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
from docker.errors import BuildError, ImageNotFound

from tests.docker.engine import NoEngine, cache
from tests.servers.install import find
from tests.servers.processes import ROOT

TAG = "test"
TARGETS = ("etcd", "meshd", "powerdns", "unbound", "dnsdist", "client")
DOCKERFILE = "examples/cluster/Dockerfile"
# meshd, and what breaks its network and its clock.
TOOLS = f"meshd-cluster/tools:{TAG}"
_OFFICIAL = "debian:bookworm-slim"
_OWN_BASE = "meshd-cluster/base:bookworm"
_REGISTRY = ("registry-1.docker.io", 443)
_CONTEXT = ("pyproject.toml", "README.md", "LICENSE", "meshd", "integrations", "examples/cluster")

Say = Callable[[str], None]


def image(target: str) -> str:
    """The name of an image."""
    return f"meshd-cluster/{target}:{TAG}"


def build(engine: docker.DockerClient, say: Say) -> None:
    """Build all images; what did not change comes from the engine's cache."""
    arguments = {"BASE": _base(engine, say), "PIP_NO_INDEX": "1"}
    context = _context([*map(ROOT.joinpath, _CONTEXT), *_wheels(say)])
    for target in TARGETS:
        say(f"image {image(target)}")
        _build(engine, context, DOCKERFILE, image(target), arguments, target)
    say(f"image {TOOLS}")
    file = "tests/docker/Dockerfile"
    _build(engine, _context([ROOT / file]), file, TOOLS, {"MESHD": image("meshd")}, None)


def _build(
    engine: docker.DockerClient, context: bytes, file: str, tag: str, arguments: dict[str, str],
    target: str | None,
) -> None:  # fmt: skip
    try:
        # On the network of the machine: an engine without iptables gives containers no other.
        engine.images.build(
            fileobj=io.BytesIO(context), custom_context=True, dockerfile=file, tag=tag,
            target=target, buildargs=arguments, network_mode="host", rm=True, forcerm=True,
        )  # fmt: skip
    except BuildError as error:
        said = "".join(str(line.get("stream", "")) for line in error.build_log)
        raise RuntimeError(f"{tag} was not built: {error}\n{said[-3000:]}") from None


def _base(engine: docker.DockerClient, say: Say) -> str:
    """Debian 12: as it is here, from the registry, or made of packages."""
    for name in (_OFFICIAL, _OWN_BASE):
        try:
            engine.images.get(name)
        except ImageNotFound:
            continue
        return name
    if _is_reachable(_REGISTRY):
        say(f"pulling {_OFFICIAL}")
        engine.images.pull(_OFFICIAL)
        return _OFFICIAL
    debootstrap = find("debootstrap")
    if debootstrap is None:
        raise NoEngine("no registry to pull Debian from, and debootstrap is not installed")
    say("no registry can be reached: making a base image with debootstrap (a minute)")
    with tempfile.TemporaryDirectory(prefix="meshd-base-") as folder:
        root = Path(folder) / "root"
        command = [debootstrap, "--variant=minbase", "bookworm", str(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            raise NoEngine(f"debootstrap: {(done.stderr or done.stdout).strip()[-300:]}")
        packed = Path(folder) / "root.tar"
        leave_out = ["--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*"]
        subprocess.run(
            ["tar", "--numeric-owner", *leave_out, "-cf", packed, "-C", root, "."], check=True
        )
        engine.api.import_image_from_file(str(packed), *_OWN_BASE.split(":"))
    return _OWN_BASE


def _is_reachable(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=3).close()
    except OSError:
        return False
    return True


def _wheels(say: Say) -> list[Path]:
    """Wheels of what meshd needs, for Debian's Python: pip may have no network in a build."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    needed = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["server"],
    ]
    machine = platform.machine()
    name = hashlib.sha256(repr((needed, machine)).encode()).hexdigest()[:16]
    folder = cache() / f"wheels-{name}"
    if not folder.exists():
        say("downloading what meshd needs")
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(17, 37)]
        part = folder.with_suffix(".part")
        target = ["--only-binary=:all:", "--python-version=3.11", "--implementation=cp"]
        target += [f"--platform={each}" for each in (*platforms, f"manylinux2014_{machine}")]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(part)]
        subprocess.run([*command, *target, *needed], check=True, timeout=600)
        part.rename(folder)
    return sorted(folder.glob("*.whl"))


def _context(paths: list[Path]) -> bytes:
    """A build context; files that did not change give the same bytes, whoever owns them."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in paths:
            for file in _files(path):
                inside = ROOT in file.parents
                info = archive.gettarinfo(
                    file, str(file.relative_to(ROOT)) if inside else file.name
                )
                info.uid = info.gid = info.mtime = 0
                info.uname = info.gname = ""
                info.mode = 0o644
                with file.open("rb") as content:
                    archive.addfile(info, content)
    return packed.getvalue()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts:
            yield file

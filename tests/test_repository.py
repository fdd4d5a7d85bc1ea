"""The repository keeps its own rules: layers, sizes, fresh stubs, words, README."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
TOP = {"pyproject.toml", "README.md", "meshd", "protos", "integrations", "tests", "examples",
       "Makefile", "LICENSE"}  # fmt: skip
GENERATED = {"v1", "etcdwire"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
BANNED_NAMES = re.compile(r"(?i)(manager|handler|helper|util|common)")
PRAISE = re.compile(r"(?i)\b(robust|powerful|comprehensive|seamless|blazing|cutting-edge)\b")


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks, or would."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).exists()]


def product() -> list[Path]:
    return [path for path in tracked("meshd/*.py") if not GENERATED & set(path.parts)]


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file with its lines, the docstring left out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node, clean=False)
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield node.name, lines - (docstring.count("\n") + 1 if docstring else 0)


def test_top_level() -> None:
    names = {path.relative_to(ROOT).parts[0] for path in tracked()}
    assert {name for name in names if not name.startswith(".")} <= TOP


def test_layers() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_sizes() -> None:
    files = {path: len(path.read_text().splitlines()) for path in product()}
    assert [path for path, lines in files.items() if lines > MAX_FILE_LINES] == []
    assert median(files.values()) <= 150
    lengths = [(path, name, lines) for path in product() for name, lines in functions(path)]
    assert [each for each in lengths if each[2] > MAX_FUNCTION_LINES] == []
    assert median(lines for *_, lines in lengths) <= 10


@pytest.mark.parametrize("package", sorted(GENERATED))
def test_generated_stubs_are_fresh(tmp_path: Path, package: str) -> None:
    found = (ROOT / "protos/meshd" / package).glob("*.proto")
    protos = sorted(str(path.relative_to(ROOT)) for path in found)
    # etcd's own methods are called by their paths.
    kinds = ("python", "pyi", "grpc_python") if package == "v1" else ("python", "pyi")
    outputs = [f"--{kind}_out={tmp_path}" for kind in kinds]
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "protos", *outputs, *protos]
    subprocess.run(command, cwd=ROOT, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "meshd" / package).iterdir()}
    held = {
        path.name: path.read_text()
        for path in (ROOT / "meshd" / package).glob("*_pb2*.py*")
        if path.suffix in (".py", ".pyi")
    }
    assert made == held, "run `make proto`"


def test_names() -> None:
    bad = [path for path in product() if BANNED_NAMES.search(path.stem)]
    for path in product():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and BANNED_NAMES.search(node.name):
                bad.append(path / node.name)
    assert bad == []


def test_every_module_says_what_it_owns() -> None:
    assert [path for path in product() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def test_words_and_leftovers() -> None:
    found = []
    for path in tracked("*.py", "*.md", "*.yaml", "*.conf", "*.proto", "*.toml", "Makefile"):
        if path == Path(__file__) or GENERATED & set(path.parts):
            continue
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if PRAISE.search(line) or re.search(r"\b(TODO|FIXME|XXX)\b", line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []


def test_no_clock_in_the_pure_layers() -> None:
    """The import contract forbids the modules; this, the ways around it."""
    for path in [*tracked("meshd/core/*.py"), *tracked("meshd/wire/*.py")]:
        text = path.read_text()
        assert "async def" not in text, path
        assert "datetime" not in text, path


README = (ROOT / "README.md").read_text()


def test_readme_links_lead_somewhere() -> None:
    pages = tracked("*.md")
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_readme_names_what_is_there() -> None:
    """Every path and make target that the README names exists."""
    for path in re.findall(
        r"`((?:meshd|protos|tests|examples|integrations)/[a-z0-9_./]*)`", README
    ):
        assert (ROOT / path).exists(), path
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z]+)", README, re.MULTILINE)) <= targets


@pytest.mark.parametrize(
    "target", ["demo", "test", "check", "bench", "proto", "integration", "test-docker"]
)
def test_make_targets(target: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

"""One engine and one cluster for all tests here; figures are printed at the end."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.docker import images
from tests.docker.cluster import Cluster
from tests.docker.contained import Contained, prepare
from tests.docker.engine import NoEngine, open_engine
from tests.docker.namespaces import Namespaces, why_not
from tests.docker.nodes import Nodes
from tests.docker.probe import Writer
from tests.docker.promises import Promises

_HERE = Path(__file__).parent
_FIGURES = pytest.StashKey[list[str]]()
# The first test also waits for a base image, six others and a cluster.
_TIMEOUT_S = 900


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What asks for an engine is of the docker tests, and takes its time."""
    for item in items:
        if _HERE in item.path.parents and "engine" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.timeout(_TIMEOUT_S))


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Shows a line at once: nobody should look at a still terminal for minutes."""
    plugins = request.config.pluginmanager
    terminal: Any = plugins.get_plugin("terminalreporter")
    capture: Any = plugins.get_plugin("capturemanager")

    def show(line: str) -> None:
        with capture.global_and_fixture_disabled():
            terminal.write_line(f"docker: {line}")

    return show


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> list[str]:
    """Lines to print when all tests are done."""
    return request.config.stash.setdefault(_FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured."""
    lines = terminalreporter.config.stash.get(_FIGURES, [])
    if lines:
        terminalreporter.section("measured on the cluster")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def engine(say: Callable[[str], None]) -> Iterator[docker.DockerClient]:
    """An engine that has all images."""
    try:
        with open_engine() as opened:
            images.build(opened, say)
            yield opened
    except NoEngine as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def cluster(
    engine: docker.DockerClient,
    say: Callable[[str], None],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """The cluster, up; who breaks it mends it."""
    made = Cluster(engine, tmp_path_factory.mktemp("cluster"))
    prepare(made)
    try:
        made.up(say)
        yield made
    except BaseException:
        for name in made.project.services:
            say(f"{name}: {made.logs(name, 10)}")
        raise
    finally:
        made.remove()


@pytest.fixture(scope="session")
def nodes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nodes]:
    """The nodes that the rows break: containers, or else processes in namespaces."""
    try:
        contained = Contained(request.getfixturevalue("cluster"))
    except pytest.skip.Exception as no_engine:
        reason = why_not()
        if reason:
            pytest.skip(f"{no_engine.msg}; {reason}")
        made = Namespaces(tmp_path_factory.mktemp("n"))
        try:
            made.build()
            yield made
        finally:
            made.stop()
    else:
        contained.build()
        yield contained


@pytest.fixture(scope="session")
def writer(nodes: Nodes) -> Iterator[Writer]:
    """Writes to any core, and notes each."""
    made = Writer(nodes.cores)
    yield made
    made.close()


@pytest.fixture(scope="session")
def promises(figures: list[str]) -> Iterator[Promises]:
    """What is promised of several nodes, and was measured; printed at the end."""
    made = Promises()
    yield made
    figures.extend(made.lines())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what the containers said."""
    report = yield
    found = getattr(item, "funcargs", {}).get("cluster")
    if call.when == "call" and call.excinfo and isinstance(found, Cluster):
        for name in found.project.services:
            report.sections.append((f"log of {name}", found.logs(name)))
    return report

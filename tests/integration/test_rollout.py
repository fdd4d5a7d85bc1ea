"""A new version reaches clients through PowerDNS and the library: a good one, and a bad one."""

import json
import threading
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.integration.conftest import need_powerdns
from tests.integration.shop import INSTANCES, NEW, OLD, Shop, Users, plain, running, share
from tests.servers.processes import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

GATES = ("--gate", "success>=99%", "--gate", "probes>=100%", "--min-outcomes", "10",
         "--min-reporters", "1")  # fmt: skip
# Ids decide by chance who is among the first: these are not off by more than a third of a percent.
GOOD, BAD = ("--id", "spring"), ("--id", "autumn")


class Pipeline:
    """`meshctl rollout start --wait` in a thread, as a pipeline runs it."""

    def __init__(self, shop: Shop, *words: str) -> None:
        self._shop = shop
        self._words = ("start", "shop", "--to", NEW, *words, "--wait", "--json")
        self._done: list[CompletedProcess[str]] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        self._done.append(self._shop.meshd.meshctl("rollout", *self._words, timeout_s=250))

    def __enter__(self) -> "Pipeline":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(260)

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def ended(self) -> tuple[int, list[dict[str, Any]]]:
        """Its exit code, and the events that it printed."""
        self._thread.join(260)
        (done,) = self._done
        events = [json.loads(line) for line in done.stdout.splitlines()]
        return done.returncode, events


def test_a_good_version_goes_all_the_way(tmp_path: Path) -> None:
    """Nobody who has it loses it on the way, and when the old one is drained nobody notices."""
    need_powerdns()
    steps = (1, 5, 25, 50, 100)
    with running(tmp_path) as shop, plain(shop) as clients:
        words = ("--steps", ",".join(map(str, steps)), "--every", "3s", *GATES, *GOOD)
        with Users(shop, 250, 150) as users, Pipeline(shop, *words) as pipeline:
            wait_until("it has begun", lambda: shop.rollout("status", "shop").returncode == 0, 30)
            # They are there from now on; all who have `latest` would get them but for the rollout.
            shop.deploy(OLD, NEW)
            had: set[str] = set()
            for number, percent in enumerate(steps):
                wait_until(f"{percent} %", partial(is_at, shop, number, pipeline), 120)
                assert shop.rollout("pause", "shop").returncode == 0
                now_at = steps[shop.status()["step"]]
                assert now_at == percent, "a step was passed by"
                versions = shop.versions()
                assert abs(share(versions) - percent) <= 1.0
                have = {prefix for prefix, version in versions.items() if version == NEW}
                assert had <= have, f"{len(had - have)} went back"
                had = have
                assert shop.rollout("resume", "shop").returncode == 0
            code, events = pipeline.ended()
            assert code == 0, events[-3:]
            assert users.failed == []
        assert shop.status()["phase"] == "done"
        drained = shop.meshd.meshctl("instance", "drain", "old-*", "--wait", "--force")
        assert drained.returncode == 0, drained.stderr
        for name, (_, version) in INSTANCES.items():
            if version == OLD:
                shop.instances[name].kill()
        before = sum(sum(client.served.values()) for client in clients)
        wait_until(
            "they go on",
            lambda: sum(sum(c.served.values()) for c in clients) > before + 20 * len(clients),
            60,
        )
    assert [error for client in clients for error in client.errors] == []


def is_at(shop: Shop, step: int, pipeline: Pipeline) -> bool:
    assert not pipeline.is_over, "it ended on the way"
    return bool(shop.status()["step"] >= step)


def test_a_bad_version_is_rolled_back(tmp_path: Path) -> None:
    """Its health checks are green, and five of a hundred requests fail."""
    need_powerdns()
    with running(tmp_path, "on_new_version: hold") as shop:
        wait_until("a baseline", lambda: shop.rollout("status", "shop").returncode == 0, 60)
        assert shop.status()["phase"] == "done"
        shop.fail(NEW, 0.05)
        shop.deploy(OLD, NEW, more="on_new_version: hold")
        with Users(shop, 250, 150) as users, plain(shop) as clients:
            wait_until("all are called", lambda: users.requests > 300, 60)
            assert not any(name.startswith("new") for name in users.served)
            words = ("--steps", "10,50,100", "--every", "10m", "--gate", "success>=99%", *BAD)
            with Pipeline(shop, *words, "--min-outcomes", "60", "--min-reporters", "1") as pipeline:
                code, events = pipeline.ended()
            assert code == 1
            found = shop.status()
            assert (found["phase"], found["step"]) == ("rolled-back", 0)
            assert "success>=99%" in found["reason"]
            assert "reporter" in found["reason"]
            assert any(figure.startswith("success>=99%") for figure in found["figures"])
            wait_until("nobody gets it", lambda: share(shop.versions()) == 0, 60)
            asked = users.requests + sum(sum(c.served.values()) + len(c.errors) for c in clients)
            failed = users.failed + [error for c in clients for error in c.errors]
            # Of ten in a hundred clients five in a hundred requests.
            assert len(failed) <= 0.1 * asked, failed[:5]
            served = sum(n for name, n in users.served.items() if name.startswith("new"))
            assert 0 < served <= 0.2 * users.requests
            assert events[-1]["rollout"]["phase"] == "rolled-back"

"""Resolve and Explain over gRPC: what experiments and rollouts make of a client."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from meshd.core.release import Course, Experiment, ExperimentArm, Phase, Rollout, Scope, steps_of
from meshd.core.selector import Version, parse_selector
from meshd.core.topology import kind_of
from meshd.v1 import resolver_pb2 as pb
from meshd.v1 import topology_pb2
from meshd.wire.messages import record_to_message
from tests.daemon.cores import Core, core

NAME = "api.mesh.internal"
# Everybody of the pop us; of the pop eu all are in an arm.
ROLLOUT = Rollout("api-7", "api", Version("1.2.0"), Course(steps_of((100,), 40.0)), Scope(("us",)))
CART = Experiment(
    "cart", "api", (ExperimentArm("b", parse_selector("1.3.0"), 100),), Scope(("eu",))
)


async def put(made: Core, *records: Any) -> None:
    edits = [
        topology_pb2.Edit(kind=kind_of(each), name=each.name, record=record_to_message(each))
        for each in records
    ]
    request = topology_pb2.CommitRequest(edits=edits, author="test")
    await made.topology.Commit(request, timeout=5)


async def resolved(made: Core, client: str) -> pb.ResolveResponse:
    request = pb.ResolveRequest(name=NAME, client=client)
    found: pb.ResolveResponse = await made.resolver.Resolve(request, timeout=5)
    return found


async def explained(made: Core, client: str, name: str = NAME) -> pb.ExplainResponse:
    request = pb.ExplainRequest(name=name, client=client)
    found: pb.ExplainResponse = await made.resolver.Explain(request, timeout=5)
    return found


async def test_nothing_in_motion(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        found = await resolved(made, "10.2.0.9")
        assert found.motion == pb.Motion(selector_from="service")
        assert not (await explained(made, "10.2.0.9")).HasField("ttl_rollout_s")


async def test_a_rollout_and_an_experiment(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        await put(made, ROLLOUT, CART)
        found = await resolved(made, "10.2.0.9")
        assert {each.version for each in found.endpoints if each.in_set} == {"1.2.0"}
        wanted = pb.Motion(
            selector_from="rollout api-7: 100 % get 1.2.0",
            rollout="api-7",
            to="1.2.0",
            percent=100,
            is_moved=True,
            hidden=["1.2.0"],
        )
        assert found.motion == wanted
        why = await explained(made, "10.2.0.9")
        assert (why.motion, why.selector_from) == (wanted, wanted.selector_from)
        assert why.ttl_s == why.ttl_rollout_s == why.ttl_min_s
        arm = await explained(made, "10.1.0.9")
        assert (arm.motion.experiment, arm.motion.arm, arm.motion.rollout) == ("cart", "b", "")
        assert arm.selector_from == "experiment cart: arm b"
        assert arm.arm == "1.3.0"


async def test_who_is_not_moved_is_told_why(tmp_path: Path) -> None:
    async with core(tmp_path) as made:
        await made.apply()
        small = replace(ROLLOUT, course=Course(steps_of((0.01, 100), 40.0)))
        await put(made, small)
        why = await explained(made, "10.2.0.9")
        assert (why.motion.rollout, why.motion.is_moved) == ("api-7", False)
        assert why.ttl_rollout_s == 20
        assert why.selector_from == "service"
        assert "rollout api-7: 0.01 % get 1.2.0 of pop us, this client not yet" in why.notes
        assert "held back: 1.2.0 is not rolled out yet" in why.notes
        asked = await explained(made, "10.2.0.9", f"latest.version.{NAME}")
        assert asked.motion.selector_from == "name"
        assert not asked.motion.rollout
        await put(made, replace(small, phase=Phase.ROLLED_BACK))
        why = await explained(made, "10.2.0.9")
        assert "held back: 1.2.0 was rolled back" in why.notes
        hidden = [each.excluded for each in why.instances if each.version == "1.2.0"]
        assert set(hidden) == {"held back: 1.2.0 was rolled back"}

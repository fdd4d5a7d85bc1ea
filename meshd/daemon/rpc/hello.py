"""What a process says first: checked as a whole, so that every fault is told at once."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from meshd.core.errors import Fault, Invalid
from meshd.core.guard import Guard, guard_faults
from meshd.core.model import Instance, parse_address
from meshd.core.references import Known, reference_faults
from meshd.core.selector import Version
from meshd.core.signals import NO_SIGNAL, observe_load
from meshd.core.topology import Kind, Topology
from meshd.v1 import records_pb2
from meshd.v1 import registry_pb2 as pb
from meshd.wire.messages import instance_from_message

LEASE_S = 3.0
_LEASE_BOUNDS_S = (1.0, 300.0)


def instance_of(hello: pb.Hello, topology: Topology, guard: Guard) -> Instance:
    """The instance that a process is, its Pop by the ranges if it gave none; Invalid.

    What is at fault by itself is replaced, so that the rest can be judged too.
    """
    faults: list[Fault] = []
    low, high = _LEASE_BOUNDS_S
    if hello.lease_s and not low <= hello.lease_s <= high:
        faults.append(Fault("lease_s", f"must be {low:g}..{high:g}"))
    _is_good(faults, "load", lambda: observe_load(NO_SIGNAL, hello.beat.load))
    message = records_pb2.Instance()
    message.CopyFrom(hello.instance)
    if not _is_good(faults, "version", lambda: Version(message.version)):
        message.version = "0"
    _keep_good_addresses(message, faults)
    pardoned = _complete_pop(message, topology, faults)
    try:
        instance = replace(instance_from_message(message), registered=True)
        faults += reference_faults(Known(topology, pardoned), [instance], {})
        faults += guard_faults(guard, topology, [instance], {})
    except Invalid as error:
        faults += error.faults
    if faults:
        raise Invalid(faults)
    return instance


def _is_good(faults: list[Fault], where: str, check: Callable[[], object]) -> bool:
    try:
        check()
    except Invalid as error:
        faults += [Fault(where, fault.what) for fault in error.faults]
        return False
    return True


def _keep_good_addresses(message: records_pb2.Instance, faults: list[Fault]) -> None:
    given = list(message.addresses)
    good = [each for each in given if _is_good(faults, "address", partial(parse_address, each))]
    del message.addresses[:]
    message.addresses.extend(good or (["192.0.2.1"] if given else []))


def _complete_pop(
    message: records_pb2.Instance, topology: Topology, faults: list[Fault]
) -> frozenset[tuple[Kind, str]]:
    """Set the Pop by the ranges; what is told as a fault here is not told again."""
    if message.pop or not message.addresses:
        return frozenset()
    address = parse_address(message.addresses[0])
    pop = topology.ranges.family(address.version).policy(int(address)).pop
    if pop is None:
        faults.append(Fault("pop", f"none is given, and no range holds {address}"))
    message.pop = pop or ""
    return frozenset({(Kind.POPS, message.pop)})

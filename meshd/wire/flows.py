"""Flows of clients as protobuf messages."""

from meshd.core.whatif import Flow
from meshd.v1 import topology_pb2 as pb


def flow_to_message(flow: Flow) -> pb.Flow:
    """A flow as it is sent."""
    instances = [
        pb.InstanceShare(instance=each.instance, before=each.before, after=each.after)
        for each in flow.instances
    ]
    return pb.Flow(
        service=flow.service,
        pop=flow.pop,
        from_version=flow.from_version,
        to_version=flow.to_version,
        share=flow.share,
        instances=instances,
    )

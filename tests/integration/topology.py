"""The topology of the integration tests: clients on loopback addresses and in ECS prefixes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers.processes import Meshd, wait_until
from tests.servers.queries import Asker, addresses

INSTANCES = "\n".join(
    f"  api-{pop}-{number}: {{service: api, version: {version}, pop: {pop}, "
    f'address: [10.{net}.0.{number}, "2001:db8:{net}::{number}"]}}'
    for pop, net in (("eu", 1), ("us", 2), ("ap", 3))
    for number, version in ((1, "1.2.0"), (2, "1.2.0"), (3, "1.2.1"), (4, "1.2.0"), (5, "1.3.0"))
)

MANY = "\n".join(
    f"  many-{n}: {{service: many, version: 1.0.0, pop: us, address: 192.0.2.{100 + n}}}"
    for n in range(16)
)

DOCUMENT = f"""
zones:
  api.myservice.com:
    ns: [ns1.mesh.internal]
    contact: hostmaster@mesh.internal
  mesh.internal:
    ns: [{{ns1.mesh.internal: [127.0.0.1]}}]
    contact: hostmaster@mesh.internal
pops:
  eu: {{fallback: [us]}}
  us: {{}}
  ap: {{}}
ranges:
  127.0.1.0/24: eu
  127.0.2.0/24: us
  127.0.3.0/24: {{pop: ap, services: [api@1.3]}}
  10.1.0.0/16: eu
  10.1.7.0/24: ap
  10.2.0.0/16: us
  2001:db8:1::/48: eu
  2001:db8:2::/48: us
services:
  api:
    name: api.mesh.internal
    ports: {{http: 8080/tcp, https: 8443/tcp}}
    version: 1.2.*
  only:
    name: only.deep.mesh.internal
    ports: {{http: 80/tcp}}
  wild:
    name: "*.apps.mesh.internal"
    ports: {{http: 80/tcp}}
  coarse:
    name: coarse.mesh.internal
    ports: {{http: 80/tcp}}
    sticky: {{v4: 16, v6: 32}}
  apex:
    name: api.myservice.com
    ports: {{http: 80/tcp}}
  cold:
    name: "*.cold.mesh.internal"
    ports: {{http: 80/tcp}}
  many:
    name: many.mesh.internal
    ports: {{http: 80/tcp}}
    max_answers: 16
instances:
{INSTANCES}
  only-1: {{service: only, version: 1.0.0, pop: us, address: 192.0.2.7}}
  wild-1: {{service: wild, version: 1.0.0, pop: us, address: 192.0.2.8}}
  coarse-eu: {{service: coarse, version: 1.0.0, pop: eu, address: 192.0.2.21}}
  coarse-us: {{service: coarse, version: 1.0.0, pop: us, address: 192.0.2.22}}
  coarse-ap: {{service: coarse, version: 1.0.0, pop: ap, address: 192.0.2.23}}
  apex-eu: {{service: apex, version: 1.0.0, pop: eu, address: 192.0.2.31}}
  apex-us: {{service: apex, version: 1.0.0, pop: us, address: 192.0.2.32}}
  cold-eu: {{service: cold, version: 1.0.0, pop: eu, address: 192.0.2.41}}
  cold-us: {{service: cold, version: 1.0.0, pop: us, address: 192.0.2.42}}
{MANY}
"""


def _is_answered(meshd: Meshd) -> bool:
    """True if answers hold, whichever of the answerers gives them."""
    asker = Asker("127.0.1.9")
    replies = [
        asker.ask(meshd.dns_port, "api.mesh.internal", server=meshd.dns_host) for _ in range(10)
    ]
    return all(len(addresses(reply)) == 4 for reply in replies)


@contextmanager
def running(
    folder: Path, answerers: int = 2, *more: str, dns: tuple[str, int] | None = None
) -> Iterator[Meshd]:
    """meshd with this topology, ended with the block."""
    made = Meshd(folder, answerers, *more, dns=dns)
    try:
        made.start_ready()
        made.apply(DOCUMENT)
        wait_until("all answerers have it", lambda: _is_answered(made))
        yield made
    finally:
        made.stop()

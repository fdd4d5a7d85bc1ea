"""A core with a small document: two Pops, two services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.daemon import cores
from tests.daemon.cores import Core, code_of, until

__all__ = ["DOCUMENT", "Core", "code_of", "core", "until"]

DOCUMENT = """
zones: {mesh.internal: {ns: [{ns1.mesh.internal: [127.0.0.1]}], contact: a@mesh.internal}}
pops: {eu: {}, us: {}}
ranges: {10.1.0.0/16: eu, 10.2.0.0/16: us}
services:
  api: {name: api.mesh.internal, ports: {http: 80/tcp}, ttl: {min: 2, max: 40}}
  old: {name: old.mesh.internal, ports: {http: 80/tcp}}
instances:
  api-eu-1: {service: api, version: 1.2.0, pop: eu, address: 10.1.0.1}
  api-eu-2: {service: api, version: 1.2.0, pop: eu, address: 10.1.0.2}
  api-us-1: {service: api, version: 1.2.0, pop: us, address: 10.2.0.1}
  api-us-2: {service: api, version: 1.2.0, pop: us, address: 10.2.0.2}
  old-1: {service: old, version: 1.0.0, pop: us, address: 10.2.0.9}
"""


@asynccontextmanager
async def core(path: Path, document: str = DOCUMENT) -> AsyncIterator[Core]:
    """A core with a document applied."""
    async with cores.core(path) as made:
        await made.apply(document)
        yield made

"""Asks the system's getaddrinfo; prints what came, as JSON."""

import json
import socket
import sys


def ask(name: str, family: int = socket.AF_UNSPEC) -> object:
    """The addresses of a name in the order in which they come, or why there are none."""
    try:
        found = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
    except socket.gaierror as error:
        return "EAI_NODATA" if error.errno == socket.EAI_NODATA else "EAI_NONAME"
    return [entry[4][0] for entry in found]


sys.stdout.write(
    json.dumps(
        {
            "api": ask("api.mesh.internal"),
            "a": ask("api.mesh.internal", socket.AF_INET),
            "mixedCase": ask("ApI.MeSh.InTeRnAl", socket.AF_INET),
            "onlyA": ask("only.deep.mesh.internal"),
            "onlyAasAaaa": ask("only.deep.mesh.internal", socket.AF_INET6),
            "emptyNonTerminal": ask("deep.mesh.internal"),
            "missing": ask("none.mesh.internal"),
        }
    )
)

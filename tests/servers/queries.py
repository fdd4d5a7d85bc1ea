"""Asking DNS servers as different clients, by source address and by ECS."""

from dataclasses import dataclass

import dns.edns
import dns.flags
import dns.message
import dns.query
import dns.rdatatype


@dataclass(frozen=True, slots=True)
class Asker:
    """A client: the address that it sends from, and the ECS prefix that it names, if any."""

    source: str
    ecs: str = ""

    def query(self, name: str, kind: str = "A", *, edns: bool = True) -> dns.message.Message:
        """A query of this client."""
        options: list[dns.edns.Option] = []
        if self.ecs:
            address, _, length = self.ecs.partition("/")
            options.append(dns.edns.ECSOption(address, int(length)))
        use = 0 if edns or options else -1
        return dns.message.make_query(name, kind, use_edns=use, payload=1232, options=options)

    def ask(
        self,
        port: int,
        name: str,
        kind: str = "A",
        *,
        tcp: bool = False,
        timeout_s: float = 3.0,
        server: str = "127.0.0.1",
    ) -> dns.message.Message:
        """Ask a server; dns.exception.Timeout if nobody answers."""
        exchange = dns.query.tcp if tcp else dns.query.udp
        return exchange(
            self.query(name, kind), server, port=port, source=self.source, timeout=timeout_s
        )


def addresses(reply: dns.message.Message) -> list[str]:
    """The addresses of an answer, in order."""
    wanted = (dns.rdatatype.A, dns.rdatatype.AAAA)
    return [str(rdata) for rrset in reply.answer if rrset.rdtype in wanted for rdata in rrset]


def scope(reply: dns.message.Message) -> int | None:
    """The scope of an answer; None without a client subnet."""
    found = [option for option in reply.options if isinstance(option, dns.edns.ECSOption)]
    return found[0].scopelen if found else None

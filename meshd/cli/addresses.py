"""Addresses as flags say them: those to listen on, those of others, those of etcd."""

import re
from collections.abc import Sequence
from ipaddress import ip_address

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_SCHEME = re.compile(r"(https?)://(.*)")


def _split(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host, int(port)


def split_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[HOST]:PORT` as host and port, to listen on; ValueError if it is neither."""
    host, port = _split(text)
    ip_address(host)
    return host, port


def check_target(text: str) -> str:
    """`HOST:PORT` of somebody else, where a name will do too; ValueError if it is none."""
    host, _ = _split(text)
    if ":" in host:
        ip_address(host)
    elif not _HOST_NAME.fullmatch(host):
        raise ValueError(f"{text!r} is not HOST:PORT")
    if is_wildcard(text):
        raise ValueError(f"{text!r} is every address of a machine: nobody can be reached there")
    return text


def is_loopback(address: str) -> bool:
    """True if an address HOST:PORT can be reached from this machine only."""
    return ip_address(split_address(address)[0]).is_loopback


def is_wildcard(address: str) -> bool:
    """True if HOST:PORT means every address of a machine."""
    try:
        return ip_address(_split(address)[0]).is_unspecified
    except ValueError:
        return False


def etcd_endpoints(given: Sequence[str], has_files: bool) -> tuple[str, ...]:
    """Endpoints as the store takes them: HOST:PORT, or https://HOST:PORT for TLS."""
    split = [(_SCHEME.fullmatch(text), text) for text in given]
    schemes = {found[1] if found else ("https" if has_files else "http") for found, _ in split}
    if len(schemes) > 1:
        raise ValueError("either all endpoints are https:// (TLS), or none is")
    is_tls = schemes == {"https"}
    if has_files and not is_tls:
        raise ValueError("http:// has no TLS, and etcd-ca, etcd-cert and etcd-key are for TLS")
    targets = [check_target(found[2].rstrip("/") if found else text) for found, text in split]
    return tuple(f"https://{target}" if is_tls else target for target in targets)

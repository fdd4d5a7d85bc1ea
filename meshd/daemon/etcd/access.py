"""How etcd is reached and logged in to, from the settings and the files that they name."""

import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from meshd.core.errors import Fault, Invalid
from meshd.daemon.settings import EtcdSettings

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True, slots=True)
class Access:
    """host:port of each endpoint; credentials None: no TLS; user None: no login by password."""

    endpoints: tuple[str, ...]
    credentials: grpc.ChannelCredentials | None = None
    user: str | None = None
    password: str = field(default="", repr=False)


def access_of(settings: EtcdSettings) -> Access:
    """Read what the settings name; Invalid with everything that is wrong with them."""
    faults: list[Fault] = []
    schemes, endpoints = _endpoints(settings, faults)
    files = _Files(faults)
    ca = files.read("ca", settings.ca)
    cert = files.read("cert", settings.cert)
    key = files.read("key", settings.key, is_secret=True)
    password = files.read("password_file", settings.password_file, is_secret=True)
    faults += _contradictions(settings, schemes)
    if faults:
        raise Invalid(Fault(f"etcd.{each.where}", each.what) for each in faults)
    has_tls = "https" in schemes or ca is not None or cert is not None
    credentials = grpc.ssl_channel_credentials(ca, key, cert) if has_tls else None
    return Access(endpoints, credentials, settings.user, (password or b"").decode().rstrip("\r\n"))


def _endpoints(settings: EtcdSettings, faults: list[Fault]) -> tuple[set[str], tuple[str, ...]]:
    schemes = set()
    endpoints = []
    for given in settings.endpoints:
        scheme, target = _endpoint(given)
        if target is None:
            faults.append(Fault("endpoints", f"{given!r} is not HOST:PORT or http(s)://HOST:PORT"))
        else:
            endpoints.append(target)
            schemes.add(scheme)
    if not settings.endpoints:
        faults.append(Fault("endpoints", "there are none"))
    return schemes, tuple(dict.fromkeys(endpoints))


def _endpoint(given: str) -> tuple[str, str | None]:
    try:
        parts = urlsplit(given if "://" in given else f"//{given}")
        is_plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username)
        port = parts.port
    except ValueError:
        return "", None
    if parts.scheme not in ("", "http", "https") or not (is_plain and parts.hostname and port):
        return "", None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts.scheme, f"{host}:{port}"


def _contradictions(settings: EtcdSettings, schemes: set[str]) -> Iterator[Fault]:
    has_files = any((settings.ca, settings.cert, settings.key))
    if "http" in schemes and ("https" in schemes or has_files):
        yield Fault("endpoints", "http:// is without TLS, yet TLS is asked for beside it")
    if (settings.cert is None) != (settings.key is None):
        yield Fault("cert", "a certificate needs its key, and a key its certificate")
    if (settings.user is None) != (settings.password_file is None):
        yield Fault("user", "a user needs a password_file, and a password_file a user")


@dataclass(frozen=True, slots=True)
class _Files:
    faults: list[Fault]

    def read(self, where: str, path: Path | None, *, is_secret: bool = False) -> bytes | None:
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                mode = path.stat().st_mode
                content = file.read()
        except OSError as error:
            self.faults.append(Fault(where, f"{path}: {error.strerror or error}"))
            return None
        if is_secret and mode & _OTHERS:
            text = f"{path} can be read by others than its owner (mode {mode & 0o777:04o}): 0600"
            self.faults.append(Fault(where, text))
        return content

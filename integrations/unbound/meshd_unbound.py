"""Unbound's python module for meshd: names of the mesh are answered by meshd, all else passes.

Standard library only: this runs inside Unbound, whose reload (1.17) kills C extensions. What it
is told stands in a TOML file of the same name beside it; README.md has the Unbound side.
"""

# Unbound puts its own names (MODULE_FINISHED, DNSMessage, log_info, ...) into this namespace.
# ruff: noqa: F821, A002

import json
import os
import socket
import string
import struct
import threading
import time
import tomllib
from ipaddress import ip_network

_DEFAULTS = {"socket": "/run/meshd/bridge.sock", "names": [], "timeout-ms": 50}
# After so many failures in a row nobody waits for meshd: one query in a pause tries.
_FAILURES = 3
_PAUSE_S = 1.0
_MAX_REPLY = 1 << 20
_CLASS_IN = 1
_PLAIN = frozenset(string.ascii_letters + string.digits + "-_*")
_ECS = 8
_REFUSED = 5
# sec_status_insecure: with 0 (unchecked), a validator in module-config makes it SERVFAIL.
_INSECURE = 3


class Settings:
    """What the TOML file says; ValueError lists all that is wrong in it."""

    def __init__(self, text):
        given = tomllib.loads(text)
        faults = [f"{key} is no setting" for key in given if key not in _DEFAULTS]
        values = {**_DEFAULTS, **given}
        names, timeout = values["names"], values["timeout-ms"]
        if not isinstance(values["socket"], str):
            faults.append("socket must be a path")
        if not isinstance(names, list) or not names or not all(isinstance(n, str) for n in names):
            faults.append('names must be a list, as in names = ["mesh.internal"]')
        if not isinstance(timeout, int) or not 1 <= timeout <= 2000:
            faults.append("timeout-ms must be a number from 1 to 2000")
        if faults:
            raise ValueError("; ".join(faults))
        self.socket = values["socket"]
        self.names = {name.lower().rstrip(".") + "." for name in names}
        self.timeout_s = timeout / 1000


class Connection:
    """One connection to the bridge; a line out, a line in, all within a deadline."""

    def __init__(self, path, timeout_s):
        self._path = path
        self._timeout_s = timeout_s
        self._socket = None

    def ask(self, line):
        """The reply to a line; OSError if none came in time."""
        deadline = time.monotonic() + self._timeout_s
        is_new = self._socket is None
        try:
            return self._exchange(line, deadline)
        except BlockingIOError:
            # A late reply must not be taken for the next one's.
            self.close()
            raise TimeoutError("meshd did not answer in time") from None
        except OSError:
            self.close()
            if is_new:
                raise
        # meshd was restarted since the last question: once more.
        try:
            return self._exchange(line, deadline)
        except OSError:
            self.close()
            raise

    def _exchange(self, line, deadline):
        if self._socket is None:
            self._connect()
        self._socket.sendall(line)
        got = self._socket.recv(65536)
        while got and not got.endswith(b"\n"):
            if time.monotonic() > deadline:
                raise BlockingIOError
            part = self._socket.recv(65536)
            got = got + part if part else b""
            if len(got) > _MAX_REPLY:
                raise ConnectionError("meshd's reply has no end")
        if not got:
            raise ConnectionError("meshd closed the connection")
        return got

    def _connect(self):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # The kernel's time-outs (EAGAIN when they run out): Python's own cost two more system
        # calls for each one, and a third of the queries a second.
        seconds, rest = divmod(self._timeout_s, 1)
        limit = struct.pack("@ll", int(seconds), int(rest * 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._socket.connect(self._path)

    def close(self):
        """Close it; the next question opens a new one."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None


class Breaker:
    """Lets nobody wait for a meshd that is known to be away."""

    def __init__(self):
        self._failures = 0
        self._closed_until = 0.0

    def allows(self, now):
        """May meshd be asked now? After a pause one question may, the others still not."""
        if self._failures < _FAILURES:
            return True
        if now < self._closed_until:
            return False
        self._closed_until = now + _PAUSE_S
        return True

    def failed(self, now):
        """Note a failure; True if from now on nobody waits."""
        self._failures += 1
        self._closed_until = now + _PAUSE_S
        return self._failures == _FAILURES

    def succeeded(self):
        """Note a success; True if meshd was given up before."""
        was_away = self._failures >= _FAILURES
        self._failures = 0
        return was_away


class Mesh:
    """Asks meshd, over a connection for each thread."""

    def __init__(self, settings):
        self._settings = settings
        self._breaker = Breaker()
        # Not threading.local: Unbound's threads are foreign to Python and lose theirs each time.
        self._connections = {}

    def holds(self, name):
        """True if a name is one of ours, or below one."""
        name = name.lower()
        names = self._settings.names
        while name:
            if name in names:
                return True
            name = name.partition(".")[2]
        return False

    def ask(self, request):
        """The result for a request; OSError or ValueError if there is none."""
        now = time.monotonic()
        if not self._breaker.allows(now):
            raise ConnectionError("meshd is away")
        me = threading.get_ident()
        connection = self._connections.get(me)
        if connection is None:
            connection = Connection(self._settings.socket, self._settings.timeout_s)
            self._connections[me] = connection
        line = json.dumps({"method": "answer", "parameters": request}).encode() + b"\n"
        try:
            reply = json.loads(connection.ask(line))
        except (OSError, ValueError) as error:
            if self._breaker.failed(time.monotonic()):
                log_err(f"meshd: away ({error}); SERVFAIL for its names until it is back")
            raise
        if self._breaker.succeeded():
            log_info("meshd: back")
        if "result" not in reply:
            # meshd is there and says why not: that is no reason to stop asking.
            raise ValueError(str(reply.get("log")))
        return reply["result"]

    def close(self):
        """Close all connections."""
        for connection in self._connections.values():
            connection.close()
        self._connections = {}


_mesh = None


def init(id, cfg):
    """Read the settings; Unbound does not start, and unbound-checkconf fails, if they are wrong."""
    global _mesh  # noqa: PLW0603 - the module's one state, set by Unbound's call
    path = _settings_path(cfg)
    try:
        with open(path, encoding="utf-8") as file:
            _mesh = Mesh(Settings(file.read()))
    except (OSError, ValueError) as error:
        log_err(f"meshd: {path}: {error}")
        return False
    return True


def _settings_path(cfg):
    script = mod_env.get("script")
    if script is None:
        # Up to 1.17 only the configuration knows, and it lists all modules' scripts.
        entry = cfg.python_script
        while entry.next and not entry.str.endswith("meshd_unbound.py"):
            entry = entry.next
        script = entry.str
    return os.path.splitext(script)[0] + ".toml"


def deinit(id):
    """End, before a reload or at the end of Unbound."""
    if _mesh is not None:
        _mesh.close()
    return True


def inform_super(id, qstate, superqstate, qdata):
    """Sub-queries are none of ours."""
    return True


def operate(id, event, qstate, qdata):
    """Answer names of the mesh, pass everything else on."""
    if event == MODULE_EVENT_MODDONE:
        qstate.ext_state[id] = MODULE_FINISHED
        return True
    if event not in (MODULE_EVENT_NEW, MODULE_EVENT_PASS):
        qstate.ext_state[id] = MODULE_ERROR
        return True
    question = qstate.qinfo
    name = _name(question)
    if question.qclass != _CLASS_IN or not _mesh.holds(name):
        qstate.ext_state[id] = MODULE_WAIT_MODULE
        return True
    try:
        answered = _answer(qstate, name)
    except Exception as error:  # noqa: BLE001 - an error here must not become Unbound's
        if not isinstance(error, OSError):
            log_err(f"meshd: {name}: {type(error).__name__}: {error}")
        _keep_out_of_caches(qstate)
        qstate.return_rcode = RCODE_SERVFAIL
        answered = True
    qstate.ext_state[id] = MODULE_FINISHED if answered else MODULE_WAIT_MODULE
    return True


def _name(question):
    """The name asked for, in presentation form (RFC 1035 5.1)."""
    name = question.qname_str
    # Unbound writes ? for whatever is no letter, digit, '-', '_' or '*': only the wire form knows.
    return name if "?" not in name else _presented(question.qname)


def _presented(wire):
    labels = []
    at = 0
    while wire[at]:
        label = wire[at + 1 : at + 1 + wire[at]]
        labels.append("".join(chr(b) if chr(b) in _PLAIN else f"\\{b:03d}" for b in label))
        at += 1 + wire[at]
    return ".".join(labels) + "."


def _answer(qstate, name):
    """Answer as meshd says; False if the name is in no zone of meshd's."""
    question = qstate.qinfo
    subnet = _subnet(qstate)
    replies = qstate.mesh_info.reply_list
    # Without a reply list it is Unbound's own question (prefetch, another module): no client.
    remote = replies.query_reply.addr if replies else "0.0.0.0"
    request = {"qname": name, "qtype": question.qtype, "remote": remote}
    if subnet is not None:
        request["real-remote"] = _prefix(subnet)
    found = _mesh.ask(request)
    rcode = found["rcode"]
    if rcode == _REFUSED:
        return False
    message = DNSMessage(name, question.qtype, RR_CLASS_IN, PKT_QR | PKT_RA | PKT_AA)
    message.answer = found["answer"]
    message.authority = found["authority"]
    message.additional = found["additional"]
    if not message.set_return_msg(qstate):
        raise ValueError("Unbound cannot read meshd's records")
    reply = qstate.return_msg.rep
    reply.security = _INSECURE
    # return_rcode instead would drop the SOA of a negative answer.
    reply.flags |= rcode
    qstate.return_rcode = 0
    _keep_out_of_caches(qstate)
    if subnet is not None:
        echoed = bytearray(subnet)
        echoed[3] = found["scope"]
        edns_opt_list_append(qstate.edns_opts_front_out, _ECS, echoed, qstate.region)
    return True


def _keep_out_of_caches(qstate):
    """The answer is for this client: neither store it nor let an older one take its place."""
    qstate.no_cache_store = 1
    qstate.no_cache_lookup = 1


def _subnet(qstate):
    """The client subnet option of the query, if it has one."""
    for option in qstate.edns_opts_front_in_iter:
        if option.code == _ECS:
            return bytes(option.data)
    return None


def _prefix(subnet):
    """The prefix that an option names (RFC 7871 6)."""
    family, length = struct.unpack_from("!HB", subnet)
    width = 4 if family == 1 else 16
    return str(ip_network((subnet[4:].ljust(width, b"\0"), length), strict=False))

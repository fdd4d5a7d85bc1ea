"""What the errors of etcd and of its connections mean. No I/O here.

Codes and texts: etcd api/v3rpc/rpctypes/error.go.
"""

from grpc import StatusCode
from grpc.aio import AioRpcError

from meshd.core.errors import Compacted, LeaseLost, MeshError, Refused, Unavailable


class Unsure(Unavailable):
    """No answer came, and what was asked may have been done."""


class Denied(Unavailable):
    """etcd does not let this user in, or not there."""


class TooLarge(Unavailable):
    """An answer was larger than a message may be."""


# Whatever was asked was not done.
_NOT_DONE = ("failed to connect", "no leader", "too many requests")
_DENIED = {StatusCode.UNAUTHENTICATED, StatusCode.PERMISSION_DENIED}
# The token ran out, or was made before the rights changed (etcd 12385: "permission denied").
_STALE = ("invalid auth token", "auth store is old", "user name is empty", "permission denied")


def is_stale_token(error: AioRpcError) -> bool:
    """True if a new login may help; what was asked was not done."""
    return error.code() in _DENIED or is_stale_text(error.details() or "")


def is_stale_text(text: str) -> bool:
    """The same for the reason that ends a watch."""
    return any(known in text for known in _STALE)


def is_surely_not_done(error: AioRpcError) -> bool:
    """True if what was asked for certainly had no effect."""
    return any(known in (error.details() or "") for known in _NOT_DONE)


def described(error: AioRpcError) -> str:
    """What went wrong, and what it is likely to come from where TLS does not say it."""
    text = error.details() or error.code().name
    return next((f"{text} ({hint})" for known, hint in _HINTS if known in text), text)


_HINTS = (
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by the ca that was given"),
    ("TSI_DATA_CORRUPTED", "it may ask for a client certificate: cert and key"),
    ("Socket closed", "it may ask for TLS: ca, or https://"),
    ("WRONG_VERSION_NUMBER", "it may be without TLS"),
)


def meaning(error: AioRpcError) -> MeshError | None:
    """What an error means for good; None: the next try may pass."""
    text = error.details() or ""
    for code, known, kind, message in _MEANINGS:
        if code in (None, error.code()) and known in text:
            return kind(f"{message}: {text}")
    return None


_NO_SPACE = "etcd is out of space and takes no writes until an operator makes room"
_NO_ENTRY = "etcd does not let in"
# The first that fits; code None: whichever.
_MEANINGS: tuple[tuple[StatusCode | None, str, type[MeshError], str], ...] = (
    (None, "space exceeded", Unavailable, _NO_SPACE),
    (None, "larger than max", TooLarge, "etcd"),
    (StatusCode.OUT_OF_RANGE, "compacted", Compacted, "etcd"),
    (StatusCode.OUT_OF_RANGE, "future revision", Compacted, "etcd went back"),
    (StatusCode.NOT_FOUND, "lease not found", LeaseLost, "etcd"),
    (StatusCode.UNAUTHENTICATED, "", Denied, _NO_ENTRY),
    (StatusCode.PERMISSION_DENIED, "", Denied, _NO_ENTRY),
    (None, "authentication failed", Denied, _NO_ENTRY),
    (None, "authentication is not enabled", Denied, _NO_ENTRY),
    *((None, stale, Denied, _NO_ENTRY) for stale in _STALE),
    *(
        (code, "", Refused, "etcd refuses")
        for code in (
            StatusCode.INVALID_ARGUMENT,
            StatusCode.FAILED_PRECONDITION,
            StatusCode.NOT_FOUND,
            StatusCode.OUT_OF_RANGE,
            StatusCode.UNIMPLEMENTED,
        )
    ),
)

"""Settings of all tests."""

import os
import signal

from hypothesis import HealthCheck, settings

# The C core of grpc tells of each connection that is closed under it; read when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

# A shell that runs tests in the background lets them, and what they start, ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

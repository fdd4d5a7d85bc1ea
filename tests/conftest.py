"""Settings of all tests."""

import os
import signal

# The C core of grpc tells of each connection that is closed under it; read when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

# A shell that runs tests in the background lets them, and what they start, ignore SIGINT.
signal.signal(signal.SIGINT, signal.default_int_handler)

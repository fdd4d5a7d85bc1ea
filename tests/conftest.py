"""Settings of all tests."""

import os

# The C core of grpc tells of each connection that is closed under it; read when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

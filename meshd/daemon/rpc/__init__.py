"""The gRPC face of a core: one file a service. Errors become status codes in one table."""

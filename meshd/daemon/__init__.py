"""The core role: store, gRPC API, signals. It makes the snapshots that answerers follow."""

"""Generated from protos/meshd/v1 by `make proto`; never edited."""

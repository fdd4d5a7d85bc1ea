"""The answerer role: DNS listener and bridge over its own snapshot. It never waits for a core."""

"""Outside formats to core types and back, nothing else: no I/O."""

"""Starting real servers for tests, benchmarks and the demo; each is ended by its process id."""

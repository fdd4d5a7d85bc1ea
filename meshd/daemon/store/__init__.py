"""Where what was decided is kept: one interface, one store on disk, and the fake that tests use."""

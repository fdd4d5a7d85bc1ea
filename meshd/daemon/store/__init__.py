"""Where what was decided is kept: one interface; in a file, in etcd, and in the fake of tests."""

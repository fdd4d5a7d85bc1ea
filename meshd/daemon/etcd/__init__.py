"""A client of etcd: calls that move on to another endpoint, watches, many leases."""

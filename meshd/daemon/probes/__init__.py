"""Probes: what to probe (targets), when (schedule), how (kinds), and the loop (prober)."""

"""Measuring this machine: one module a part, each ``measure(options)`` prints a table and returns
its figures; every figure comes with its baseline, both from the same run."""

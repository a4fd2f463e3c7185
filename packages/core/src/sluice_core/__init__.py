"""Sluice's domain: what a job is, how it is recorded, started and finished.

Handlers, infrastructure and harness build on this package; it imports none of them.
"""

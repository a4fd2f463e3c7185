"""Sluice's domain: what a job is, how it is recorded, started and finished.

Handlers, infrastructure and harness build on this package; it imports none of them.
"""

# The alias under which every function is invoked: infrastructure makes it, tools call and release through it.
LIVE_ALIAS = "live"

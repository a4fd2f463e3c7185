"""Lambda entry points: each module's ``handler``, over what core knows."""

import gc

# What a cold start makes stays, and Python would look through all of it a dozen times: a tenth of the start.
gc.set_threshold(20_000, 20, 20)

"""The operator tools, ``sluice-ops``: dead letters, single jobs, and an audit of the promise."""

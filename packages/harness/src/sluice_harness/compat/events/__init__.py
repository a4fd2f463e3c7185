"""EventBridge: what may be put on a bus, and where it is delivered."""

"""ECS and Batch: containers, as processes of this machine."""

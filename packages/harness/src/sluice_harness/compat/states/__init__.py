"""Step Functions: how its executions start, act and end."""

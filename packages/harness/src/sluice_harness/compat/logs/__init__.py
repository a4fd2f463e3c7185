"""CloudWatch Logs Insights on the engine."""

"""CloudWatch: a metric store, what services and functions put into it, its API, and alarms that are evaluated."""

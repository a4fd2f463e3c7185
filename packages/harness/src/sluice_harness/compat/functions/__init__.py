"""Lambda: logs, errors and the life of its workers."""

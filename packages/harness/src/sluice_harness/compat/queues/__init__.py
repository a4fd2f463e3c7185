"""SQS and its event-source mappings."""

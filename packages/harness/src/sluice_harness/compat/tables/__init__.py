"""DynamoDB: what a table's stream holds, and who reads it."""

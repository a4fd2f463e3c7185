"""CloudWatch's semantics: the same code for what the local stage collects and for what an account answers."""

"""The chaos run: thousands of jobs through the local stage while its workers fail and die, and a verdict."""

"""Drills: each alarm is seen to fire, to tell somebody, and to stop."""

"""Lambda entry points: each turns an event into calls on sluice_core, and nothing more."""

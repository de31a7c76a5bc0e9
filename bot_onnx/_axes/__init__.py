"""The axis algebra: every axis of every tensor points at a dim, by a rule per op."""

"""Modules whose import loads what takes seconds to load: once, in the process that the workers are forked from."""

"""Many resizes of one model: every combination of specs, methods and options is written, scored and ranked.

The study and its samplers are Optuna's, in one SQLite file; several processes or machines are Dask's. Both are imported
only here, and only when a sweep starts. ``job.sweep`` is the only entry.
"""

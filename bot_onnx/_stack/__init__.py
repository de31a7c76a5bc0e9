"""The work order of the resampler: one stack, its axes, and what they mean.

Plain data only (``types``). Everything after the graph analysis may import from it.
"""

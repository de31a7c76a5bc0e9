"""The analysis, whole (``passes.analyse``): from a graph to dims, chains and stacks with names."""

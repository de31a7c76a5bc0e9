"""Everything that takes a CUDA device: tests, bandwidth, whole commands, recovery, the transfer study. One command."""

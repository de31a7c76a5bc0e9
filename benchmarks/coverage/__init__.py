"""What can be resized: every listed architecture, and every family of two model libraries, put to the test.

``python -m benchmarks.coverage`` builds small networks, exports them, resizes them, and compares what the resized file
computes with what a native export of that size computes. The outcome is the page ``docs/coverage.md``.
"""

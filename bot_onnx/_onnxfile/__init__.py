"""The file: opened and checked without its weights, laid out byte by byte, written whole or not at all.

Nothing here knows what a network is.
"""

"""What people and machines read: pure functions from the plain results to rich renderables and to JSON values.

Nothing in this folder computes a result, prints, or touches a file. Each table is imported from its own module, so that
the list of published specs needs no engine.
"""

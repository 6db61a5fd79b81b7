"""The destinations: one vendor each, in a file of its own, as pure functions.

Nothing is imported here, so that a program loads only the vendors that it uses, and a
destination never knows a sibling.
"""

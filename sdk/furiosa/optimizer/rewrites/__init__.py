"""Rewrites of a float graph: one file each, each leaving what the model computes as it was.

A rewrite takes a `Graph` whose nodes are named and whose shapes are inferred, and says whether it
changed anything.
"""

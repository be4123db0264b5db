"""Measuring rankings: which queries, what they cost, and where figures come from.

Shared by evaluate, its sweep and the benchmarks.
"""

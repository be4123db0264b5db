"""Exact search in an array of vectors.

Below the stores, and used wherever descriptors that are already in memory are searched.
"""

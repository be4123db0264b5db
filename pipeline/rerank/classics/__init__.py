"""Rerankers that every paper compares with: query expansion, database augmentation, k-reciprocal re-ranking, diffusion.

Global descriptors alone, no training; one short file each. Relevance feedback (`rocchio`) changes a query instead.
"""

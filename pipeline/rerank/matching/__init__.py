"""Re-ranking by matching: keypoints of query and candidate are matched, the geometry is verified, what agrees counts.

The classical way to re-rank, and the only one that needs neither labels nor training. `load_matcher` makes a matcher.
"""

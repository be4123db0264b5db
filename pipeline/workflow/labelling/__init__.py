"""Labelling pairs of photos: which pair to show next, what a person answered, and the groups that follow.

Below `relook label` and its page. Answers are read by `relook adapt` too.
"""

"""Calibration of a chain of rerankers on the labelled images of an index.

`pairs` collects scores, `tuning` chooses from them; `fusion` keeps and applies the choice.
"""

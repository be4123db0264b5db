"""Details of the authors' evaluation code that are not in their papers; needed for parity with published figures.

Not a choice of `evaluate --protocol`, except for the groups that `revisited_published` removes.
"""

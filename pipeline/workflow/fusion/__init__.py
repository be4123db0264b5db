"""How scores of a chain are fused: the file that an index keeps, and its use by searches and evaluations.

Below `opened_index`; `calibration` makes what the file has.
"""

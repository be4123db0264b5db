"""Training of AMES's detector, which chooses local descriptors: its task and its start.

Run by `train-detector`, from whole maps of an index.
"""

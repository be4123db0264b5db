"""relook: instance-level image retrieval with re-ranking.

Data moves one way: photos -> catalog -> describe -> index directory -> store -> candidates -> rerank -> ranking.
The verbs of that flow are the modules of `pipeline.stages`; every other package here is one room of the house.
"""

__version__ = "0.1.0"

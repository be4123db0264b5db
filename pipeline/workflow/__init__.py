"""What several verbs share: the open gallery, queries, indexing, store sync, evaluation, training runs.

Below `stages`, above every other room: here rooms are joined that do not know each other.
"""

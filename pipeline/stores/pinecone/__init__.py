"""The store in Pinecone: records, namespaces, limits and models.

One of the stores that `--store` names; docs/pinecone.md says how it is used.
"""

"""Published files: downloaded with resumption and checksums, archives unpacked without trusting them.

Before the catalog, which reads what this room leaves in a folder. `sources` lists where each data set is published;
`Fetcher` fetches one file of it.
"""

from pipeline.fetch.fetcher import FetchedFile, Fetcher
from pipeline.fetch.ledger import Ledger, folder_lock
from pipeline.fetch.sources import SOURCES, RemoteFile, find_local

__all__ = ["SOURCES", "FetchedFile", "Fetcher", "Ledger", "RemoteFile", "find_local", "folder_lock"]

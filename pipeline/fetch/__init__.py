"""Published files brought here: downloaded with resumption and checksums, archives unpacked without trusting them.

Before the catalog, which reads what this room leaves in a folder. `sources` says where each data set is published;
`fetch_file` brings one file of it.
"""

from pipeline.fetch.bring import Brought, Fetcher
from pipeline.fetch.ledger import Ledger, alone_in
from pipeline.fetch.sources import SOURCES, RemoteFile, find_local

__all__ = ["SOURCES", "Brought", "Fetcher", "Ledger", "RemoteFile", "alone_in", "find_local"]

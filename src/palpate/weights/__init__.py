"""Weights and cohorts that others publish: where they are, how they are downloaded, and how they are checked.

One table names them (`ASSETS`). `fetch` downloads one, resuming where it was cut off, checks it and
puts it under `home()`; a file that was put there by hand is checked and used as if it had been fetched.
"""

from .assets import ASSETS, Asset, Hub, Official, find
from .store import Fetched, cached, fetch, find_local, home, needed

__all__ = ["ASSETS", "Asset", "Fetched", "Hub", "Official", "cached", "fetch", "find", "find_local", "home", "needed"]

"""Weights and cohorts that others publish: where they are, how they get here, whether they are what they should be.

One table names them (`ASSETS`). `fetch` downloads one, resuming where it was cut off, checks it and
keeps it under `home()`; a file that was put there by hand is checked and used as if it had been fetched.
"""

from .assets import ASSETS, Asset, Hub, Official, find
from .store import Fetched, cached, fetch, home, look, needed

__all__ = ["ASSETS", "Asset", "Fetched", "Hub", "Official", "cached", "fetch", "find", "home", "look", "needed"]

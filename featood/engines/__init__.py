"""Engines: where the blocks of a job are computed, in this process or in several.

An engine maps one function over items, such as the numbers of row blocks, and returns the results in their order.
Scheduling, retries and lost machines are left to the programs that provide them: Ray, torchrun, Slurm.
"""

from featood.engines.engine import ENGINES, Engine, Work, open_engine
from featood.engines.local import LOCAL, Local

__all__ = ["ENGINES", "LOCAL", "Engine", "Local", "Work", "open_engine"]

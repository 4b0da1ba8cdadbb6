"""The options of the benchmark, from its environment."""

import os

PARTS = (os.environ.get("PARTS")
         or "requests calls start neighbour processor sockets counting keyvalue between reload").split()
QUICK = PARTS == ["quick"]
if QUICK:
    PARTS = ["requests", "calls", "start", "neighbour", "processor", "sockets", "counting", "keyvalue", "between"]

REPS = int(os.environ.get("REPS") or (3 if QUICK else 5))
SECONDS = float(os.environ.get("SECONDS_PER_RUN") or (1 if QUICK else 2))
RELOADS = int(os.environ.get("RELOADS") or 10)
# The numbers of plugins in one daemon.
PLUGINS = (1, 50) if QUICK else (1, 10, 50, 200, 1000)
# The number of plugins when one of them is changed.
UNCHANGED = 999

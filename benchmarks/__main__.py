"""The measuring room.

    python -m benchmarks                          lists what there is
    python -m benchmarks etl --json-bytes 2G      runs one, prints its tables
    python -m benchmarks all --write              runs all, for the record

``--write`` puts the tables into docs/performance.md, each into its own place, so that a figure
there is always one that a run printed. Compare ratios, not seconds: machines differ, and other
work on them only ever adds.
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys

from benchmarks import options, report

#: In the order in which they run; each is a module with ``measure`` and ``tables``.
NAMES = {
    "etl": "a dump into a store, beside the machine's limit and other readers",
    "formats": "the same JSON in every format, beside the tool that inflates it",
    "stages": "where the processor time of a line goes",
    "merge": "the merge alone, in records a second",
    "scale": "time and memory from 1 to 8 GB of JSON",
    "update": "--update-from beside a full build",
    "kills": "processes killed at random, and what is in the store in the end",
    "explain": "one explanation, beside the interpreter's start",
    "judged": "how often natural types and visuality are right, on items that were judged",
    "mediainfo": "Commons' files into tables, beside etl",
    "join": "sizes of files from 20 million rows of MediaWiki's table `image`",
    "candidates": "where images of 150,000 entities are, from 20 million files",
    "likeness": "how often copies are found and look-alikes merged; clusters of 5 million",
    "fetching": "images of a local nginx into shards, beside img2dataset and the machine's limit",
    "probes": "what a hostile server gets done, to us and to img2dataset",
    "hosts": "50,000 candidates over 200 hosts that fail in all ways",
    "fetch_kills": "processes of a fetch and a pack killed at random, and the shards in the end",
    "training": "images a second of `train`, beside open_clip_train; the step alone on a GPU",
    "loading": "images of shards for training, without a model, beside open_clip_train's loader",

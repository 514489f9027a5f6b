"""The settings at which peers are tried; each is measured at the fastest of its own: see mining.need.

A setting is a set of environment variables. OpenBLAS as faiss's package brings it knows few processors and takes slow
kernels for the others; which core type is fastest has to be tried. {} is the package as it is installed.
"""

from __future__ import annotations

Setting = dict[str, str]

PLAIN: Setting = {}
CORES = "OPENBLAS_CORETYPE"
FAISS_BLOCK = "BENCH_FAISS_BLOCK_ROWS"  # rows of the database that faiss multiplies at a time
BREADTH = "BENCH_BREADTH"  # how far an approximate search looks around: ef of a graph, cells of an inverted file

# What is tried, one variable after the other, each beside the best value of those before.
_FAISS = {CORES: ("Haswell", "Zen", "SkylakeX", "Cooperlake"), FAISS_BLOCK: ("4096", "16384")}
TRIED: dict[str, dict[str, tuple[str, ...]]] = {"faiss_flat": _FAISS, "sentence_transformers_miner": _FAISS}

# Approximate searches are measured at each of these breadths.
BREADTHS: dict[str, tuple[int, ...]] = {"faiss_hnsw": (32, 64, 128), "faiss_ivf": (8, 24, 64), "torch_bfloat16": (0,)}

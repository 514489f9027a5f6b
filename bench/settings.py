"""The settings at which peers are tried; each is measured at the fastest of its own: see mining.need.

A setting is a set of environment variables. OpenBLAS as faiss's package brings it knows few processors and takes slow
kernels for the others; which core type is fastest has to be tried. {} is the package as it is installed.
"""

from __future__ import annotations

Setting = dict[str, str]

PLAIN: Setting = {}
CORES = "OPENBLAS_CORETYPE"
FAISS_BLOCK = "BENCH_FAISS_BLOCK_ROWS"  # rows of the database that faiss multiplies at a time
INDEX = "BENCH_INDEX"  # of what an approximate index is made: links of a row of a graph, cells of an inverted file
BREADTH = "BENCH_BREADTH"  # how far an approximate search looks around: ef of a graph, cells of an inverted file

# What is tried, one variable after the other, each beside the best value of those before.
_FAISS = {CORES: ("Haswell", "Zen", "SkylakeX", "Cooperlake"), FAISS_BLOCK: ("4096", "16384")}
TRIED: dict[str, dict[str, tuple[str, ...]]] = {"faiss_flat": _FAISS, "sentence_transformers_miner": _FAISS}

# Approximate searches are measured at each of these breadths.
BREADTHS: dict[str, tuple[int, ...]] = {"faiss_hnsw": (32, 64, 128), "faiss_ivf": (8, 24, 64), "torch_bfloat16": (0,)}

# At a recall that is given they are measured at the fastest of these indexes, each at the least of these breadths.
INDEXES: dict[str, tuple[str, ...]] = {"faiss_hnsw": ("16", "32"), "faiss_ivf": ("512", "1024", "2048")}
TRIED_BREADTHS = (4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256)

"""Approximate nearest rows by indices of faiss, and how many of the nearest rows they find."""

from __future__ import annotations

__all__ = ["build_approximate_index", "recall", "search_approximately"]

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from featood.numerics.banks import Bank
from featood.numerics.neighbours import Index, Neighbours, build_index, compared, search

ROWS_OF_LIST = 39
"""Smallest mean number of rows of a list for which faiss does not warn."""
LINKS = 32
"""Links of each row in the graph."""
BLOCK_ROWS = 8192
RECALL_ROWS = 500


def build_approximate_index(kind: str, rows: Float[Tensor, "N D"] | Bank, breadth: int) -> Any:
    """Build an index of faiss that holds a copy of the rows in float32; the same rows give the same index.

    Parameters
    ----------
    kind : str
        ``ivf``: rows in up to ``4 sqrt(N)`` lists around centroids, of which the nearest are searched. ``hnsw``: a
        graph in which each row is linked to near rows, followed greedily (Malkov and Yashunin, 2018).
    rows : Tensor or Bank
        ``[N, D]``.
    breadth : int
        Number of lists to search, or of candidates to keep while the graph is followed.
    """
    import faiss

    size = rows.shape[1]
    index: Any
    if kind == "hnsw":
        index = faiss.IndexHNSWFlat(size, LINKS)
        index.hnsw.efSearch = breadth
    else:
        lists = max(1, min(round(4 * math.sqrt(len(rows))), len(rows) // ROWS_OF_LIST))
        quantizer = faiss.IndexFlatL2(size)
        index = faiss.IndexIVFFlat(quantizer, size, lists)
        index.nprobe = min(breadth, lists)
        step = max(1, len(rows) // (ROWS_OF_LIST * lists * 2))
        index.train(rows[::step].float().cpu().numpy())
    for part in rows.split(BLOCK_ROWS):
        index.add(part.float().cpu().numpy())
    return index


def search_approximately(index: Any, exact: Index, queries: Float[Tensor, "B D"], k: int) -> Neighbours:
    """Find k rows that are near each query; the search is exact for a query of which the index finds fewer.

    Parameters
    ----------
    index : object
        Of :func:`build_approximate_index`.
    exact : Index
        The same rows, of :func:`featood.numerics.neighbours.build_index`.
    queries : Tensor
        ``[B, D]``.
    k : int
        Number of neighbours.
    """
    if torch.compiler.is_compiling():  # a traced graph has no index
        return search(exact, queries, k)
    rows = torch.from_numpy(index.search(queries.float().cpu().numpy(), k)[1]).to(queries.device)
    if bool((short := (rows < 0).any(1)).any()):
        rows[short] = search(exact, queries[short], k).rows
    return compared(exact, queries, rows)


def recall(index: Any, rows: Float[Tensor, "N D"] | Bank, k: int) -> float:
    """Return the share of the k nearest rows that an index finds, over some of its own rows ``[N, D]``."""
    exact = build_index(rows)
    queries = rows[:: max(1, len(rows) // RECALL_ROWS)].float()
    found = search_approximately(index, exact, queries, k).values
    # counted by distance, so that equally near rows may stand for each other
    farthest = search(exact, queries, k).values[:, -1:]
    return float((found <= farthest).double().mean())

"""The engine: whole jobs (extract a dataset, fit a head, score heads against sets) on this machine."""

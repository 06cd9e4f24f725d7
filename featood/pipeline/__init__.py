"""Complete jobs: extract a dataset, fit a head, score heads against sets."""

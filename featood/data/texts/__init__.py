"""Sets of texts: files of them, and the layouts of published sets."""

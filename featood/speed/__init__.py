"""Speed and memory of heads, stores, extraction and training, beside floors and other libraries of the same run."""

"""Speed and memory of heads, stores and extraction, beside floors and other libraries measured in the same run."""

"""Sets of images: what is there, and reading it row by row."""

"""Sets of images: finding, opening and reading them."""

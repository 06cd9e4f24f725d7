"""Sets of images with a mask for each image, which says which pixels are out-of-distribution."""

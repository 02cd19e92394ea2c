"""What napari sees: widgets, layers, samples, threads."""

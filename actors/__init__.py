"""Models in processes: the only package that imports Ray."""

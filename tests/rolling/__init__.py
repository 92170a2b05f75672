"""`make rolling`: replace kernels and workers of an old version by those of this one, while turns run."""

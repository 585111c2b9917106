"""Lossless coding with a density: an entropy coder, and the file format around it."""

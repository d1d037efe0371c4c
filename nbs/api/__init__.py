"""Notebooks of the library that travel in the wheel: `mlops-nb new` copies from them."""

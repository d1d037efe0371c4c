"""The notebook is the pipeline: a Jupyter-first framework for the whole MLOps life cycle."""

__version__ = "0.1.0"

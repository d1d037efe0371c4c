"""The stage notebooks of the flights pipeline, shipped inside the wheel."""

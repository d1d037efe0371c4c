"""The notebooks that one opens to work in, shipped inside the wheel."""

"""The command line: ``python -m sightline``."""

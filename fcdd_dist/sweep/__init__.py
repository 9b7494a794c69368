"""Sweeps: classes, seeds and settings as one thing, its search and its table."""

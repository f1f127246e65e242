"""Hits and fills: what downloads do with the image cache."""

"""Keeping the image cache within its limits, clean, and true to its files."""

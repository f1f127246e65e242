"""Bytes in motion: bodies, digests, disks, and work beside the event loop."""

"""Streams of bytes: bodies, digests, disks, and work outside the event loop."""

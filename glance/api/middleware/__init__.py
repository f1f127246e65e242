"""Middleware in front of the Images API in its paste pipeline."""

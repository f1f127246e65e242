"""Stages that stand before the Images API in its paste pipeline."""

"""The old home of the scrubber's factory, which configuration files name."""

from glance.scrubber import Scrubber, app_factory

__all__ = ["Scrubber", "app_factory"]

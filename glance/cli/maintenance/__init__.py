"""The programs for operators: glance-manage, the scrubber, those of the image cache."""

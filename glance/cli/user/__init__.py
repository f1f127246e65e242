"""The programs for users: `glance`, and `glance-upload`."""

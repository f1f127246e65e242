"""What every part of glance shares; nothing here knows an image store or a database."""

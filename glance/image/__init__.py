"""The rules of an image record: its fields, lists of images, members, encrypted locations."""

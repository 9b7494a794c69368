"""Shards: tar files of stored images with a record in the manifest. ``write`` makes them, ``read`` gives them back."""

"""Pages that show what came out, from the files of a folder alone. ``write.write_report`` makes them."""

"""Videos and annotations: from files as people have them to prepared clips, an index and batches."""

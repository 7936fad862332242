"""Networks under their published state-dict names, with the metadata of their weights."""

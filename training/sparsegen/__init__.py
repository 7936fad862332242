"""Training SparseGen: losses, view dropout, EMA, SRN data, procedural data and the trainer."""

"""Training GenRecon's adapters: LoRA, aggregator and projections on a frozen TRELLIS.2 flow."""

"""One module per paper: which stage follows which."""

"""How to dream the next latent: networks, schedulers and sampling in pure torch. Sub-folders hold
weights."""

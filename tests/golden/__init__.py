"""Golden numbers of the published system on a tiny random checkpoint, and the runner that holds
ours against them."""

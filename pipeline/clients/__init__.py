"""A running world from other programs: the socket client and the Gymnasium environment."""

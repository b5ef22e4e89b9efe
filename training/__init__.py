"""Makes the small world that ships with the project: simulator, training of every stage,
evaluation."""

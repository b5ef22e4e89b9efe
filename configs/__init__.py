"""What to run: frozen dataclasses, YAML and environment. No torch, no Ray."""

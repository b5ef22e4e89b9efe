"""What ``python -m pipeline`` does: one module a command, each add_arguments + main."""

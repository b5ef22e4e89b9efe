"""What a trained world is measured by, against the simulator it learned from."""

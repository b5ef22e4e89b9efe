"""The durable record of a session: snapshots of its world, and every label and prompt between."""

"""What is kept of the worlds of a launcher, and what goes on of those of an earlier one."""

"""What happens between a source of frames and those who watch: pacing, fan-out, recording."""

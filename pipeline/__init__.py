"""Between models and people: command line, stage scripts, supervision, pacing, video files, web
gateway."""

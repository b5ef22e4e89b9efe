"""One flat test file per module: test_<package>_<module>.py."""

"""The project where it is installed: everything lives in this one package, so that no package called
models or configs is put where a user's own may be. In a checkout the packages stand beside it."""

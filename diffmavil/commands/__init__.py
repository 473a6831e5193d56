"""One file a command; each holds a function of its own name, whose signature and docstring are its help."""

"""The commands. Each parses, makes one library call and renders the result; text to stdout, all else to stderr."""

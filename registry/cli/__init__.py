"""The command line: one module per command; parsing, printing and progress, no logic."""

"""What to run: names and paths, cells, directives, REPL transcripts. Imports no torch."""

"""What recording costs: ``python -m tests.benchmarks``. Nothing here is run by pytest."""

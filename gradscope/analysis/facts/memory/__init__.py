"""What was allocated, saved and kept, and what keeps it."""

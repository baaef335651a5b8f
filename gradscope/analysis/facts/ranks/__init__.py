"""Processes of one job: what they sent one another, and what compares them."""

"""Analyses: small pure functions from a recording to the report. Never imports torch."""

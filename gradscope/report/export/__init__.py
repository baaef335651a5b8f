"""Recordings as tables for other tools: what of a recording is in which table, and files of Parquet."""

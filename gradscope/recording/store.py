"""A recording as one file, ``*.gradscope``: a SQLite database that ``sqlite3``, DuckDB and pandas can query.

:mod:`gradscope.recording.schema_sql` describes its tables and views. Nothing here imports torch.
"""

from gradscope.recording.reader import load
from gradscope.recording.writer import RecordingWriter, save

__all__ = ["RecordingWriter", "load", "save"]

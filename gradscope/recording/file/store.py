"""A recording as one file, ``*.gradscope``: a SQLite database that ``sqlite3``, DuckDB and pandas can query.

:mod:`gradscope.recording.file.schema_sql` describes its tables and views. Nothing here imports torch.
"""

from gradscope.recording.file.reader import load
from gradscope.recording.file.writer import RecordingWriter, save

__all__ = ["RecordingWriter", "load", "save"]

"""An oracle for what a report says: generated programs, run once under the recorder and once under torch's own eyes."""

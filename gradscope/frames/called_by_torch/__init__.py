"""The text of a file: functions that torch calls: hooks, closures, schedules, parts of custom Functions."""

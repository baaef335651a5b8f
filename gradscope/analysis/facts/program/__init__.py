"""The program itself: names, statements, events, errors that it caught."""

"""Values in and out of SQLite, exactly: text that is no valid Unicode, and unsigned numbers, which it does not know."""

from __future__ import annotations

from array import array


def to_sqlite_text(text: str) -> str | bytes:
    """Text as it is stored: itself, or bytes where it has lone surrogates (paths and output with stray bytes)."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def from_sqlite_text(stored: object) -> str:
    """Text from what is stored.

    Raises:
        ValueError: It is no text.
    """
    if isinstance(stored, str):
        return stored
    if isinstance(stored, bytes):
        return stored.decode("utf-8", "surrogatepass")
    raise ValueError(f"text expected, not {type(stored).__name__}")


def to_sqlite_numbers(column: array[int]) -> array[int]:
    """A column as it is stored: unsigned 64-bit numbers become the signed ones with the same bits."""
    if column.typecode != "Q":
        return column
    signed = array("q")
    signed.frombytes(column.tobytes())
    return signed


def from_sqlite_numbers(stored: list[int], typecode: str) -> list[int]:
    """A column's numbers from what is stored.

    Raises:
        TypeError: Not all are whole numbers.
        OverflowError: One has more than 64 bits.
    """
    if typecode != "Q":
        return stored
    unsigned = array("Q")
    unsigned.frombytes(array("q", stored).tobytes())
    return unsigned.tolist()

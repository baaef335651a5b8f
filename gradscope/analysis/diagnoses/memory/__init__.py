"""Memory that stays, and what is saved for backward in vain."""

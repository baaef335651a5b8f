"""What derivatives are: by the source of custom Functions, by formulas, by tables that were measured."""

"""What a run looks like: plots now, tables and a page later."""

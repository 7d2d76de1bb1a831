"""The hardware units in Amaranth, and what is done with them: emit, simulate, synthesise."""

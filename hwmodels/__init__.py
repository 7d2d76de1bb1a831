"""Boards, technologies, device families, prices: TOML files, read with importlib.resources."""

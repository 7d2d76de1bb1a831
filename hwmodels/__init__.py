"""Boards, technologies, device families and prices, one TOML file each; read with importlib.resources."""

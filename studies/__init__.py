"""Studies, one TOML file each; read with importlib.resources."""

"""Networks, one TOML file each, and published accuracies; read with importlib.resources."""

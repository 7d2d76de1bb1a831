"""From a priced table to a front: the space, exact search, Optuna's samplers, runs."""

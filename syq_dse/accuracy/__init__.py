"""Where accuracies come from: published figures now, measured sensitivities later."""

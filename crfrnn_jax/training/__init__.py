"""Training: the stages of a config, their checkpoints and logs."""

"""Training: presets, the loop, the losses, exact resuming."""

"""From captions and region features on disk to batches of tensors."""

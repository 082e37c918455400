"""What was known of a record at an instant: one function for training, batches and the single call."""

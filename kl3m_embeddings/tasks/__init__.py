"""What a batch is and which loss it asks for: one file a task."""

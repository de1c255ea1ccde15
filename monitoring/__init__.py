"""What makes the boards and the rules of the chart; nothing of it is installed or runs in a cluster."""

"""What the command line sees of a cluster, through its API server."""

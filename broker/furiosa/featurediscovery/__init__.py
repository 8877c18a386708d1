"""What NPUs a node has, as labels for the scheduler, through Node Feature Discovery."""

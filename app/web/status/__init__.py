"""What this process reports about itself: health, statistics, the page System, its consumer groups."""

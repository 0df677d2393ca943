"""Reading results out of Kafka: one by its id, those of a source by time, and those of points just written."""

"""Identity: the people and programs that may read and steer."""

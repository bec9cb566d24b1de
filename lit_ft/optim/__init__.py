"""Ground floor: parameter groups and learning-rate schedules."""

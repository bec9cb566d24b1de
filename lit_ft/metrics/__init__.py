"""Ground floor: what torchmetrics lacks, and which metrics a task reports."""

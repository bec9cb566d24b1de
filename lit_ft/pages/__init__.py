"""What people look at before and after a run: on screen, and as pages of HTML that need nothing else."""

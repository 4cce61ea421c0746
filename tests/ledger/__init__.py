"""Two banks that send each other money by events alone: what must hold whatever dies."""

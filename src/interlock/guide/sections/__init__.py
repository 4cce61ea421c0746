"""The sections of a guide: a module for each part, with `BODIES`, heading -> what stands below it."""

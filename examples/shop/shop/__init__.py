"""The shop: the reference platform of Interlock."""

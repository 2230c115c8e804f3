"""How fast the parts are on this machine, and what changed since."""

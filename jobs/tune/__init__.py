"""Which settings of a run are fastest on this machine: a search by trials on a sample of the source."""

"""What a run would take on clusters nobody has at hand: a discrete-event simulation of the engine."""

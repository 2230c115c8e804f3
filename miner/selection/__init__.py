"""Training sets chosen to a specification: what is wanted (`spec`), what there is (`pool`), and how much of each
(`program`), clip by clip (`pick`)."""

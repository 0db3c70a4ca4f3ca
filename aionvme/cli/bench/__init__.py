"""What ``aionvme bench`` measures with: the plan of a sweep, its points, the document that they are kept in, and how all of it
is shown."""

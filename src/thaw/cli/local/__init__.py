"""`thaw local`: the functions of a SAM template on this machine, for as long as the command runs."""

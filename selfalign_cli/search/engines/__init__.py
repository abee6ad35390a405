"""Where vectors are searched: the index folder, or an engine that others run, behind one port of a few verbs."""

"""Getting the public datasets ready: fetched and pinned, described, checked for leaks, labelled; `mis data ...`."""

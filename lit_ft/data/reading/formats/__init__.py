"""One file per format, each a generator of chunks of rows with the place at which reading goes on."""

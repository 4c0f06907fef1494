"""Problems, warnings and summaries of a data set."""

"""Where trials run. An engine trains jobs and tells of each epoch; the coordinator answers go or drop."""

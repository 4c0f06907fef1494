"""For people to look at: status, report, dashboard."""

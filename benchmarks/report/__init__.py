"""Every figure of what the tool costs, in one command: measured, kept as JSON, and written as a page."""

"""Command-line tools: arguments in, text out. What they do lives in the SDK packages."""

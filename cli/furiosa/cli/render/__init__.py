"""Rows to text, a module for each kind. PURE: knows nothing of devices, brokers or terminals."""

"""The compiler with everything around it that is not pure."""

"""gir: tasks on buffers with lifetimes and addresses."""

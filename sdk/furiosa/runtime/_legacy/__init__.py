"""What the deprecated modules are made of; those only warn. Source: runtime reference 8."""

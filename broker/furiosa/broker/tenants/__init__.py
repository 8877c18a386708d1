"""Who may do what: principals, their tenants, and the file that says so."""

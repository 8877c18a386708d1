"""One file per sub-command of furiosactl: its arguments, what it fetches, its rows."""

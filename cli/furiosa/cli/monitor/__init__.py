"""The live view of `furiosactl monitor`.

`sample`, `history`, `text`, `grid`, `rows` and `view` decide what is shown and do no I/O; `source` asks the
broker, `acts` has it change something; `panes`, `dialogs` and `app` are the screen, on Textual, which only
the extra `monitor` installs.
"""

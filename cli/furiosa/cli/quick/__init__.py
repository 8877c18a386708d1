"""The commands that people type all day, when a broker answers on its socket: without protobuf, argparse
and all that takes longer to import than the answer to come.

Whatever is unusual, be it an option, an error or no broker, is left to the whole command line, which begins
anew. What is shown is made by `furiosa.cli.tables` in both. Beside them only built-in modules and `socket`
are imported here.
"""

from furiosa.cli.quick.command import run

__all__ = ["run"]

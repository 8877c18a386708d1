"""What a command's exit status says."""

from enum import IntEnum


class ExitCode(IntEnum):
    OK = 0  # also when there is nothing to show
    FAILURE = 1  # stderr says why
    USAGE = 2  # the command line is wrong; argparse's own number
    INTERRUPTED = 130  # Ctrl+C: what a shell reports for SIGINT
    BROKEN_PIPE = 141  # the reader left: what a shell reports for SIGPIPE
    COMPILE = 255  # of `furiosa compile`, for every error. Source: command reference 2

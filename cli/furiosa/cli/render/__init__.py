"""Rows to text. PURE: knows nothing of devices, brokers or terminals."""

from furiosa.cli.render.json_ import json_text
from furiosa.cli.render.table import Align, Column, Table, draw, printable
from furiosa.cli.render.times import moment, nanoseconds, span
from furiosa.cli.render.values import celsius, container, or_missing, watts
from furiosa.cli.render.yaml_ import yaml_text

__all__ = [
    "Align",
    "Column",
    "Table",
    "celsius",
    "container",
    "draw",
    "json_text",
    "moment",
    "nanoseconds",
    "or_missing",
    "printable",
    "span",
    "watts",
    "yaml_text",
]

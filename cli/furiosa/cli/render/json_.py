"""JSON as furiosactl prints it: one line, no blanks, UTF-8 as is. Source: furiosactl reference 8."""

import json
import re
from typing import Any

_CONTROLS = re.compile(r"[\x7f-\x9f]")


def json_text(document: Any) -> str:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    # json leaves these alone; terminals read some of them as commands
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"

"""Runs the example of docs/identity.md, as it stands there, in a directory with a file of keys."""

import pathlib
import re

page = pathlib.Path(__file__).parents[2] / "docs" / "identity.md"
example = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
if example is None:
    raise SystemExit("docs/identity.md has no example in Python")
exec(example.group(1))

"""The code of the documentation's pages runs as it stands, each page from its top."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "docs" / "index.md"]
PAGES += sorted((ROOT / "docs" / "recipes").glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    text = page.read_text()
    blocks = [
        # Lines as in the file, so that an error names the right one.
        "\n" * text[: match.start(1)].count("\n") + match.group(1)
        for match in BLOCK.finditer(text)
    ]
    assert blocks
    if any("import torch" in block for block in blocks):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    known = {"__name__": "page"}
    for block in blocks:
        exec(compile(block, str(page), "exec"), known)

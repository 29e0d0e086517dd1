"""Write the table of masking in docs/security.md as measured: python -m docs.masking_table.

``tests/unit/test_masking.py`` fails when the page is not what this writes.
"""

from __future__ import annotations

from pathlib import Path

from tests.masking import labelled

PAGE = Path(__file__).with_name("security.md")
BEGIN = "<!-- written by docs/masking_table.py: begin -->"
END = "<!-- end of the table -->"


def table() -> str:
    """Return the Markdown table of both parts."""
    lines = ["| texts | kind | marked | found | wrongly found | precision | recall |"]
    lines.append("|---|---|---|---|---|---|---|")
    for part in labelled.PARTS:
        texts = len(labelled.read(part))
        for kind, score in labelled.scores(part).items():
            marked = score.right + score.missed
            lines.append(
                f"| {part}, {texts} | {kind} | {marked} | {score.right} | {score.wrong} "
                f"| {score.precision:.3f} | {score.recall:.3f} |"
            )
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page with its table as it should be."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

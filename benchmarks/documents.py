"""Tables that benchmarks write into the documentation, each between two marks."""

from pathlib import Path


DOCS = Path(__file__).parents[1] / "docs"


def write_tables(page: str, tables: dict[str, str]) -> None:
    """Replaces what stands between `<!-- begin NAME -->` and `<!-- end NAME -->` in a page of docs/."""
    path = DOCS / page
    text = path.read_text(encoding="utf-8")
    for name, made in tables.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{made}\n{end}{rest.split(end)[1]}"
    path.write_text(text, encoding="utf-8")
    print(f"tables written to {path}")


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows])

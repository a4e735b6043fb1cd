"""docs/results.md: its tables from the cells, its figures beside it."""

from documents import DOCS, write_tables
from paper.figures import figures
from paper.findings import findings
from paper.results import SetResult, all_results
from paper.tables import (
    alone_table,
    collapse_table,
    critics_table,
    gaps_table,
    local_critics_table,
    main_table,
    sets_table,
    sweep_table,
    waves_table,
)


PAGE = "results.md"


def write_page() -> None:
    results = all_results()
    for name, data in figures(results).items():
        (DOCS / f"results_{name}.png").write_bytes(data)
    write_tables(PAGE, tables(results))


def tables(results: list[SetResult]) -> dict[str, str]:
    """What stands between the marks of the page."""
    return {
        "findings": findings(results),
        "sets": sets_table(results),
        "main": main_table(results),
        "half": main_table(results, share=0.5),
        "gaps": gaps_table(results),
        "collapse": collapse_table(results),
        "waves": waves_table(results),
        "critics": critics_table(results),
        "alone": alone_table(results),
        "sweep": sweep_table(results),
        "local": local_critics_table(),
    }

"""Where a passport goes: two files in a folder, and the one that `--json` names."""

from pathlib import Path

from pipeline.bench.page import page
from pipeline.bench.passport import HTML, JSON, EnginePassport, LinePassport
from pipeline.figures import write_text


def write_passport(passport: EnginePassport | LinePassport, out: Path, json_file: Path | None) -> Path:
    """Write it; returns the page.

    Raises:
        UsageError: a file cannot be written.
    """
    text = passport.model_dump_json(indent=1) + "\n"
    write_text(out / JSON, text)
    write_text(out / HTML, page(passport))
    if json_file is not None:
        write_text(json_file, text)
    return out / HTML

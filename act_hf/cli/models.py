"""Where a trained model goes, and what it says of the rows that it was trained and measured on."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from act_hf.cli.shared import say
from act_hf.errors import ACTError
from act_hf.hub import HUB, is_address, parse_address


if TYPE_CHECKING:
    from collections.abc import Iterator


def check_model_target(target: str, *, overwrite: bool) -> None:
    """Raises [`ACTError`] where a model cannot be written to `target`: worth knowing before a training."""
    from act_hf.files import check_replaceable

    if target.startswith(HUB):
        from act_hf.hub.models import check_model_push

        check_model_push(parse_address(target), overwrite=overwrite)
    else:
        check_replaceable(Path(target), overwrite=overwrite, sign="config.json")


@contextlib.contextmanager
def model_folder(target: str, *, overwrite: bool) -> Iterator[Path]:
    """A folder that becomes the model at `target`, here or on the Hub, when the block ends well."""
    from act_hf.files import written_whole

    if not target.startswith(HUB):
        with written_whole(Path(target), "the model") as folder:
            yield folder
        return
    from act_hf.hub.models import push_model

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "model"
        yield folder
        try:
            say(push_model(folder, target, overwrite=overwrite))
        except ACTError as error:  # it may have taken hours to train
            kept = Path(tempfile.mkdtemp(prefix="act_hf_")) / "model"
            shutil.move(folder, kept)
            raise ACTError(f"{error}. The model is kept in {str(kept)!r}; act_hf.push_model pushes it") from error


def on_hub(source: str) -> str | None:
    """The address of a data set on the Hub; `None` for a file or folder, whose path is nobody else's business."""
    return str(parse_address(source)) if is_address(source) and not _is_here(source) else None


def evaluated_on(source: str, accuracy: float, rows: int) -> dict[str, Any]:
    """What a model was measured on, and how right it was."""
    address = None if on_hub(source) is None else parse_address(source)
    if address is None:
        return {"dataset": Path(source).name, "on_hub": False, "value": accuracy, "rows": rows}
    about = {"dataset": address.id, "config": address.config, "revision": address.revision, "on_hub": True}
    return {**about, "value": accuracy, "rows": rows}


def _is_here(source: str) -> bool:
    return not source.startswith(HUB) and Path(source).exists()

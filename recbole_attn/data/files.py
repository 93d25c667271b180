"""Where a data set's files lie, and what is said when they do not."""

from __future__ import annotations

import contextlib
import difflib
from pathlib import Path
from zipfile import BadZipFile

import torch
from recbole.data.dataset import Dataset

from recbole_attn.errors import UserError


class DataFiles(Dataset):
    """Finds or downloads the files and asks for the two columns nothing works without.

    Raises:
        UserError: no such data set, a failed download, a missing file or column.
    """

    def _download(self):
        if self._get_download_url("url", allow_none=True) is None:
            raise UserError(f"dataset={self.dataset_name}: no such data set; {self._advice()}{self._neighbours()}")
        try:
            with _no_barrier_alone():
                super()._download()
        except (OSError, RuntimeError, BadZipFile) as error:
            with contextlib.suppress(OSError):
                Path(self.dataset_path).rmdir()  # an empty folder would pass for the data set next time
            raise UserError(
                f"dataset={self.dataset_name}: the download failed ({_one_line(error)}); {self._advice()}"
            ) from error

    def _load_inter_feat(self, token, dataset_path):
        for part in self.benchmark_filename_list or [None]:
            path = Path(dataset_path) / ".".join(filter(None, (token, part, "inter")))
            if not path.is_file():
                raise UserError(f"dataset={token}: there is no file {path}; the interactions belong there")
        super()._load_inter_feat(token, dataset_path)
        for setting in ("USER_ID_FIELD", "ITEM_ID_FIELD"):
            self._require_column(setting, "name another or add it to load_col")

    def _require_column(self, setting, way_out):
        columns = [] if self.inter_feat is None else list(self.inter_feat)
        if self.config[setting] not in columns:
            raise UserError(
                f"{setting}={self.config[setting]}: no such column was read from {self.dataset_name}.inter "
                f"(read: {', '.join(columns) or 'none'}); {way_out}"
            )

    def _advice(self):
        folder = Path(self.dataset_path)
        return f"its files belong in {folder}, at least {folder / (self.dataset_name + '.inter')}, or change data_path"

    def _neighbours(self):
        parent = Path(self.dataset_path).parent
        folders = sorted(path.name for path in parent.iterdir() if path.is_dir()) if parent.is_dir() else []
        nearest = difflib.get_close_matches(self.dataset_name, folders, n=3) or folders[:3]
        return f" (there: {', '.join(nearest)})" if nearest else ""


@contextlib.contextmanager
def _no_barrier_alone():
    """RecBole waits for the other processes after a download even when there are none, which torch refuses."""
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized():
        yield
        return
    original = getattr(distributed, "barrier", None)
    setattr(distributed, "barrier", lambda: None)  # noqa: B010  (torch may be built without it)
    try:
        yield
    finally:
        setattr(distributed, "barrier", original)  # noqa: B010


def _one_line(error):
    return " ".join(str(error).split()) or type(error).__name__

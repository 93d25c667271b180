"""The compiled loop adds up what indexing does, of every size, and is used for what it can take alone."""

import sys

import pytest
import torch

from recbole_attn import lookup

numba = pytest.importorskip("numba")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n_codes", "n_values"), [(1, 3), (4, 256), (8, 16), (19, 5)])
@pytest.mark.parametrize("items", [0, 1, 5000])
def test_sums_are_those_of_what_the_codes_point_at(items, n_codes, n_values, dtype):
    generator = torch.Generator().manual_seed(4)
    tables = torch.randn(n_codes, n_values, 3, generator=generator, dtype=dtype).permute(2, 0, 1)
    codes = torch.randint(n_values, (items + 2, n_codes), generator=generator).to(torch.uint8)[2:]
    expected = tables[:, torch.arange(n_codes), codes.long()].sum(-1)
    torch.testing.assert_close(lookup.add_up(tables, codes), expected)


def test_gradients_and_other_numbers_and_devices_are_left_to_torch(monkeypatch):
    tables, codes = torch.randn(1, 2, 3), torch.zeros(4, 2, dtype=torch.uint8)
    assert lookup.can_add_up(tables, codes)
    assert not lookup.can_add_up(tables.requires_grad_(), codes)
    with torch.no_grad():
        assert lookup.can_add_up(tables, codes)
        assert not lookup.can_add_up(tables.bfloat16(), codes)
        assert not lookup.can_add_up(tables.to("meta"), codes)
        assert not lookup.can_add_up(tables, codes.int())
        monkeypatch.setattr(lookup, "has_numba", lambda: False)
        assert not lookup.can_add_up(tables, codes)


def test_a_numba_that_cannot_be_imported_is_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.3 or less')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba")
    lookup.has_numba.cache_clear()
    assert not lookup.can_add_up(torch.randn(1, 2, 3), torch.zeros(4, 2, dtype=torch.uint8))
    assert "numba cannot be imported (Numba needs NumPy 2.3 or less)" in caplog.text
    lookup.has_numba.cache_clear()

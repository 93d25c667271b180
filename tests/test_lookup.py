"""The compiled loop adds up what indexing does, of every size, and is used for what it can take alone."""

import platform
import sys

import pytest
import torch

from recbole_attn import lookup

numba = pytest.importorskip("numba")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n_codes", "n_values"), [(1, 3), (4, 256), (8, 16), (19, 5)])
@pytest.mark.parametrize("items", [0, 1, 5000])
@pytest.mark.parametrize("states", [1, 2, 3, 8, 21])
def test_sums_are_those_of_what_the_codes_point_at(states, items, n_codes, n_values, dtype):
    generator = torch.Generator().manual_seed(4)
    table = torch.randn(states, n_codes * n_values, generator=generator, dtype=dtype).T
    codes = torch.randint(n_values, (items + 2, n_codes), generator=generator).to(torch.uint8)[2:]
    expected = table.T.unflatten(1, (n_codes, -1))[:, torch.arange(n_codes), codes.long()].sum(-1)
    torch.testing.assert_close(lookup.add_up(table, codes), expected)


def test_eight_states_are_added_in_vector_registers_and_numbas_setting_is_left_as_it_was():
    before = numba.config.SLP_VECTORIZE
    lookup.add_up(torch.randn(6 * 7, 8), torch.zeros(4, 6, dtype=torch.uint8))
    assert before == numba.config.SLP_VECTORIZE
    if platform.machine() in ("x86_64", "AMD64"):
        (code,) = lookup._loop_over_eights(7).inspect_asm().values()
        assert "addps" in code


def test_gradients_and_other_numbers_and_devices_are_left_to_torch(monkeypatch):
    table, codes = torch.randn(6, 1), torch.zeros(4, 2, dtype=torch.uint8)
    assert lookup.can_add_up(table, codes)
    assert not lookup.can_add_up(table.requires_grad_(), codes)
    with torch.no_grad():
        assert lookup.can_add_up(table, codes)
        assert not lookup.can_add_up(table.bfloat16(), codes)
        assert not lookup.can_add_up(table.to("meta"), codes)
        assert not lookup.can_add_up(table, codes.int())
        monkeypatch.setattr(lookup, "has_numba", lambda: False)
        assert not lookup.can_add_up(table, codes)


def test_a_numba_that_cannot_be_imported_is_done_without(tmp_path, monkeypatch, caplog):
    (tmp_path / "numba.py").write_text("raise ImportError('Numba needs NumPy 2.3 or less')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba")
    lookup.has_numba.cache_clear()
    assert not lookup.can_add_up(torch.randn(6, 1), torch.zeros(4, 2, dtype=torch.uint8))
    assert "numba cannot be imported (Numba needs NumPy 2.3 or less)" in caplog.text
    lookup.has_numba.cache_clear()

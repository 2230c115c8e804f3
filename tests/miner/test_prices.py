"""Money of given amounts, and what prices may be."""

from __future__ import annotations

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from miner.prices import Cost, Prices

amounts = st.floats(0, 1e12)
costs = st.builds(Cost, amounts, amounts, amounts, amounts)


def test_a_bill_adds_up() -> None:
    prices = Prices(cpu_hour=0.04, gpu_hour=2.5, gb_read=0.01, gb_written=0.02, currency="EUR")
    bill = prices.bill(Cost(cpu_s=7200, gpu_s=1800, bytes_read=5e9, bytes_written=1e9))
    assert bill is not None and bill.currency == "EUR"
    assert (bill.cpu, bill.gpu, bill.read, bill.written) == pytest.approx((0.08, 1.25, 0.05, 0.02))
    assert bill.total == pytest.approx(1.40)


@given(costs, costs)
def test_what_is_paid_together_costs_the_sum(one: Cost, two: Cost) -> None:
    prices = Prices(cpu_hour=1, gpu_hour=2, gb_read=3, gb_written=4)
    bills = [prices.bill(each) for each in (one, two, one + two)]
    assert bills[2].total == pytest.approx(bills[0].total + bills[1].total)  # type: ignore[union-attr]
    assert astuple(one * 2) == pytest.approx(astuple(one + one))


def test_without_prices_there_is_no_bill() -> None:
    assert Prices().bill(Cost(cpu_s=1e6)) is None


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_what_is_no_price_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="a price of"):
        Prices(gb_read=wrong)

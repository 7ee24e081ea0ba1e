#!/usr/bin/env python3
"""Golden vectors of the E-model, from the equations of ITU-T G.107 (06/2015) 7-27 to 7-29 and annex B.

Prints the contents of sfu/api/src/emodel_golden.in:  tools/golden_mos.py > sfu/api/src/emodel_golden.in
Decimal arithmetic with 50 digits; nothing is shared with the Rust implementation.
"""

from decimal import Decimal as D
from decimal import getcontext

getcontext().prec = 50

CASES = [
    # Ta ms, Ppl %, BurstR, Bpl
    (0, 0, 1, 10),
    (100, 0, 1, 10),
    (101, 0, 1, 10),
    (150, 0, 1, 10),
    (200, 0, 1, 10),
    (400, 0, 1, 10),
    (800, 0, 1, 10),
    (50, 1, 1, "4.3"),
    (50, 1, 1, "25.1"),
    (50, 3, 1, 10),
    (50, 3, 2, 10),
    (50, 3, 2, 20),
    (180, 5, "1.5", 10),
    (300, 10, 4, 20),
    (600, 20, 1, 10),
    (2000, 100, 1, 10),
]


def power(base: D, exponent: D) -> D:
    return (base.ln() * exponent).exp() if base > 0 else D(0)


def idd(ta: D) -> D:
    mt, st = D(100), D(1)
    if ta <= mt:
        return D(0)
    x = (ta / mt).ln() / D(2).ln()
    root = lambda v: power(1 + power(v, 6 * st), 1 / (6 * st))
    return 25 * (root(x) - 3 * root(x / 3) + 2)


def row(ta, ppl, burst, bpl):
    ta, ppl, burst, bpl = (D(v) for v in (ta, ppl, burst, bpl))
    d = idd(ta)
    ie_eff = 95 * ppl / (ppl / burst + bpl)
    r = min(max(D("93.2") - d - ie_eff, D(0)), D(100))
    mos = D(1) if r <= 0 else D("4.5") if r >= 100 else 1 + D("0.035") * r + r * (r - 60) * (100 - r) * D("7e-6")
    return ta, ppl, burst, bpl, d, ie_eff, r, max(mos, D(1))


print("[")
for case in CASES:
    ta, *rest = row(*case)
    print(f"    ({ta}, " + ", ".join(f"{value:.6f}" for value in rest) + "),")
print("]")

"""The benchmark of alarms on streams."""

import numpy as np
import pytest


def test_false_alarms_are_counted_by_stream(script):
    rows = script("monitoring").false_alarms(20, 1500, 60, (0.05, 0.5))
    shares = {(row["alpha %"], row["alarm"]): row["streams with any %"] for row in rows}
    assert shares[5, "always"] == shares[50, "always"] == 100
    assert shares[5, "monitor"] <= 10 and shares[50, "monitor"] <= 50
    assert shares[5, "knows scores and time"] == 0
    assert shares[5, "calibration only"] > shares[5, "monitor"]
    assert shares[50, "KS of each batch"] == 100


def test_delays_begin_at_the_change(script):
    rng = np.random.default_rng(0)
    rows = script("monitoring").delays(
        rng.normal(size=3000), rng.normal(2, 1, 1000), 1.0, 0.01, 5, 1000, 300, 200
    )
    table = {row["alarm"]: row for row in rows}
    delay = {name: row["median delay"] for name, row in table.items()}
    assert table["always"]["false before %"] == 100 and delay["always"] == 1
    assert table["monitor"]["false before %"] == 0 and table["monitor"]["noticed %"] == 100
    assert delay["knows scores and time"] <= delay["knows the scores"] <= delay["monitor"] < 40
    assert delay["KS of each batch"] % 100 == 0
    assert table["monitor"]["/ knows the scores"] == pytest.approx(
        delay["monitor"] / delay["knows the scores"]
    )

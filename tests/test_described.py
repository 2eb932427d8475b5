"""Item vectors that begin from a table."""

import numpy as np
import pyarrow as pa
import pytest

from twoviews.errors import DataError
from twoviews.evaluate.described import described_vectors

NAMES = pa.array([f"s{i}" for i in range(40)])


@pytest.fixture
def table(tmp_path):
    """Items 0 to 29 in three kinds; 30 to 39 are not in it, and one row is of an item that the log lacks."""
    path = tmp_path / "items.csv"
    words = ["red shoe", "blue hat", "green coat"]
    rows = [f"s{i},{words[i % 3]},{1.5 * (i % 3)}" for i in range(30)]
    path.write_text("\n".join(["sku,text,price", *rows, "other,red shoe,0.5"]) + "\n")
    return str(path)


def test_alike_items_lie_together(table):
    vectors = described_vectors(table, NAMES, 3)
    assert vectors.shape == (40, 3)
    assert vectors.dtype == np.float32
    e = vectors[:30] / np.linalg.norm(vectors[:30], axis=1, keepdims=True)
    cosine, kind = e @ e.T, np.arange(30) % 3
    same = kind[:, None] == kind
    assert cosine[same].min() > cosine[~same].max() + 0.3
    assert vectors[:30].std() == pytest.approx(0.02, rel=0.5)
    assert 0.01 < vectors[30:].std() < 0.03
    assert np.array_equal(vectors, described_vectors(table, NAMES, 3))


def test_a_table_of_other_items_is_told(table):
    with pytest.raises(DataError, match="names no item of the log, such as 's0'"):
        described_vectors(table, pa.array(["x", "y"]), 4)

"""Files that an earlier version wrote: the format cannot change by accident."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from likely.coding.codec import compress, decompress
from likely.coding.container import Reader
from likely.coding.frozen import Frozen
from likely.coding.records import MODEL

sys.path.append(str(Path(__file__).parent / "golden"))

from make import CHUNKS, FOLDER, GOLDEN


@pytest.fixture(params=GOLDEN)
def golden(request):
    _, data, context, _ = GOLDEN[request.param]()
    return FOLDER / f"{request.param}.lk", data, context


def test_every_symbol_is_coded_by_the_model(golden):
    with golden[0].open("rb") as file:
        assert {chunk.method for chunk in Reader(file).chunks()} == {MODEL}


def test_a_golden_file_decodes_to_its_data(golden):
    file, data, _ = golden
    found = decompress(file)
    assert found.dtype == data.dtype
    assert np.array_equal(found, data)


def test_its_model_writes_the_same_file_again(golden):
    file, data, context = golden
    with file.open("rb") as stream:
        model = Frozen(Reader(stream).model)
    again = io.BytesIO()
    compress(model, data, again, context=context, with_model=True, **CHUNKS)
    assert again.getvalue() == file.read_bytes()


def test_golden_files_are_small():
    assert sum(file.stat().st_size for file in FOLDER.glob("*.lk")) <= 10_000

"""Files read back as they were written; files that are not what they should be give one error that says so."""

import contextlib
import gzip
import io
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
from PIL import Image

from likely.data.formats.folder import listing
from likely.data.readers import array_names, read_array
from likely.errors import InputError

IDX_CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}
GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
COLOUR = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)


def idx(array):
    header = struct.pack(f">HBB{array.ndim}I", 0, IDX_CODES[array.dtype.name], array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def refused(path, *words, key=None):
    """The one-line error for a file: starts with the path, holds the words."""
    with pytest.raises(InputError) as caught:
        read_array(path, key)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    for word in words:
        assert word in said, said


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float32", "float64", "bool", ">i4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_files_read_back(tmp_path, dtype, order):
    array = np.asarray(np.arange(24).reshape(4, 3, 2) % 5, dtype, order)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", some=array, other=array[:2])
    np.savez_compressed(tmp_path / "b.npz", array)
    assert array_names(tmp_path / "a.npy") == ()
    assert array_names(tmp_path / "a.npz") == ("some", "other")
    for path, key in [("a.npy", None), ("a.npz", "some"), ("b.npz", "arr_0")]:
        found = read_array(tmp_path / path, key)
        assert found.dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(found, array)


@pytest.mark.parametrize("name", list(IDX_CODES))
def test_idx_reads_back(tmp_path, name):
    array = (np.arange(24) - (name != "uint8") * 12).reshape(2, 3, 4).astype(name)
    (tmp_path / "a.idx3-ubyte").write_bytes(idx(array))
    (tmp_path / "images-idx3-ubyte").write_bytes(idx(array))
    (tmp_path / "a.idx3-ubyte.gz").write_bytes(gzip.compress(idx(array)))
    for file in ("a.idx3-ubyte", "images-idx3-ubyte", "a.idx3-ubyte.gz"):
        found = read_array(tmp_path / file)
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)


def test_csv_reads_numbers_with_and_without_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("1,2\n3,4\n\n")
    assert read_array(path).dtype == np.uint8
    assert read_array(path).tolist() == [[1, 2], [3, 4]]
    path.write_text('\ufeffheight,"weight, kg"\n1.5,-2\n3,4e2\n')
    assert read_array(path).dtype == np.float64
    assert read_array(path).tolist() == [[1.5, -2], [3, 400]]
    path.write_text("-1\n300")
    assert read_array(path).dtype == np.int64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3,tall\n", ["row 3, column 2", '"b"', '"tall"']),
        ("1,2\n3,\n", ["row 2, column 2", "a hole"]),
        ("1,2\n , 3\n", ["row 2, column 1", "a hole"]),
        ("1,2\n3,nan\n", ["row 2, column 2", "nan"]),
        ("1,2\ninf,3\n", ["row 2, column 1", "inf"]),
        ("1,x\n3,4\n", ["row 1, column 2", '"x"']),
        ("1,2\n3,4,5\n", ["row 2", "2 columns", "found 3"]),
        ("1\n\n3\n", ["row 2", "empty row"]),
        ("", ["no rows"]),
        ("a,b\n", ["no rows"]),
        ('1,"2\n', ["damaged"]),
    ],
)
def test_csv_names_row_and_column(tmp_path, text, words):
    path = tmp_path / "a.csv"
    path.write_text(text)
    refused(path, *words)


def test_csv_that_is_not_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"1,\xff\xfe\n")
    refused(tmp_path / "a.csv", "damaged", "utf-8")


@pytest.mark.parametrize("array", [GREY, COLOUR])
def test_images_read_back_sorted_by_name(tmp_path, array):
    for name, shift in [("b.png", 1), ("a.png", 0), ("c.bmp", 2)]:
        Image.fromarray(array + np.uint8(shift)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("not looked at")
    assert array_names(tmp_path) == ()
    assert listing(tmp_path).others == ["notes.txt"]
    assert np.array_equal(read_array(tmp_path), np.stack([array, array + np.uint8(1), array + np.uint8(2)]))


def test_subfolders_are_arrays(tmp_path):
    for name in ("test", "train"):
        (tmp_path / name).mkdir()
        Image.fromarray(GREY).save(tmp_path / name / "a.png")
    assert array_names(tmp_path) == ("test", "train")
    assert read_array(tmp_path, "train").shape == (1, 6, 8)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Image.fromarray(GREY[:5]), ["8×5 L", "8×6 L"]),
        (Image.fromarray(GREY).convert("RGBA"), ["mode RGBA", "transparency", "--convert RGB"]),
        (Image.fromarray(GREY.astype(np.uint16) * 256), ["mode I;16", "half of its bits", "--convert L"]),
    ],
)
def test_images_must_be_alike(tmp_path, other, words):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    other.save(tmp_path / "b.png")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "b.png"))) as caught:
        read_array(tmp_path)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize("keep", [0, 4, 20, 60, -12])
def test_truncated_png(tmp_path, keep):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[:keep])
    with pytest.raises(InputError, match=r"a\.png: truncated or damaged: expected an image, found"):
        read_array(tmp_path)


def test_flipped_bit_in_a_png(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    whole = bytearray((tmp_path / "a.png").read_bytes())
    whole[-20] ^= 1
    (tmp_path / "a.png").write_bytes(whole)
    with pytest.raises(InputError, match=r"a\.png: truncated or damaged"):
        read_array(tmp_path)


def npz_bytes(**arrays):
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


RANDOM = np.random.default_rng(0).integers(0, 256, (50, 8, 8), dtype=np.uint8)


def read_whole(path):
    """Everything there is in a file of one array."""
    return [read_array(path, key) for key in array_names(path) or [None]]


WHOLE = {
    "a.npy": npy_bytes(RANDOM),
    "a.npz": npz_bytes(x=RANDOM),
    "a.idx": idx(RANDOM),
    "a.idx.gz": gzip.compress(idx(RANDOM)),
}


@pytest.mark.parametrize("name", list(WHOLE))
@pytest.mark.parametrize("keep", [0, 1, 3, 7, 40, 0.5, -9, -1])
def test_truncated_files(tmp_path, name, keep):
    whole = WHOLE[name]
    keep = int(keep * len(whole)) if isinstance(keep, float) else keep
    path = tmp_path / name
    path.write_bytes(whole[:keep])
    with pytest.raises(InputError, match=r"expected .* found") as caught:
        read_whole(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", list(WHOLE))
def test_flipped_bits_and_trailing_bytes(tmp_path, name):
    """Nothing but an `InputError` ever comes out of a damaged file."""
    path = tmp_path / name
    for at in range(0, len(WHOLE[name]), 97):
        damaged = bytearray(WHOLE[name])
        damaged[at] ^= 0x55
        path.write_bytes(damaged)
        with contextlib.suppress(InputError):
            read_whole(path)
    if name in ("a.npy", "a.idx"):
        path.write_bytes(WHOLE[name] + b"more")
        refused(path, "expected 3,200 bytes", "found more")


def test_declared_sizes_are_checked_before_allocating(tmp_path):
    """Forged lengths of terabytes are refused by arithmetic."""
    huge = struct.pack(">HBB3I", 0, 8, 3, 2**31, 2**10, 2**10)
    (tmp_path / "a.idx").write_bytes(huge + b"12")
    (tmp_path / "a.idx.gz").write_bytes(gzip.compress(huge + b"12"))
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (2**40, 3)})
    (tmp_path / "a.npy").write_bytes(header.getvalue())
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    for name in ("a.idx", "a.idx.gz", "a.npy"):
        refused(tmp_path / name, "expected", "bytes", "found room for")
    refused(tmp_path / "a.npz", "expected", "found room for", key="x")


def test_negative_shape(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (-2, -3)})
    (tmp_path / "a.npy").write_bytes(header.getvalue() + b"123456")
    refused(tmp_path / "a.npy", "damaged")


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was read",)


def test_pickles_are_never_read(tmp_path):
    objects = np.array([Bomb(), None], dtype=object)
    np.save(tmp_path / "a.npy", objects)
    np.savez(tmp_path / "a.npz", x=objects)
    (tmp_path / "b.npy").write_bytes(pickle.dumps(Bomb()))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Bomb()))
    refused(tmp_path / "a.npy", "pickled")
    refused(tmp_path / "b.npy", "pickled")
    refused(tmp_path / "a.npz", "pickled", key="x")
    with pytest.raises(InputError, match=r"b\.npz: expected numbers, found pickled"):
        array_names(tmp_path / "b.npz")


def test_what_is_not_numbers_or_not_there(tmp_path):
    np.save(tmp_path / "text.npy", np.array(["a", "b"]))
    np.save(tmp_path / "complex.npy", np.array([1j]))
    (tmp_path / "a.xyz").write_text("?")
    (tmp_path / "a.idx").write_bytes(b"\x89PNG then some")
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "none.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    refused(tmp_path / "text.npy", "array of numbers", "<U1")
    refused(tmp_path / "complex.npy", "array of numbers", "complex128")
    refused(tmp_path / "a.xyz", "unknown format", ".npy")
    refused(tmp_path / "a.idx", "expected an IDX file", "89 50 4e 47")
    refused(tmp_path / "empty", "folder of images", "none")
    refused(tmp_path / "gone.npy", "no such file")
    np.savez(tmp_path / "two.npz", a=GREY, b=GREY)
    refused(tmp_path / "two.npz", "arrays a, b", "no key")
    refused(tmp_path / "two.npz", "arrays a, b", "'c'", key="c")
    np.save(tmp_path / "one.npy", GREY)
    refused(tmp_path / "one.npy", "a single array", "'c'", key="c")
    with pytest.raises(InputError, match="found no array in it"):
        array_names(tmp_path / "none.npz")

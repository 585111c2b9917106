"""Every format gives the array that another library reads; columns are picked by name; what is lost is refused."""

import gzip
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import likely
from likely.data import Preparation, Reading, fingerprint, load
from likely.data.formats import formats, gathered, hdf5, pictures
from likely.data.formats.columns import key_of, names_of
from likely.data.readers import read_array
from likely.errors import InputError

TABLE = np.array([[1.5, 2, 0], [3.25, -4, 1], [0.125, 1e6, 0]])
NAMES = ("height", "weight, kg", "sex")


def refused(data, *words, **how):
    with pytest.raises(InputError) as caught:
        load(str(data), "train", reading=Reading(**how))
    said = str(caught.value)
    assert "\n" not in said
    assert all(word in said for word in words), said


def text(mark, names=NAMES):
    lines = [mark.join(f'"{name}"' for name in names)]
    lines += [mark.join(repr(float(value)) for value in row) for row in TABLE]
    return "\n".join(lines) + "\n"


# Tables of text


@pytest.mark.parametrize(("ending", "mark"), [(".csv", ","), (".csv", ";"), (".tsv", "\t"), (".csv", "\t")])
def test_what_separates_columns_is_seen(tmp_path, ending, mark):
    path = tmp_path / f"a{ending}"
    path.write_text(text(mark))
    found = load(str(path), "train")
    assert np.array_equal(found.x, TABLE)
    assert found.names == NAMES


def test_a_comma_is_a_point_between_semicolons(tmp_path):
    (tmp_path / "a.csv").write_text("höhe;gewicht\n1,5;2\n-3,25;4.5\n")
    assert load(f"{tmp_path}/a.csv", "train").x.tolist() == [[1.5, 2], [-3.25, 4.5]]


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_packed_tables(tmp_path, ending):
    content = text(",").encode()
    if ending == ".gz":
        packed = gzip.compress(content)
    else:
        packed = pytest.importorskip("pyarrow", reason="pip install 'likely[data]'").compress(
            content, "zstd", asbytes=True
        )
    path = tmp_path / f"a.csv{ending}"
    path.write_bytes(packed)
    assert np.array_equal(load(str(path), "train").x, TABLE)
    assert np.array_equal(load(f"{path}:sex", "train").x, TABLE[:, 2:])
    path.write_bytes(packed[:-12])
    refused(path, "truncated or damaged")


@pytest.mark.parametrize(
    ("key", "how", "places"),
    [
        (":height", {}, [0]),
        (":weight, kg", {}, [1]),
        (':sex,"weight, kg"', {}, [2, 1]),
        ("", {"columns": ("sex", "height")}, [2, 0]),
        ("", {"drop": ("height",)}, [1, 2]),
        ("", {"columns": ("sex", "height"), "drop": ("sex",)}, [0]),
    ],
)
def test_columns_are_picked_by_name(tmp_path, key, how, places):
    (tmp_path / "a.csv").write_text(text(","))
    found = load(f"{tmp_path}/a.csv{key}", "train", reading=Reading(**how))
    assert np.array_equal(found.x, TABLE[:, places])
    assert found.names == tuple(NAMES[place] for place in places)
    again = load(found.source, "test")
    assert fingerprint(again) == fingerprint(found)
    assert f"{len(places)} of its columns" in found.note


def test_keys_of_columns_are_undone():
    for names in (["a"], ["a", "b"], ["weight, kg", 'in "quotes"', "c"]):
        assert names_of(key_of(names)) == names


def test_columns_that_are_left_out_may_hold_anything(tmp_path):
    (tmp_path / "a.csv").write_text("Name,Age,Fare\nAlice,3,1.5\nBob,,2.5\n")
    assert load(f"{tmp_path}/a.csv:Fare", "train").x.tolist() == [[1.5], [2.5]]
    refused(tmp_path / "a.csv", "row 2, column 1", '"Name"', '"Alice"', "--drop")
    refused(f"{tmp_path}/a.csv:Age", "row 3, column 2", "a hole")
    refused(f"{tmp_path}/a.csv:Ages", 'did you mean "Age"?')
    refused(tmp_path / "a.csv", "no column 'Agee'", drop=("Agee",))
    (tmp_path / "b.csv").write_text("1,2\n3,4\n")
    refused(f"{tmp_path}/b.csv:x", "has no header")
    (tmp_path / "c.csv").write_text("a,a\n1,2\n")
    refused(f"{tmp_path}/c.csv:a", "2 columns 'a'")


def test_columns_of_data_without_names_cannot_be_left_out(tmp_path):
    np.save(tmp_path / "a.npy", TABLE)
    refused(tmp_path / "a.npy", "no names", "--drop", drop=("x",))


def test_a_table_that_is_large_goes_through_a_temporary_file(tmp_path, monkeypatch):
    x = np.random.default_rng(0).standard_normal((500, 3))
    np.savetxt(tmp_path / "a.csv", x, "%.17g", ",")
    monkeypatch.setattr(gathered, "LARGE", 1000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "room"))
    (tmp_path / "room").mkdir()
    monkeypatch.setattr("likely.data.formats.delimited.BLOCK", 100)
    found = load(f"{tmp_path}/a.csv", "train")
    assert not found.in_memory
    assert len(list((tmp_path / "room").iterdir())) == 1
    assert np.array_equal(found.x, x)
    assert np.array_equal(found[torch.tensor([499, 0, 7])].x, x[[499, 0, 7]])
    del found
    assert not list((tmp_path / "room").iterdir())


# Tables of Parquet and Feather


@pytest.fixture
def arrow():
    return pytest.importorskip("pyarrow", reason="pip install 'likely[data]'")


def write_table(arrow, path, **columns):
    table = arrow.table(columns)
    if path.suffix == ".parquet":
        from pyarrow import parquet

        parquet.write_table(table, path, row_group_size=2)
    else:
        from pyarrow import feather

        feather.write_feather(table, path)


@pytest.mark.parametrize("name", ["a.parquet", "a.feather"])
def test_tables_of_arrow(tmp_path, arrow, name):
    write_table(arrow, tmp_path / name, a=[1, 2, 3], b=[0.5, 1.5, -2.5], c=["x", "y", "z"], d=[True, False, True])
    found = load(f"{tmp_path / name}:b,a,d", "train")
    assert found.x.tolist() == [[0.5, 1, 1], [1.5, 2, 0], [-2.5, 3, 1]]
    assert found.names == ("b", "a", "d")
    assert load(f"{tmp_path / name}:a,d", "train").x.dtype == torch.uint8
    refused(tmp_path / name, 'column "c"', "expected numbers, found string", "--drop")
    refused(f"{tmp_path / name}:e", "no column 'e'")


@pytest.mark.parametrize("name", ["a.parquet", "a.feather"])
def test_holes_of_arrow_are_named(tmp_path, arrow, name):
    write_table(arrow, tmp_path / name, a=[1, 2, 3, None], b=[0.5, 1.5, -2.5, 1.0])
    refused(tmp_path / name, 'column "a"', "missing value in row 3")
    assert len(load(str(tmp_path / name), "train", reading=Reading(drop=("a",)))) == 4


@pytest.mark.parametrize("name", ["a.parquet", "a.feather"])
def test_damaged_tables_of_arrow(tmp_path, arrow, name):
    write_table(arrow, tmp_path / name, a=list(range(100)))
    whole = (tmp_path / name).read_bytes()
    for content in (b"", whole[:50], whole[:-9], b"x" * 100):
        (tmp_path / name).write_bytes(content)
        refused(tmp_path / name, "truncated or damaged")


def test_parquet_beyond_memory_is_read_as_needed(tmp_path, arrow, monkeypatch):
    x = np.random.default_rng(0).standard_normal(5000)
    write_table(arrow, tmp_path / "a.parquet", a=x, b=2 * x)
    monkeypatch.setattr(gathered, "LARGE", 1000)
    found = load(f"{tmp_path}/a.parquet", "train")
    assert not found.in_memory
    assert np.array_equal(found[4000:4010].x, np.stack([x, 2 * x], 1)[4000:4010])


def test_a_missing_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "h5py", None)
    for name, package in [
        ("a.parquet", "pyarrow"),
        ("a.feather", "pyarrow"),
        ("a.csv.zst", "pyarrow"),
        ("a.h5", "h5py"),
    ]:
        (tmp_path / name).write_bytes(b"anything")
        refused(tmp_path / name, f"{package} is needed: pip install 'likely[data]'")


# HDF5 and .mat


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py", reason="pip install 'likely[data]'")
    x = np.arange(24, dtype=">i4").reshape(4, 3, 2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("train/x", data=x, compression="gzip", chunks=(2, 3, 2))
        file["test"] = x[:1]
        file["words"] = ["a", "b"]
        file["elsewhere"] = h5py.ExternalLink("other.h5", "/x")
    assert np.array_equal(load(f"{tmp_path}/a.h5:train/x", "test").x, x)
    assert np.array_equal(load(f"{tmp_path}/a.h5", "train").x, x)
    refused(f"{tmp_path}/a.h5:elsewhere", "no array 'elsewhere'", "test, train/x")
    whole = (tmp_path / "a.h5").read_bytes()
    (tmp_path / "a.h5").write_bytes(whole[:1000])
    refused(tmp_path / "a.h5", "truncated or damaged")


def test_hdf5_beyond_memory_and_forged(tmp_path, monkeypatch):
    h5py = pytest.importorskip("h5py", reason="pip install 'likely[data]'")
    x = np.random.default_rng(0).integers(0, 99, (1000, 7))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"] = x
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("x", (10**12, 5), "f8", chunks=(10, 5))
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file.create_dataset("x", data=x, external=[(str(tmp_path / "d.raw"), 0, x.nbytes)])
    refused(tmp_path / "b.h5", "40,000,000,000,000 bytes are declared, and 0 are stored")
    refused(tmp_path / "c.h5", "other files")
    monkeypatch.setattr(hdf5, "LARGE", 1000)
    monkeypatch.setattr(gathered, "LARGE", 1000)
    found = load(f"{tmp_path}/a.h5", "train")
    assert not found.in_memory
    assert np.array_equal(found.x, x)


@pytest.mark.parametrize("version", ["5", "7.3"])
def test_mat(tmp_path, version):
    scipy = pytest.importorskip("scipy.io", reason="pip install 'likely[data]'")
    h5py = pytest.importorskip("h5py", reason="pip install 'likely[data]'")
    x, pictures_last = np.arange(12.0).reshape(4, 3), np.arange(2 * 2 * 3 * 5, dtype=np.uint8).reshape(2, 2, 3, 5)
    path = tmp_path / "a.mat"
    if version == "5":
        scipy.savemat(path, {"x": x, "X_train": pictures_last, "said": "words"})
    else:  # as MATLAB writes it: HDF5 behind a header of 512 bytes, axes in reverse
        with h5py.File(path, "w", userblock_size=512) as file:
            file["x"], file["X_train"] = x.T, pictures_last.T
        with open(path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file")
    assert np.array_equal(load(f"{path}:x", "train").x, x)
    found = load(f"{path}:X_train", "train")
    assert np.array_equal(found.x, np.stack([pictures_last[..., k] for k in range(5)]))
    assert "last axis" in found.note
    path.write_bytes(path.read_bytes()[:90])
    refused(path, "a.mat")


# IDX as it is unpacked


def test_a_folder_of_idx_files(tmp_path):
    def idx(array):
        return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()

    x, y = np.arange(40, dtype=np.uint8).reshape(10, 2, 2), np.arange(10, dtype=np.uint8)
    for split, n in [("train", 10), ("t10k", 4)]:
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(idx(x[:n]))
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(b"damaged, and not looked at")
        (tmp_path / f"{split}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(y[:n])))
    train, test = load(str(tmp_path), "train", context=f"{tmp_path}:labels"), load(str(tmp_path), "test")
    assert np.array_equal(train.x, x)
    assert np.array_equal(train.context, y)
    assert np.array_equal(test.x, x[:4])
    assert "train split" in train.note
    assert np.array_equal(load(f"{tmp_path}:test", "train").x, x[:4])


# Pictures

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)
COLOUR = np.stack([GREY, GREY + 60, GREY + 120], -1).astype(np.uint8)


def test_classes_are_subfolders(tmp_path):
    for k, name in enumerate(["dogs", "cats"]):
        (tmp_path / name).mkdir()
        for i in range(3 + k):
            Image.fromarray(GREY + np.uint8(10 * k + i)).save(tmp_path / name / f"{i}.png")
    found = load(str(tmp_path), "train", context=f"{tmp_path}:labels")
    assert found.context.tolist() == [0] * 4 + [1] * 3
    assert np.array_equal(found.x[:, 0, 0], [10, 11, 12, 13, 0, 1, 2])
    assert len(load(f"{tmp_path}:cats", "train")) == 4
    again = load(found.source, "train", context=found.context_source)
    assert fingerprint(again) == fingerprint(found)


def test_classes_in_splits(tmp_path):
    for split, n in [("train", 4), ("test", 2)]:
        for name in ("a", "b"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(n):
                Image.fromarray(GREY + np.uint8(i)).save(tmp_path / split / name / f"{i}.png")
    train = load(str(tmp_path), "train", context=f"{tmp_path}:labels")
    assert train.context.tolist() == [0] * 4 + [1] * 4
    assert len(load(str(tmp_path), "test")) == 4


def test_a_single_picture_is_a_row(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    assert np.array_equal(load(f"{tmp_path}/a.png", "test").x, COLOUR[None])
    assert np.array_equal(read_array(tmp_path / "a.png"), COLOUR[None])


def test_modes_without_loss_become_one_and_it_is_said(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(COLOUR).save(tmp_path / "b.png")
    Image.fromarray(COLOUR).quantize(64).save(tmp_path / "c.png")
    found = load(str(tmp_path), "train")
    palette = np.array(Image.open(tmp_path / "c.png").convert("RGB"))
    assert np.array_equal(found.x, [np.stack([GREY] * 3, -1), COLOUR, palette])
    assert "1 of mode L became RGB, 1 of mode P became RGB" in found.note


def test_one_bit_is_two_levels(tmp_path):
    bits = (GREY % 2).astype(bool)
    Image.fromarray(bits).save(tmp_path / "a.png")
    found = load(str(tmp_path), "train")
    assert np.array_equal(found.x, bits[None])
    assert Preparation.infer(found).levels == 2


def test_sixteen_bits_are_kept(tmp_path):
    deep = GREY.astype(np.uint16) * 1000
    Image.fromarray(deep).save(tmp_path / "a.png")
    assert np.array_equal(load(str(tmp_path), "train").x, deep[None].astype(int))
    assert read_array(tmp_path).dtype == np.uint16
    Image.fromarray(GREY).save(tmp_path / "b.png")
    refused(tmp_path, "a.png", "mode I;16", "half of its bits", "--convert L")
    found = load(str(tmp_path), "train", reading=Reading(convert="L"))
    assert np.array_equal(found.x, [deep >> 8, GREY])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "CMYK"])
def test_what_would_lose_something_is_converted_if_that_is_said(tmp_path, mode):
    picture = Image.fromarray(COLOUR).convert(mode)
    picture.save(tmp_path / "a.tif")
    target = "L" if mode == "LA" else "RGB"
    refused(tmp_path, f"mode {mode}", "lose", f"--convert {target}")
    found = load(str(tmp_path), "train", reading=Reading(convert=target))
    assert np.array_equal(found.x, np.array(picture.convert(target))[None])


def test_sizes_are_brought_into_one(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.png")
    Image.fromarray(np.full((40, 20), 7, np.uint8)).save(tmp_path / "b.png")
    assert load(str(tmp_path), "train").shape == (2, None, None)
    cropped = load(str(tmp_path), "train", reading=Reading(crop=(4, 4)))
    assert np.array_equal(cropped.x, [GREY[1:5, 2:6], np.full((4, 4), 7)])
    resized = load(str(tmp_path), "train", reading=Reading(resize=(3, 4)))
    assert resized.shape == (2, 3, 4)
    assert (resized.x[1] == 7).all()
    assert "scaled to 3×4" in resized.note
    refused(tmp_path, "a.png", "at least 9×4", "--resize", crop=(4, 9))


def png(width, height, depth=8, kind=0):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + b"\0\0\0\0"


def test_a_large_picture_is_refused_by_its_header(tmp_path):
    (tmp_path / "a.png").write_bytes(png(13_040, 13_040))
    refused(tmp_path, "a picture of 13040×13040", "89 million pixels")
    refused(tmp_path / "a.png", "89 million pixels")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "a.tif")
    refused(tmp_path / "a.tif", "more than 170 million pixels")


def test_several_pictures_in_one_file_are_refused(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "a.tif", save_all=True, append_images=[Image.fromarray(GREY)])
    refused(tmp_path, "expected one picture, found 2")


def test_a_folder_of_many_pictures_is_read_as_needed(tmp_path, monkeypatch):
    """Of 40 files a fit of two steps decodes those of its batches, of the range and of the end, and no others."""
    for i in range(40):
        Image.fromarray(np.full((4, 4), 200 + i, np.uint8)).save(tmp_path / f"{i:02}.png")
    monkeypatch.setattr(pictures, "FEW", 10)
    found = load(str(tmp_path), "train")
    assert not found.in_memory
    read = []
    decode = pictures.picture.pixels
    monkeypatch.setattr(pictures.picture, "pixels", lambda file, *how: read.append(file) or decode(file, *how))
    prints = fingerprint(found)
    assert not read
    assert found[torch.tensor([39, 3])].x[:, 0, 0].tolist() == [239, 203]
    assert found[3:4].x[0, 0, 0] == 203
    assert len(read) == 2  # what was read is kept
    Image.fromarray(np.full((4, 4), 7, np.uint8)).save(tmp_path / "05.png")
    assert fingerprint(load(str(tmp_path), "train")) != prints


# Kinds of columns


def test_whole_beside_real_columns_are_refused_and_taken_as_measurements_if_that_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("rooms,area\n3,71.5\n2,40.25\n")
    data = load(f"{tmp_path}/a.csv", "train")
    with pytest.raises(InputError, match=r'whole numbers \("rooms"\) beside columns of real values \("area"\)'):
        Preparation.infer(data)
    assert Preparation.infer(data, real=True).decimals == (0, 2)
    assert Preparation.infer(data, real=True).names == ("rooms", "area")


def test_columns_with_names_have_alphabets_of_their_own(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,c\n0,5,0\n1,2,0\n2,0,0\n")
    planned = likely.plan(likely.MADE, load(f"{tmp_path}/a.csv", "train"), hidden=(8,))
    assert planned.event.levels == (3, 6, 2)
    x = planned.model.sample(200)
    assert [int(column.max()) < levels for column, levels in zip(x.T, (3, 6, 2), strict=True)] == [True] * 3
    np.save(tmp_path / "b.npy", np.array([[0, 5], [1, 2]]))
    assert Preparation.infer(load(f"{tmp_path}/b.npy", "train")).levels == 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_decimals_are_those_of_the_data(dtype):
    x = torch.tensor([[0.1, 3.0, 1 / 3, -2.25], [0.7, 5.0, 2.0, 4.5]], dtype=dtype)
    assert Preparation.infer(likely.Rows(x), real=True).decimals == (1, 0, None, 2)


def test_a_preparation_is_written_and_read(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n0.5,5.25\n1.5,2.25\n")
    preparation = Preparation.infer(load(f"{tmp_path}/a.csv", "train"))
    assert Preparation.from_json(preparation.to_json()) == preparation
    plain = Preparation.infer(torch.tensor([[0, 1]]))
    assert set(plain.to_json()) == {"layout", "levels", "binarize", "peak"}


def test_nothing_is_imported_that_a_file_does_not_need(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n")
    np.save(tmp_path / "a.npy", TABLE)
    heavy = "pandas", "pyarrow", "h5py", "scipy", "PIL"
    code = (
        "import sys; from likely.data import load; [load(path, 'train') for path in sys.argv[1:]]; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, tmp_path / "a.csv", tmp_path / "a.npy", "digits"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_every_format_says_its_endings():
    endings = [ending for one in formats() for ending in one.endings]
    assert len(endings) == len(set(endings)) >= 20

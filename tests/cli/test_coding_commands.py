"""Lossless compression as it is typed: every byte comes back, and what goes wrong is one line that breaks nothing."""

import errno
import hashlib
import io
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from test_cli import likely

from likely.coding import codec
from likely.coding.chunks import ChunkCoder
from likely.coding.frozen import FROZEN
from likely.coding.records import MAGIC
from likely.data import load
from likely.runs.store import CONFIG

COMMAND = [sys.executable, "-m", "likely.cli"]
RUNS = {
    "pixels": ["independent-pixels", "digits"],
    "other": ["symbol-histogram", "digits"],
    "by-class": ["independent-pixels", "digits", "--context", "digits:labels"],
    "half": ["independent-pixels", "digits", "--binarize", "0.5"],
    "coins": ["independent-pixels", "digits", "--binarize", "stochastic"],
    "network": ["gated-pixelcnn", "digits", "--budget", "3 steps", "--channels", "4", "--layers", "2"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of a few tiny models, one without its frozen model, and data."""
    folder = tmp_path_factory.mktemp("runs")
    for name, arguments in RUNS.items():
        assert likely("fit", *arguments, "--out", folder / name) == 0
    shutil.copytree(folder / "pixels", folder / "unfrozen", ignore=shutil.ignore_patterns(FROZEN))
    np.save(folder / "digits.npy", digits())
    np.save(folder / "labels.npy", load("digits", "test", context="digits:labels").context.numpy())
    return folder


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def digits():
    return load("digits", "test").x.numpy()


def identity(run):
    return hashlib.sha256((run / FROZEN).read_bytes()).hexdigest()


def compressed(runs, *flags, run="pixels", data="digits:test", out="file.lk"):
    assert likely("compress", runs / run, data, "-o", out, *flags) == 0
    return Path(out).read_bytes()


def restored(runs, *flags, run="pixels"):
    assert likely("decompress", "file.lk", "--model", runs / run, "-o", "back.npy", "--force", *flags) == 0
    return np.load("back.npy")


def same(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected, strict=True)


def printed(capsys):
    return json.loads(capsys.readouterr().out)


# What a user does.


def test_compress_prints_size_rate_and_ratio(runs, capsys):
    size = len(compressed(runs))
    apart = len((runs / "pixels" / FROZEN).read_bytes())
    assert capsys.readouterr().out == (
        f"digits:test, the last 297 of 1,797: 297 items in {size:,} bytes (model apart: {apart:,}), "
        f"{8 * size / 297 / 64:.4f} bits/dim, {297 * 64 / size:.2f} times smaller than the array\n"
    )


def test_compress_says_where_the_model_is_no_help(runs, capsys):
    np.save("black.npy", np.zeros((40, 8, 8), np.uint8))
    np.save("mixed.npy", np.concatenate([np.zeros((40, 8, 8), np.uint8), digits()[:40]]))
    for data, chunks in (("black.npy", "1 of 1"), ("mixed.npy", "1 of 2")):
        compressed(runs, "--chunk-items", 40, "--force", data=data)
        assert capsys.readouterr().out.endswith(f"array; {chunks} chunks are smaller without the model\n")


def test_compress_reports_the_same_as_json(runs, capsys):
    plain = compressed(runs, "--json")
    report = printed(capsys)
    assert report == {
        "out": "file.lk",
        "items": 297,
        "dims": 64,
        "raw_bytes": 297 * 64,
        "file_bytes": len(plain),
        "model_bytes": 0,
        "frozen_bytes": len((runs / "pixels" / FROZEN).read_bytes()),
        "chunks": 1,
        "stored_chunks": 0,
        "outside": 0,
        "bits_per_dim": 8 * len(plain) / 297 / 64,
        "ratio": 297 * 64 / len(plain),
    }
    whole = compressed(runs, "--json", "--with-model", out="whole.lk")
    inside = len(whole) - len(plain)
    ratio = 297 * 64 / len(whole)
    assert printed(capsys) == report | {
        "out": "whole.lk",
        "file_bytes": len(whole),
        "model_bytes": inside,
        "ratio": ratio,
    }
    assert 0 < inside < len((runs / "pixels" / FROZEN).read_bytes()) + 32


@pytest.mark.parametrize("run", ["pixels", "network"])
def test_digits_come_back(runs, capsys, run):
    compressed(runs, run=run)
    same(restored(runs, run=run), digits())
    assert capsys.readouterr().out.endswith("297 items (297, 8, 8) uint8 in back.npy\n")
    restored(runs, "--json", run=run)
    assert printed(capsys) == {"out": "back.npy", "shape": [297, 8, 8], "dtype": "uint8"}


def npy(array, version=(1, 0)):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def terse(array):
    """As a program may write that aligns nothing."""
    header = repr({"descr": array.dtype.str, "shape": array.shape, "fortran_order": False}).encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + array.tobytes()


FILES = {
    "uint8": npy,
    "bool": lambda x: npy(x > 7),
    "int64": lambda x: npy(x.astype(np.int64)),
    "uint64": lambda x: npy(x.astype(np.uint64)),
    "float16": lambda x: npy(x.astype(np.float16)),
    "float32 with −0.0": lambda x: npy(np.where(x == 0, -0.0, x).astype(np.float32)),
    "big-endian uint16": lambda x: npy(x.astype(">u2")),
    "Fortran order": lambda x: npy(np.asfortranarray(x)),
    "big-endian float64 in Fortran order": lambda x: npy(np.asfortranarray(x.astype(">f8"))),
    "version 2": lambda x: npy(x, (2, 0)),
    "version 3 in Fortran order": lambda x: npy(np.asfortranarray(x), (3, 0)),
    "a header by another program": terse,
    "one item": lambda x: npy(x[:1]),
    "one item in Fortran order": lambda x: npy(np.asfortranarray(x[:1])),
    "no items": lambda x: npy(x[:0]),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("flags", [[], ["--chunk-items", 17]], ids=["one chunk", "chunks"])
def test_an_npy_file_comes_back_byte_for_byte(runs, kind, flags):
    content = FILES[kind](digits()[:40])
    Path("data.npy").write_bytes(content)
    compressed(runs, *flags, data="data.npy")
    restored(runs)
    assert Path("back.npy").read_bytes() == content


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, bool, np.uint16, np.uint64])
def test_an_array_of_an_npz_file_comes_back_in_its_dtype(runs, dtype):
    array = (digits()[:9] > 7).astype(dtype)
    np.savez("data.npz", x=array)
    compressed(runs, data="data.npz:x")
    same(restored(runs), array)


def test_the_ending_says_the_format(runs):
    compressed(runs, "--chunk-items", 100)
    model = ["--model", runs / "pixels"]
    assert likely("decompress", "file.lk", *model, "-o", "back.npz") == 0
    same(np.load("back.npz")["data"], digits())
    assert likely("decompress", "file.lk", *model, "-o", "pictures") == 0
    files = sorted(Path("pictures").iterdir())
    same(np.stack([np.array(Image.open(file)) for file in files]), digits())
    for ending in ("png", "bmp", "tif", "pgm"):
        assert likely("decompress", "file.lk", *model, "-o", f"one.{ending}", "--items", "7:8") == 0
        same(np.array(Image.open(f"one.{ending}")), digits()[7])
    assert likely("decompress", "file.lk", *model, "-o", "one.jpg", "--items", "7:8") == 2


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.npz", "x.parquet"])
def test_a_table_comes_back_with_its_header(runs, name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow", reason="pip install 'likely[data]'")
    Path("t.csv").write_text("a,b\n" + "0,1\n2,3\n" * 20)
    assert likely("fit", "made", "t.csv", "--hidden", "4", "--budget", "2 steps", "--out", "made") == 0
    assert likely("compress", "made", "t.csv", "-o", "t.lk") == 0
    assert likely("decompress", "t.lk", "--model", "made", "-o", name) == 0
    if name == "x.csv":
        assert Path(name).read_text() == Path("t.csv").read_text()
    if name == "x.tsv":
        assert Path(name).read_text() == Path("t.csv").read_text().replace(",", "\t")
    same(load(name, "train").x.numpy(), load("t.csv", "train").x.numpy())


@pytest.mark.parametrize("kind", ["beyond", "negative", "negative-bytes", "halves", "nan"])
def test_what_is_no_symbol_is_stored_apart_and_it_is_said(runs, workplace, capsys, kind):
    shutil.copy(workplace / f"{kind}.npy", "data.npy")
    compressed(runs, data="data.npy")
    said = capsys.readouterr().out
    values = np.load("data.npy")
    outside = int((~((values >= 0) & (values <= 16) & (values == np.rint(values)))).sum())
    assert f"; {outside:,} values outside the model's alphabet are stored apart" in said
    restored(runs)
    assert Path("back.npy").read_bytes() == Path("data.npy").read_bytes()


def test_a_folder_in_and_a_folder_out(runs, capsys):
    Path("in").mkdir()
    np.save("in/a.npy", digits()[:5])
    np.save("in/b.npy", np.asfortranarray(digits()[5:30].astype(">u2")))
    Image.fromarray(digits()[7]).save("in/c.png")
    Image.fromarray(digits()[7]).save("in/d.jpg", quality=100)
    assert likely("compress", runs / "pixels", "in", "-o", "packed/", "--json") == 0
    report = printed(capsys)
    assert [file["out"] for file in report["files"]] == [
        f"packed/{name}.lk" for name in ("a.npy", "b.npy", "c.png", "d.jpg")
    ]
    assert report["files"][1]["items"] == 25
    assert likely("decompress", "packed", "--model", runs / "pixels", "-o", "out/") == 0
    assert sorted(os.listdir("out")) == ["a.npy", "b.npy", "c.png", "d.jpg.png"]
    for name in ("a.npy", "b.npy"):
        assert Path("out", name).read_bytes() == Path("in", name).read_bytes()
    same(np.array(Image.open("out/c.png")), digits()[7])
    same(np.array(Image.open("out/d.jpg.png")), np.array(Image.open("in/d.jpg")))
    assert likely("compress", runs / "pixels", "in/a.npy", "in/b.npy", "-o", "packed/") == 2
    assert "packed/a.npy.lk exists" in capsys.readouterr().err
    assert likely("compress", runs / "pixels", "in/a.npy", "in/b.npy", "-o", "two.lk") == 2
    assert "several files go into a folder, as FOLDER/, found two.lk" in capsys.readouterr().err


@pytest.mark.parametrize("way", ["a file", "a pipe"])
def test_damage_is_found_before_anything_is_decoded(runs, monkeypatch, capsys, way):
    """Also where it is in the last chunk, or in the index: it takes no longer than reading the file."""
    file = bytearray(compressed(runs, "--chunk-items", 20))
    monkeypatch.setattr(ChunkCoder, "decode", lambda *_: pytest.fail("it was decoded"))
    for place in (-300, -20):
        damaged = bytearray(file)
        damaged[place] ^= 1
        Path("file.lk").write_bytes(damaged)
        piped(monkeypatch, bytes(damaged))
        source = "file.lk" if way == "a file" else "-"
        capsys.readouterr()
        assert likely("decompress", source, "--model", runs / "pixels", "-o", "new.npy") == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert not Path("new.npy").exists()


def test_some_items(runs):
    compressed(runs, "--chunk-items", 20)
    for first, stop in ((0, 297), (0, 1), (19, 21), (20, 40), (100, 200), (296, 297), (50, 50)):
        same(restored(runs, "--items", f"{first}:{stop}"), digits()[first:stop])


@pytest.mark.parametrize("kind", FILES)
def test_some_items_of_any_file(runs, kind):
    Path("data.npy").write_bytes(FILES[kind](digits()[:40]))
    expected = np.load("data.npy")
    compressed(runs, "--chunk-items", 17, data="data.npy")
    for first, stop in ((0, len(expected)), (min(15, len(expected)), min(20, len(expected)))):
        found = restored(runs, "--items", f"{first}:{stop}")
        np.testing.assert_array_equal(found, expected[first:stop])
        assert found.dtype == expected.dtype


def test_some_items_need_only_the_chunks_that_hold_them(runs, capsys):
    damage(compressed(runs, "--chunk-items", 100), 1)
    same(restored(runs, "--items", "5:100"), digits()[5:100])
    same(restored(runs, "--items", "200:250"), digits()[200:250])
    capsys.readouterr()
    assert likely("decompress", "file.lk", "--model", runs / "pixels", "-o", "no.npy", "--items", "99:101") == 2
    assert capsys.readouterr().err.startswith("likely: file.lk: chunk 1 is damaged")
    assert not Path("no.npy").exists()


@pytest.mark.parametrize("run", ["pixels", "network"])
def test_a_file_with_its_model_needs_nothing_else(runs, capsys, run):
    apart, whole = compressed(runs, run=run, out="apart.lk"), compressed(runs, "--with-model", run=run)
    assert f"bytes (its model inside: {len(whole) - len(apart):,}), " in capsys.readouterr().out
    assert likely("decompress", "file.lk", "-o", "back.npy") == 0
    same(np.load("back.npy"), digits())


def test_a_frozen_file_serves_as_well_as_its_run(runs):
    assert compressed(runs, run=f"pixels/{FROZEN}") == compressed(runs, out="by-run.lk")
    same(restored(runs, run=f"pixels/{FROZEN}"), digits())


def test_pipes_give_back_every_byte(runs):
    """`cat x.npy | likely compress RUN - -o - | likely decompress - --model RUN -o - | cmp - x.npy`."""
    np.save("x.npy", np.asfortranarray(digits().astype(">u2")))
    like, run = shlex.join(COMMAND), shlex.quote(str(runs / "pixels"))
    script = (
        f"cat x.npy | {like} compress {run} - -o - | {like} decompress - --model {run} -o - --json | cmp - x.npy"
        ' && echo same "${PIPESTATUS[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.stdout == "same 0 0 0 0\n"
    words, report = sorted(done.stderr.splitlines(), key=lambda line: line.startswith("{"))
    assert words.startswith("standard input: 297 items in ")
    assert json.loads(report) == {"out": "-", "shape": [297, 8, 8], "dtype": "uint16"}


class Pipe(io.BytesIO):
    """Bytes that come once."""

    def seekable(self):
        return False

    def seek(self, *_):
        raise io.UnsupportedOperation("not seekable")


def piped(monkeypatch, content):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=Pipe(content)))


def test_standard_input_and_output_hold_nothing_but_data(runs, monkeypatch, capsysbinary):
    source = npy(digits())
    piped(monkeypatch, source)
    assert likely("compress", runs / "pixels", "-", "-o", "-", "--json") == 0
    file, report = capsysbinary.readouterr()
    assert file == compressed(runs, out="by-name.lk")
    assert json.loads(report)["file_bytes"] == len(file)
    capsysbinary.readouterr()
    for flags, expected in ([], digits()), (["--items", "100:200"], digits()[100:200]):
        piped(monkeypatch, file)
        assert likely("decompress", "-", "--model", runs / "pixels", "-o", "-", *flags) == 0
        found, words = capsysbinary.readouterr()
        assert found == npy(expected)
        assert words == f"{len(expected)} items {expected.shape} uint8 in -\n".encode()
    piped(monkeypatch, file)
    assert likely("inspect", "-", "--verify", "--model", runs / "pixels", "--json") == 0
    assert json.loads(capsysbinary.readouterr().out)["verified"]


def test_inspect_shows_header_chunks_sizes_and_rate(runs, capsys):
    Path("x.npy").write_bytes(npy(np.asfortranarray(digits())))
    file = compressed(runs, "--chunk-items", 100, "--batch-size", 7, data="x.npy")
    capsys.readouterr()
    assert likely("inspect", "file.lk", "--json") == 0
    report = printed(capsys)
    chunks = report.pop("chunks")
    assert [list(chunk.values())[:3] for chunk in chunks] == [[0, 100, "model"], [1, 100, "model"], [2, 97, "model"]]
    payload = sum(chunk["bytes"] for chunk in chunks)
    assert payload == len(file) - int.from_bytes(file[12:16], "little") - 3 * 48 - 40
    assert report == {
        "model": identity(runs / "pixels"),
        "model_inside": False,
        "dtype": "|u1",
        "shape": [297, 8, 8],
        "items_per_chunk": 100,
        "batch": 7,
        "meta": {"npy": npy(np.asfortranarray(digits()))[: -297 * 64].decode("latin-1")},
        "file_bytes": len(file),
        "model_bytes": 0,
        "bits_per_dim": 8 * len(file) / 297 / 64,
        "verified": False,
    }
    assert likely("inspect", "file.lk") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"model            {identity(runs / 'pixels')}"
    assert lines[7] == f"file bytes       {len(file)}"
    assert lines[11].split() == ["chunk", "items", "method", "bytes"]
    assert [line.split() for line in lines[12:]] == [[str(value) for value in chunk.values()] for chunk in chunks]


def test_inspect_verifies_by_decoding(runs, capsys):
    compressed(runs, "--with-model", "--chunk-items", 100)
    capsys.readouterr()
    assert likely("inspect", "file.lk", "--verify", "--json") == 0
    report = printed(capsys)
    assert (report["verified"], report["model_inside"]) == (True, True)


@pytest.mark.parametrize("data", ["digits:test", "digits.npy"])
def test_a_context_is_coded_beside_the_data(runs, capsys, data):
    path = data if data == "digits:test" else runs / data
    context = "digits:labels" if data == "digits:test" else runs / "labels.npy"
    compressed(runs, "--context", context, run="by-class", data=path)
    same(restored(runs, run="by-class"), digits())
    capsys.readouterr()
    assert likely("inspect", "file.lk", "--json") == 0
    assert printed(capsys)["meta"] == {"context": "int64"}


def test_side_information_stays_outside(runs, capsys):
    flags = ["--context", runs / "labels.npy"]
    inside = compressed(runs, *flags, run="by-class", data=runs / "digits.npy", out="inside.lk")
    outside = compressed(runs, *flags, "--side-information", run="by-class", data=runs / "digits.npy")
    assert len(inside) - len(outside) > 297 * np.log2(10) / 8 - 20
    same(restored(runs, *flags, run="by-class"), digits())
    same(restored(runs, *flags, "--items", "7:9", run="by-class"), digits()[7:9])
    capsys.readouterr()
    assert likely("inspect", "file.lk", "--verify", "--model", runs / "by-class", *flags, "--json") == 0
    report = printed(capsys)
    assert (report["verified"], report["meta"]) == (True, {"side_information": True})


def test_named_labels_are_side_information_to_both_commands(runs):
    flags = ["--context", "digits:labels"]
    compressed(runs, *flags, "--side-information", run="by-class")
    same(restored(runs, *flags, run="by-class"), digits())


def test_side_information_may_be_of_any_split(runs):
    np.savez("data.npz", train_images=digits(), train_labels=np.load(runs / "labels.npy"))
    flags = ["--context", "data.npz:train_labels"]
    compressed(runs, *flags, "--side-information", run="by-class", data="data.npz:train_images")
    same(restored(runs, *flags, run="by-class"), digits())


def test_a_column_of_labels_is_side_information_to_both_commands(runs):
    np.savetxt("labels.csv", np.load(runs / "labels.npy"), "%d")
    flags = ["--context", "labels.csv"]
    compressed(runs, *flags, "--side-information", run="by-class", data=runs / "digits.npy")
    same(restored(runs, *flags, run="by-class"), digits())


def test_binarised_data_are_coded_as_the_fit_saw_them(runs):
    compressed(runs, "--prepared", run="half")
    same(restored(runs, run="half"), (digits() > 8).astype(np.uint8))


def test_random_binarisation_is_drawn_by_its_seed(runs):
    files = [compressed(runs, "--prepared", "--seed", seed, run="coins", out=f"{seed}.lk") for seed in (0, 5)]
    assert compressed(runs, "--prepared", "--seed", 5, run="coins") == files[1] != files[0]
    draws = torch.rand(297, 1, 8, 8, generator=torch.Generator().manual_seed(5))[:, 0].numpy()
    same(restored(runs, run="coins"), (draws < digits() / np.float32(16)).astype(np.uint8))


def test_the_number_of_workers_is_handed_on(runs, monkeypatch):
    asked = []
    alone = codec.spread

    def spread(task, coder, parts, workers):
        asked.append(workers)
        return alone(task, coder, parts, 1)

    monkeypatch.setattr(codec, "spread", spread)
    compressed(runs, "--workers", 3)
    restored(runs, "--workers", 2)
    assert asked == [3, 2]


# Damage.


def damage(file, chunk):
    """Write the file with one bit of a chunk's payload flipped."""
    starts = [position for position in range(len(file)) if file.startswith(b"CHNK", position)]
    changed = bytearray(file)
    changed[starts[chunk] + 40] ^= 4
    Path("file.lk").write_bytes(changed)


def test_recovery_names_what_is_lost_and_gives_the_rest(runs, capsys):
    damage(compressed(runs, "--chunk-items", 60), 2)
    Path("back.npy").write_bytes(b"before")
    flags = ["--model", runs / "pixels", "-o", "back.npy", "--force"]
    capsys.readouterr()
    assert likely("decompress", "file.lk", *flags) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("likely: file.lk: chunk 2 is damaged")
    assert Path("back.npy").read_bytes() == b"before"
    assert likely("decompress", "file.lk", *flags, "--recover", "--json") == 0
    out, err = capsys.readouterr()
    assert err == "likely: lost: items 120 to 179\n"
    assert json.loads(out) == {"out": "back.npy", "shape": [237, 8, 8], "dtype": "uint8", "lost": [[120, 180]]}
    same(np.load("back.npy"), np.delete(digits(), slice(120, 180), 0))


def test_recovery_of_a_cut_file(runs, capsys):
    file = compressed(runs, "--chunk-items", 60, "--with-model")
    Path("file.lk").write_bytes(file[: len(file) * 2 // 3])
    assert likely("decompress", "file.lk", "-o", "back.npy", "--recover", "--json") == 0
    found = np.load("back.npy")
    assert capsys.readouterr().err == f"likely: lost: items {len(found)} to 296\n"
    same(found, digits()[: len(found)])
    assert len(found) % 60 == 0


def test_recovery_of_a_whole_file_loses_nothing(runs, capsys):
    compressed(runs, "--chunk-items", 60)
    same(restored(runs, "--recover"), digits())
    assert capsys.readouterr().err == ""


def test_recovery_of_a_whole_file_gives_every_byte(runs):
    Path("x.npy").write_bytes(npy(np.asfortranarray(digits().astype(">u2"))))
    compressed(runs, data="x.npy")
    restored(runs, "--recover")
    assert Path("back.npy").read_bytes() == Path("x.npy").read_bytes()


# Freezing.


def test_a_run_without_a_frozen_model_is_frozen_as_its_error_says(runs, capsys):
    shutil.copytree(runs / "unfrozen", "run")
    assert likely("compress", "run", "digits:test", "-o", "file.lk") == 2
    assert capsys.readouterr().err.startswith(f"likely: run/{FROZEN} is missing; `likely freeze run DATA` makes it")
    assert likely("freeze", "run", "digits", "--json") == 0
    content = Path("run", FROZEN).read_bytes()
    assert content == (runs / "pixels" / FROZEN).read_bytes()
    assert printed(capsys) == {"out": f"run/{FROZEN}", "bytes": len(content), "id": identity(Path("run"))}
    assert likely("freeze", "run", "digits") == 2
    assert capsys.readouterr().err == (f"likely: run/{FROZEN} exists; choose another file, or --force to replace it\n")
    assert likely("freeze", "run", "digits", "--force") == 0
    assert capsys.readouterr().out == f"run/{FROZEN}: {len(content):,} bytes, {identity(Path('run'))}\n"
    assert likely("compress", "run", "digits:test", "-o", "file.lk") == 0
    same(restored(runs), digits())


@pytest.mark.parametrize("run", ["network", "by-class", "half"])
def test_runs_of_every_kind_are_frozen_again(runs, run):
    shutil.copytree(runs / run, "run")
    assert likely("freeze", "run", "digits", "--force") == 0
    flags = {"by-class": ["--context", "digits:labels"], "half": ["--prepared"]}.get(run, [])
    assert likely("compress", "run", "digits:test", "-o", "file.lk", *flags) == 0
    assert likely("decompress", "file.lk", "--model", "run", "-o", "back.npy") == 0
    same(np.load("back.npy"), (digits() > 8).astype(np.uint8) if run == "half" else digits())


# Bad input: the user's mistakes.


@pytest.fixture(scope="module")
def workplace(runs, tmp_path_factory):
    folder, previous = tmp_path_factory.mktemp("bad"), os.getcwd()
    os.chdir(folder)
    for name in ("good", "there"):
        good = compressed(runs, "--chunk-items", 100, out=f"{name}.lk")
    whole = compressed(runs, "--with-model", out="whole.lk")
    compressed(runs, "--context", "digits:labels", "--side-information", run="by-class", out="side.lk")
    compressed(runs, "--context", "digits:labels", run="by-class", out="inside.lk")
    np.save("there.npy", np.arange(3))
    middle, end = good.index(b"CHNK") + 40, len(good)
    damaged = {
        "newer": good[:8] + b"\x02" + good[9:],
        "header": good[:20] + bytes([good[20] ^ 1]) + good[21:],
        "payload": good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
        "index": good[:-50] + bytes([good[-50] ^ 1]) + good[-49:],
        "more": good + b"more",
        "model": whole[:300] + bytes([whole[300] ^ 1]) + whole[301:],
        "foreign": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "text": b"no file of this kind\n" * 9,
        "empty": b"",
    } | {f"cut-{length}": good[:length] for length in (10, 40, middle, end - 200, end - 20, end - 1)}
    for name, content in damaged.items():
        Path(f"{name}.lk").write_bytes(content)
    x = digits()
    arrays = {
        "shape": x[:, :4],
        "flat": x.reshape(-1, 64),
        "beyond": x + np.uint8(1),
        "negative": x.astype(np.int16) - 1,
        "negative-bytes": x.astype(np.int8) - 1,
        "halves": x / 2,
        "nan": np.where(x == 3, np.nan, x),
        "complex": x.astype(complex),
        "words": x.astype(str),
        "number": np.float64(3),
        "labels": np.arange(296) % 10,
        "wrong-labels": np.arange(297) % 11,
    }
    for name, array in arrays.items():
        np.save(f"{name}.npy", array)
    Path("cut.npy").write_bytes(npy(x)[:-1])
    Path("folder").mkdir()
    shutil.copytree(runs / "pixels", "damaged-run")
    with open(f"damaged-run/{FROZEN}", "r+b") as file:
        file.truncate(3000)
    os.chdir(previous)
    return folder


def read(file, *flags, model="pixels", out="new.npy"):
    return ["decompress", file, "--model", f"RUNS/{model}", "-o", out, *flags]


def write(data, *flags, run="pixels", out="new.lk"):
    return ["compress", f"RUNS/{run}", data, "-o", out, *flags]


BAD = [
    # which model
    (read("good.lk", model="other"), "written with the model ID:pixels…, found ID:other…"),
    (read("good.lk", "--force", model="other", out="there.npy"), "written with the model ID:pixels…, found ID:other…"),
    (read("whole.lk", model="network"), "written with the model ID:pixels…, found ID:network…"),
    (["inspect", "good.lk", "--verify", "--model", "RUNS/other"], "the model ID:pixels…, found ID:other…"),
    (
        ["decompress", "good.lk", "-o", "new.npy"],
        "does not hold its model ID:pixels…; give the run or its frozen.safetensors",
    ),
    (["inspect", "good.lk", "--verify"], "does not hold its model ID:pixels…; give the run or its frozen.safetensors"),
    (read("good.lk", model="nowhere"), "nowhere: no such run or frozen model"),
    (write("digits", run="nowhere"), "nowhere: no such run or frozen model"),
    (write("digits", run="unfrozen"), f"unfrozen/{FROZEN} is missing; `likely freeze "),
    (["compress", "damaged-run", "digits", "-o", "new.lk"], f"damaged-run/{FROZEN}: damaged, or no frozen model"),
    (["compress", f"RUNS/pixels/{CONFIG}", "digits", "-o", "new.lk"], f"{CONFIG}: damaged, or no frozen model"),
    (["freeze", "nowhere", "digits"], "nowhere is not a run"),
    (["freeze", "folder", "digits"], "folder is not a run"),
    (["freeze", "RUNS/unfrozen", "shape.npy"], "expected shape (n, 1, 8, 8), found (297, 1, 4, 8)"),
    (["freeze", "RUNS/unfrozen", "digit"], "digits"),
    # which data
    (write("shape.npy"), "expected shape (n, 1, 8, 8), found (297, 1, 4, 8)"),
    (write("shape.npy", "--force", out="there.lk"), "expected shape (n, 1, 8, 8), found (297, 1, 4, 8)"),
    (write("flat.npy"), "(297, 64)"),
    (write("complex.npy"), "complex128"),
    (write("words.npy"), "an array of numbers is expected"),
    (write("number.npy"), "at least one dimension is expected"),
    (write("cut.npy"), "truncated or damaged"),
    (write("good.lk"), "unknown format"),
    (write("nowhere.npy"), "nowhere.npy: no such file"),
    (write("digit"), "digits"),
    (write("digits:tset"), "test"),
    (write("digits", run="half"), "--prepared"),
    (write("digits", run="coins"), "--prepared"),
    (write("beyond.npy", "--prepared", run="half"), "found 17 at index (0, 1, 4)"),
    # which context
    (
        write("RUNS/digits.npy", run="by-class"),
        "297 contexts of Event(shape=(), levels=10) are expected, none was given",
    ),
    (write("digits", "--context", "labels.npy", run="by-class"), "found 296 in labels.npy for 297 rows of digits"),
    (write("there.npy", "--context", "labels.npy", run="by-class"), "found 296"),
    (write("digits", "--context", "wrong-labels.npy", run="by-class"), "found 10 at index (10,)"),
    (write("digits", "--context", "digits:labels"), "without context"),
    (write("digits", "--side-information"), "without context"),
    (read("side.lk", model="by-class"), "written with side information: 297 contexts, none was given"),
    (read("side.lk", "--context", "labels.npy", model="by-class"), "297 contexts, found 296"),
    (read("side.lk", "--context", "wrong-labels.npy", model="by-class"), "found 10 at index (10,)"),
    (read("inside.lk", "--context", "labels.npy", model="by-class"), "but one was given"),
    (read("good.lk", "--context", "labels.npy"), "but one was given"),
    # which numbers
    (write("digits", "--chunk-items", "0"), "at least 1, found 0"),
    (write("digits", "--chunk-items", str(2**32)), "chunk_items"),
    (write("digits", "--batch-size", "0"), "1 to 4096 items in lock-step are expected of this model, found 0"),
    (write("digits", "--workers", "0"), "--workers. Must be >= 1"),
    (write("digits", "--threads", "0"), "--threads"),
    (write("digits", "--prepared", "--seed", str(2**64), run="coins"), "--seed"),
    (write("digits", "--workers", str(10**11)), "--workers"),
    (read("good.lk", "--items", "3"), "FIRST:STOP is expected, as 100:200, found 3"),
    (read("good.lk", "--items", "-1:3"), "FIRST:STOP is expected"),
    (read("good.lk", "--items", "9:3"), "items 9:3 are asked for; the file has 297"),
    (read("good.lk", "--items", "0:298"), "items 0:298 are asked for; the file has 297"),
    (read("good.lk", "--items", "²:3"), "FIRST:STOP is expected"),
    (read("good.lk", "--items", "0:" + "9" * 5000), "--items"),
    (read("good.lk", "--items", "0:3", "--recover"), "--items"),
    (
        read("good.lk", "--max-output", str(297 * 64 - 1)),
        "an array of 19008 bytes, shape (297, 8, 8); the limit is 19007",
    ),
    (read("good.lk", "--max-output", "9", "--force", out="there.npy"), "the limit is 9 bytes"),
    (read("good.lk", "--max-output", "9", "--recover"), "the limit is 9 bytes"),
    (["inspect", "good.lk", "--max-output", "9"], "the limit is 9 bytes"),
    # which output
    (write("digits", out="there.lk"), "there.lk exists; choose another file, or --force to replace it"),
    (read("good.lk", out="there.npy"), "there.npy exists; choose another file, or --force to replace it"),
    (read("good.lk", out="new.png"), "one item goes into a picture, found 297; give -o FOLDER or FILE.npz"),
    (read("good.lk", out="new.csv"), "items of shape (8, 8) are no rows of a table; give -o FILE.npy"),
    (read("good.lk", out="new.xyz"), "--out: new.xyz: the ending says the format; .npy, .npz, .csv, .tsv, "),
    (["compress", "RUNS/pixels", "digits"], "--out"),
    # which file
    (read("nowhere.lk"), "nowhere.lk cannot be read: No such file or directory"),
    (read("folder"), "folder cannot be read: Is a directory"),
    (["inspect", "nowhere.lk"], "nowhere.lk cannot be read"),
    *((read(f"{name}.lk"), "no .lk file: it begins with") for name in ("foreign", "text")),
    *((read(f"cut-{length}.lk"), "") for length in (10, 40)),
    (read("there.npy"), "no .lk file"),
    (read("empty.lk"), "the file ends 16 bytes too early"),
    (read("newer.lk"), "the file has format 2.0; this version of likely reads 1.x"),
    (["inspect", "newer.lk"], "the file has format 2.0; this version of likely reads 1.x"),
    (read("newer.lk", "--recover"), "the file has format 2.0; this version of likely reads 1.x"),
    (read("header.lk"), "do not have their checksum"),
    (read("header.lk", "--recover"), "do not have their checksum"),
    (read("payload.lk", "--force", out="there.npy"), "chunk 0 is damaged"),
    (["inspect", "payload.lk"], "chunk 0 is damaged"),
    (read("index.lk"), "the index is damaged"),
    (read("more.lk"), "something was appended"),
    (["decompress", "model.lk", "-o", "new.npy"], "damaged"),
    (["inspect", "model.lk", "--verify"], "damaged"),
]


def cases():
    for case in BAD:
        arguments, _says = case.values if hasattr(case, "values") else case
        yield " ".join(arguments)[:80]


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=cases())
def test_bad_use_is_one_line_and_writes_nothing(runs, workplace, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(workplace)
    for left in Path().glob("new.*"):
        left.unlink()  # by a case before that went wrong
    for name in RUNS:
        says = says.replace(f"ID:{name}", identity(runs / name)[:16])
    before = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in workplace.rglob("*")}
    code = likely(*(argument.replace("RUNS", str(runs)) for argument in arguments))
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1
    assert err.startswith("likely: ")
    assert says in err
    after = {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in workplace.rglob("*")}
    assert after == before
    assert not (runs / "unfrozen" / FROZEN).exists()


@pytest.mark.parametrize("length", range(0, 6000, 450))
@pytest.mark.parametrize("way", ["a file", "a pipe"])
def test_a_cut_file_is_refused_wherever_it_was_cut(runs, monkeypatch, capsys, length, way):
    file = compressed(runs, "--chunk-items", 100)
    Path("file.lk").write_bytes(file[: min(length, len(file) - 1)])
    piped(monkeypatch, Path("file.lk").read_bytes())
    capsys.readouterr()
    source = "file.lk" if way == "a file" else "-"
    assert likely("decompress", source, "--model", runs / "pixels", "-o", "new.npy") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not Path("new.npy").exists()


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"1,2,3\n", npy(np.zeros((3, 8, 8)))[:-1]], ids=len)
def test_what_is_no_array_on_standard_input_is_refused(runs, monkeypatch, capsysbinary, content):
    piped(monkeypatch, content)
    assert likely("compress", runs / "pixels", "-", "-o", "-") == 2
    out, err = capsysbinary.readouterr()
    assert (out, err.count(b"\n")) == (b"", 1)
    assert err.startswith(b"likely: standard input: truncated or damaged")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", npy(np.zeros((3, 8, 8)))], ids=len)
def test_what_is_no_lk_file_on_standard_input_is_refused(runs, monkeypatch, capsysbinary, content):
    piped(monkeypatch, content)
    assert likely("decompress", "-", "--model", runs / "pixels", "-o", "-") == 2
    out, err = capsysbinary.readouterr()
    assert (out, err.count(b"\n")) == (b"", 1)
    assert err.startswith(b"likely: ")


def test_recovery_from_a_pipe_is_refused_by_name(runs, monkeypatch, capsys):
    piped(monkeypatch, compressed(runs))
    assert likely("decompress", "-", "--model", runs / "pixels", "-o", "new.npy", "--recover") == 2
    assert "--recover" in capsys.readouterr().err


# Bad input: failures of the world.

OUTPUTS = {"compress": "out.lk", "decompress": "out.npy", "freeze": f"run/{FROZEN}"}


@pytest.fixture(params=OUTPUTS)
def job(request, runs):
    """A command and its arguments, whose output exists already and is to be replaced."""
    compressed(runs, "--chunk-items", 50)
    shutil.copytree(runs / "pixels", "run")
    Path(OUTPUTS[request.param]).write_bytes(b"before")
    arguments = {
        "compress": [runs / "pixels", "digits:test", "-o", "out.lk", "--chunk-items", 50],
        "decompress": ["file.lk", "--model", runs / "pixels", "-o", "out.npy"],
        "freeze": ["run", "digits"],
    }[request.param]
    return SimpleNamespace(command=[request.param, *arguments, "--force"], out=OUTPUTS[request.param])


def assert_untouched(job):
    assert Path(job.out).read_bytes() == b"before"
    assert not list(Path().rglob(".*"))


def assert_one_line(capsys, problem):
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"likely: {problem}\n")


def test_a_full_disk_leaves_the_old_file(job, monkeypatch, capsys):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    capsys.readouterr()
    assert likely(*job.command) == 1
    assert_one_line(capsys, f"cannot write {job.out}: No space left on device; what was there before is untouched")
    assert_untouched(job)


def test_a_disk_that_fills_in_the_middle_leaves_the_old_file(job, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    capsys.readouterr()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        code = likely(*job.command)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == 1
    assert_one_line(capsys, f"cannot write {job.out}: File too large; what was there before is untouched")
    assert_untouched(job)


def test_a_folder_that_may_not_be_written_to_is_named(job, monkeypatch, capsys):
    def refuse(**_):
        raise PermissionError(13, "Permission denied", "/somewhere")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    capsys.readouterr()
    assert likely(*job.command) == 1
    assert_one_line(capsys, f"cannot write {job.out}: Permission denied; what was there before is untouched")
    assert_untouched(job)


@pytest.mark.parametrize("out", ["file.lk/new.npy", "folder.npy"])
def test_what_can_be_no_output_file_is_named(runs, capsys, out):
    compressed(runs)
    Path("folder.npy").mkdir()
    capsys.readouterr()
    assert likely("decompress", "file.lk", "--model", runs / "pixels", "-o", out, "--force") == 1
    out_, err = capsys.readouterr()
    assert (out_, err.count("\n")) == ("", 1)
    assert err.startswith(f"likely: cannot write {out}: ")
    assert sorted(os.listdir()) == ["file.lk", "folder.npy"]


def interrupt(monkeypatch, before):
    """Ctrl-C when so many chunks are done."""
    left = [True] * before

    def stopping(task):
        def run(coder, part):
            left.pop() if left else signal.raise_signal(signal.SIGINT)
            return task(coder, part)

        return run

    for name in ("encode", "decode"):
        monkeypatch.setattr(ChunkCoder, name, stopping(getattr(ChunkCoder, name)))


@pytest.mark.parametrize("job", ["compress", "decompress"], indirect=True)
def test_ctrl_c_between_two_chunks_leaves_the_old_file(ctrl_c, job, monkeypatch, capsys):
    interrupt(monkeypatch, 2)
    capsys.readouterr()
    assert likely(*job.command) == 130
    assert capsys.readouterr().out == ""
    assert_untouched(job)


@pytest.mark.parametrize("job", ["compress", "decompress"], indirect=True)
def test_ctrl_c_is_one_line(ctrl_c, job, monkeypatch, capsys):
    interrupt(monkeypatch, 2)
    capsys.readouterr()
    assert likely(*job.command) == 130
    assert_one_line(capsys, "stopped")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_process_leaves_no_file(ctrl_c, runs, number, code):
    """Ctrl-C or a scheduler's end, to a process that is writing."""
    np.save("long.npy", np.zeros((100_000, 8, 8), np.uint8))
    command = [*COMMAND, "compress", runs / "pixels", "long.npy", "-o", "out.lk", "--chunk-items", "100"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not list(Path().glob(".out.lk.*")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate()
    assert process.returncode == code
    assert b"Traceback" not in out + err
    assert os.listdir() == ["long.npy"]


def streamed(runs, command):
    """A command that writes data to standard output."""
    compressed(runs)
    if command == "compress":
        return [*COMMAND, "compress", runs / "pixels", "digits:test", "-o", "-"]
    return [*COMMAND, "decompress", "file.lk", "--model", runs / "pixels", "-o", "-"]


@pytest.mark.parametrize("command", ["compress", "decompress"])
def test_a_closed_pipe_ends_a_command_without_a_word(runs, command):
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(streamed(runs, command), stdout=pipe, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_full_disk_behind_standard_output_is_one_line(runs, monkeypatch, capsys):
    with open("/dev/full", "wb", buffering=0) as full:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=full))
        assert likely("compress", runs / "pixels", "digits:test", "-o", "-") == 1
    assert capsys.readouterr().err == "likely: cannot go on: No space left on device\n"


def test_the_context_of_the_fit_is_taken_where_none_is_named(runs):
    named = compressed(runs, "--context", "digits:labels", run="by-class")
    assert compressed(runs, "--force", run="by-class") == named


def test_what_is_no_regular_file_is_not_replaced(runs, capsys):
    os.mkfifo("pipe.lk")
    assert likely("compress", runs / "pixels", "digits", "-o", "pipe.lk", "--force") == 1
    assert_one_line(capsys, "cannot write pipe.lk: it is no regular file; what was there before is untouched")
    Path("link.lk").symlink_to("target.lk")
    Path("target.lk").write_bytes(b"before")
    assert likely("compress", runs / "pixels", "digits", "-o", "link.lk", "--force") == 0
    assert Path("link.lk").is_symlink()
    assert Path("target.lk").read_bytes().startswith(MAGIC)

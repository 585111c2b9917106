"""Files written here, decoded and written again on ARM64: another processor, another torch, emulated by qemu.

    python benchmarks/arm64.py [--folder FOLDER]

Needs Debian (apt, dpkg), its package qemu-user-static, and the network: an ARM64 Python comes from Debian's packages,
an ARM64 torch from PyPI (2.9.1, the last there without CUDA), 150 MB into FOLDER (default /tmp/likely-arm64), once.
Nothing is installed into this system. What runs there is the job of tests/coding/test_matrix.py.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "coding"
sys.path.append(str(TESTS))

DEBIAN = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1"),
    *("libstdc++6", "libgomp1", "zlib1g", "libexpat1", "libssl3", "libffi8", "liblzma5", "libbz2-1.0"),
    *("libuuid1", "libcrypt1", "libsqlite3-0"),
)
PYPI = (
    *("torch==2.9.1", "numpy>=2,<2.5", "safetensors", "jaxtyping", "wadler_lindig", "filelock"),
    *("typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "pillow"),
)
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64", "any")


def debian(folder: Path) -> None:
    """An ARM64 Python in folder/root, by an apt that keeps its own state there."""
    apt, packages = folder / "apt", folder / "packages"
    for path in (apt / "lists" / "partial", apt / "cache" / "archives" / "partial", packages):
        path.mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()
    (apt / "conf").write_text(
        f'APT::Architecture "arm64"; APT::Architectures {{ "arm64"; }}; APT::Sandbox::User "root";\n'
        f'Dir::State::Lists "{apt}/lists"; Dir::State::status "{apt}/status"; Dir::Cache "{apt}/cache";\n'
    )
    environment = os.environ | {"APT_CONFIG": str(apt / "conf")}
    subprocess.run(["apt-get", "-qq", "update"], env=environment, check=True)
    subprocess.run(["apt-get", "-qq", "download", *DEBIAN], env=environment, cwd=packages, check=True)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "root"], check=True)


def pypi(folder: Path) -> None:
    """An ARM64 torch, and what it and likely import, in folder/site."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", "3.11", "--dest", str(folder / "wheels")]
    for name in PLATFORMS:
        command += ["--platform", name]
    subprocess.run([*command, *PYPI], check=True)
    for wheel in (folder / "wheels").glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(folder / "site")


def job(python: list[str], files: Path, path: str) -> dict:
    """What the matrix's job says there."""
    report = files / f"{platform.machine()}.json"
    start = time.monotonic()
    command = [*python, str(TESTS / "matrix_job.py"), str(files), str(report)]
    subprocess.run(
        command, env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.DEVNULL
    )
    return json.loads(report.read_text()) | {"seconds": time.monotonic() - start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/likely-arm64"), help="where ARM64 programs are kept")
    folder = parser.parse_args().folder.resolve()
    if shutil.which("qemu-aarch64-static") is None:
        parser.error("qemu-aarch64-static is missing; on Debian: apt-get install qemu-user-static")
    if not (folder / "root" / "usr" / "bin" / "python3.11").exists():
        debian(folder)
    if not (folder / "site" / "torch").exists():
        pypi(folder)

    import matrix_files

    files = folder / "files"
    shutil.rmtree(files, ignore_errors=True)
    files.mkdir()
    matrix_files.write(files)
    emulated = ["qemu-aarch64-static", "-L", str(folder / "root"), str(folder / "root" / "usr" / "bin" / "python3.11")]
    source = str(ROOT / "src")
    here, there = job([sys.executable], files, source), job(emulated, files, f"{source}:{folder / 'site'}")
    for name, report in (("here", here), ("there", there)):
        print(f"{name}: {report['machine']}, {report['seconds']:.0f} s")
    differing = [name for name in here["files"] if here["files"][name] != there["files"][name]]
    print(f"{len(here['files'])} files: {len(differing)} differ{': ' if differing else ''}{', '.join(differing)}")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()

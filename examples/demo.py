"""The main job from nothing: a synthetic scan (or your own), one click, its mask and a picture.

python examples/demo.py
python examples/demo.py --scan scan.nii.gz --click 120,88,45
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

PALPATE = [sys.executable, "-m", "palpate.cli"]


def synthetic(folder: Path) -> list[str]:
    """Write a synthetic scan into `folder`; what to tell `palpate segment` about it."""
    # A nodule in a lung: what palpate-tiny knows best among the lesions that a phantom can have.
    command = [*PALPATE, "phantom", str(folder), "--site", "lung", "--diameter", "28", "--json"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    made = json.loads(said.stdout)
    click = ",".join(map(str, made["click"]))
    print(f"synthetic scan: {made['scan']}, clicked at voxel {click}")
    return [made["scan"], "--click", click, "--truth", made["lesion"]]


def main() -> int:
    """Run the demo; returns the exit code of `palpate segment`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where results go")
    parser.add_argument("--scan", help="your own scan; without it a synthetic one is made")
    parser.add_argument("--click", help="voxel index X,Y,Z in your scan")
    given = parser.parse_args()
    if bool(given.scan) != bool(given.click):
        parser.error("your own scan needs a click and a click needs a scan: SCAN=scan.nii.gz CLICK=120,88,45")
    given.folder.mkdir(parents=True, exist_ok=True)
    what = [given.scan, "--click", given.click] if given.scan else synthetic(given.folder)
    mask, picture = given.folder / "lesion.nii.gz", given.folder / "lesion.png"
    code = subprocess.run(
        [*PALPATE, "segment", *what, "-o", str(mask), "--picture", str(picture)], check=False
    ).returncode
    if code == 0:
        print(f"picture: {picture}")
        if shutil.which("palpate") is None:
            print(f"next, so that this terminal knows palpate: . {Path(sys.executable).parent / 'activate'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
